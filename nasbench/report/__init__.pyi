from nasbench.report.build import build_report as build_report, write_report as write_report
from nasbench.report.table import result_table as result_table
