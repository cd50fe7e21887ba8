"""The search loop: study, record, executors."""
