"""The peaks of memory that are told."""

import json
import sys

import pytest


@pytest.mark.only_where(sys.platform.startswith("linux"))
def test_images_stay_in_the_file(benchmark, tmp_path):
    """300 MB of images, of which less than half is ever in memory."""
    code, out, _ = benchmark("memory", "100000x32", "--batches", "3", "--folder", str(tmp_path), "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["bytes"] == 100_000 * 3 * 32**2 and row["steps"] == 3
    assert row["libraries_bytes"] < row["loading_bytes"] <= row["training_bytes"]
    assert row["training_bytes"] - row["libraries_bytes"] < row["bytes"] / 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.only_where(sys.platform.startswith("linux"))
@pytest.mark.parametrize(("text", "message"), [("20000", "no set of images"), ("9999999999x64", "takes")])
def test_what_cannot_be_measured_is_refused(benchmark, text, message):
    code, _, err = benchmark("memory", text)
    assert code == 2 and message in err
