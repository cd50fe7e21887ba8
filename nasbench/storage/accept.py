"""How a command tells the processes that it starts that changed code is accepted."""

ACCEPT = "NASBENCH_ACCEPT_CHANGED_CODE"
"""An environment variable, 1 while it is accepted."""
