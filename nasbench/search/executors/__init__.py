"""Where candidates are evaluated: one after another in this process, or several at a time under Ray."""
