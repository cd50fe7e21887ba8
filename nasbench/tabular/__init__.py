"""Tabular benchmarks: published measurements of every architecture of a space, looked up in place of training."""

from nasbench.tabular.registry import TABLES, load_table
from nasbench.tabular.table import Column, Table

__all__ = ["TABLES", "Column", "Table", "load_table"]
