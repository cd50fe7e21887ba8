"""Tabular benchmarks: published measurements of every architecture of a space, looked up in place of training."""

from nasbench.tables.registry import TABLES, load_table
from nasbench.tables.table import Column, Table

__all__ = ["TABLES", "Column", "Table", "load_table"]
