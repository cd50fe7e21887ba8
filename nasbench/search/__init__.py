"""The search loop: study, record, executors, limits."""
