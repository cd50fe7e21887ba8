"""What a run shows: report.json for programs, report.html for people, a table for the terminal."""

from nasbench.report.build import build_report, write_report
from nasbench.report.table import survivors_table

__all__ = ["build_report", "survivors_table", "write_report"]
