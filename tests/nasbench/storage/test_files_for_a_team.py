"""Whoever may read a folder may read the files in it: the mode is what the umask allows, whichever library writes."""

import os
import stat

import pytest
import torch
from torch import nn

from nasbench.storage.checkpoints import save_weights
from nasbench.storage.files import write_bytes, write_json, written_aside
from nasbench.storage.tensor_files import TensorFiles

WRITERS = {
    "bytes": lambda path: write_bytes(path, b"x"),
    "json": lambda path: write_json(path, {"a": 1}),
    "weights": lambda path: save_weights(nn.Linear(2, 2), path),
    "tensors": lambda path: TensorFiles(path.parent).save(path.name, {"a": torch.zeros(2)}),
}


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o027, 0o077])
@pytest.mark.parametrize("writer", WRITERS)
def test_the_umask_decides(writer, mask, tmp_path):
    before = os.umask(mask)
    try:
        for _ in range(2):  # new, and in the place of an older one
            WRITERS[writer](tmp_path / "deep" / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o666 & ~mask
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(ZeroDivisionError), written_aside(tmp_path / "file") as aside:
        aside.write_bytes(b"half")
        raise ZeroDivisionError
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with written_aside(tmp_path / "file") as one, written_aside(tmp_path / "file") as other:
        assert one != other
