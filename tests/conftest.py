"""What all tests share."""

import os
import sys
from pathlib import Path

import pytest
import torch

from nasbench.cli.app import main

torch.set_num_threads(1)


def pytest_collection_modifyitems(config, items):
    """Leave out what this machine has no hardware or rights for; a test that CI skips means that data are missing."""
    left_out = [item for item in items if not all(mark.args[0] for mark in item.iter_markers("only_where"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def data_file():
    """A file below the folder that NASBENCH_DATA names when the test begins; skips where it names none."""
    folder = os.environ.get("NASBENCH_DATA")

    def find(relative: str) -> Path:
        if not folder:
            pytest.skip(f"NASBENCH_DATA is not set, and this test reads {relative} from the folder that it names")
        path = Path(folder) / relative
        assert path.exists(), f"NASBENCH_DATA is {folder}, which has no {relative}"
        return path

    return find


@pytest.fixture
def nasbench(monkeypatch, capfd, tmp_path):
    """Call the command line in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["nasbench", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call
