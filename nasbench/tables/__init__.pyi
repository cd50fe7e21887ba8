from nasbench.tables.registry import TABLES as TABLES, load_table as load_table
from nasbench.tables.table import Column as Column, Table as Table
