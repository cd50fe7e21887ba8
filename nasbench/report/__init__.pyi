from nasbench.report.build import build_report as build_report, write_report as write_report
from nasbench.report.table import survivors_table as survivors_table
