"""Jobs of a table in other processes."""

import os

import pytest

from nasbench.reproduce.parallel import run_all
from nasbench_registry import WorkFailed


def doubled_or_gone(job):
    if job == 3:
        os._exit(9)
    return 2 * job


def test_in_this_process_they_come_in_order():
    assert list(run_all(doubled_or_gone, [1, 2], 1)) == [2, 4]


def test_a_process_that_ends_is_one_sentence():
    with pytest.raises(WorkFailed, match="one of 2 worker processes ended before its work was done"):
        list(run_all(doubled_or_gone, [3, 3], 2))
