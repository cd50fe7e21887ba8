"""Data that change on disk are read again; data that do not are read once."""

import os
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from nasbench.data import load_data
from nasbench.data.registry import SETTLED_S

LABELS = np.arange(60) % 2


def write_arrays(place, seed):
    rng = np.random.default_rng(seed)
    save_file({"images": rng.random((60, 1, 4, 4), dtype=np.float32), "labels": LABELS}, place / "d.safetensors")
    return {"name": "arrays", "path": str(place / "d.safetensors")}


def write_folder(place, seed):
    rng = np.random.default_rng(seed)
    for label in ("a", "b"):
        (place / label).mkdir(exist_ok=True)
        for number in range(10):
            pixels = rng.integers(0, 255, (4, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(place / label / f"{number}.bmp")  # of the same size whatever the pixels
    return {"name": "image_folder", "path": str(place), "channels": 1, "size": [4, 4]}


@pytest.mark.parametrize("write", [write_arrays, write_folder])
def test_changed_images_are_read_again(write, tmp_path):
    first = load_data(**write(tmp_path, 0))
    second = load_data(**write(tmp_path, 1))  # at once, and of the same size
    assert not torch.equal(first.train.examples, second.train.examples)
    assert first.digest != second.digest
    back = load_data(**write(tmp_path, 0))
    assert torch.equal(first.train.examples, back.train.examples)
    assert first.digest == back.digest


@pytest.mark.parametrize("write", [write_arrays, write_folder])
def test_unchanged_images_are_read_once(write, tmp_path):
    options = write(tmp_path, 0)
    time.sleep(SETTLED_S + 0.1)
    first = load_data(**options)
    assert load_data(**options) is first
    changed = tmp_path / ("d.safetensors" if write is write_arrays else "a/3.bmp")
    raw = bytearray(changed.read_bytes())
    raw[-1] ^= 255
    times = changed.stat()
    changed.write_bytes(raw)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a tool does that keeps the times of files
    assert load_data(**options).digest != first.digest


def test_an_image_more_or_less(tmp_path):
    options = write_folder(tmp_path, 0)
    first = load_data(**options)
    (tmp_path / "a" / "0.bmp").rename(tmp_path / "b" / "new.bmp")
    moved = load_data(**options)
    assert (moved.digest != first.digest, len(moved.train) + len(moved.val) + len(moved.test)) == (True, 20)


def test_the_same_relative_path_in_another_folder(tmp_path, monkeypatch):
    digests = []
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_arrays(tmp_path / name, seed)
        digests.append(load_data("arrays", path="d.safetensors").digest)
    assert digests[0] != digests[1]


def test_the_digest_knows_labels_and_names(tmp_path):
    data = load_data(**write_folder(tmp_path, 0))
    (tmp_path / "b").rename(tmp_path / "c")
    assert load_data(**write_folder(tmp_path, 0) | {"path": str(tmp_path)}).digest != data.digest


def test_normalised_as_an_earlier_network_knows_it(tmp_path):
    data = load_data(**write_arrays(tmp_path, 0))
    renormalised = data.normalised_by([0.2], [0.7])
    assert (renormalised.mean, renormalised.std) == ((0.2,), (0.7,))
    raw = data.train.examples * data.std[0] + data.mean[0]
    torch.testing.assert_close(renormalised.train.examples, (raw - 0.2) / 0.7)
    assert data.normalised_by(data.mean, data.std) is data
