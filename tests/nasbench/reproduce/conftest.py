"""The table that searches of papers are looked up in."""

import pytest

from nasbench.tables import load_table


@pytest.fixture
def table(data_file):
    """NAS-Bench-201, from the data folder."""
    data_file("nasbench201/nasbench201.csv.gz")
    return load_table("nasbench201")
