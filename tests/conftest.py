"""What all tests share."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def data_file():
    """A file below the folder that NASBENCH_DATA names; skips where it names none."""

    def find(relative: str) -> Path:
        folder = os.environ.get("NASBENCH_DATA")
        if not folder:
            pytest.skip(f"NASBENCH_DATA is not set, and this test reads {relative} from the folder that it names")
        path = Path(folder) / relative
        assert path.exists(), f"NASBENCH_DATA is {folder}, which has no {relative}"
        return path

    return find
