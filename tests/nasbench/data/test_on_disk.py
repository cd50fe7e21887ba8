"""Large inputs stay on disk; what is read of them is what would be in memory."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tests_support import flat_network

import nasbench as nb
from nasbench.data import registry
from nasbench.data.on_disk import FileArray, OnDisk
from nasbench.data.split import measured_scale
from nasbench.training.config import TrainingConfig
from nasbench.training.loop import train
from nasbench_registry import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (400, 1, 8, 8)).astype(np.uint8)
LABELS = np.arange(400) % 10


@pytest.fixture
def all_on_disk(monkeypatch):
    """However small they are."""
    for module in ("arrays", "given"):
        monkeypatch.setattr(f"nasbench.data.{module}.ON_DISK_BYTES", 0)
    registry._cache.clear()


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    return tmp_path / "images.npy"


@pytest.fixture
def stored(file):
    return FileArray.of(np.load(file, mmap_mode="r"))


def test_rows_are_those_of_the_file(stored):
    for rows in (slice(3, 9), slice(None), slice(0, 400, 7), slice(390, 1000), slice(5, 5)):
        assert np.array_equal(stored[rows], IMAGES[rows])
    rows = torch.from_numpy(RNG.permutation(400)[:90])
    assert np.array_equal(stored[rows], IMAGES[rows.numpy()])
    assert stored.shape == IMAGES.shape and stored.ndim == 4 and stored.dtype is torch.uint8


def test_a_subset_of_a_subset_that_went_to_another_process(stored):
    order = RNG.permutation(400)
    some = pickle.loads(pickle.dumps(stored.subset(order).subset(np.array([5, 300, 0]))))
    assert np.array_equal(some[torch.tensor([2, 1])], IMAGES[order[[0, 300]]])
    assert np.array_equal(some.representative()[:], IMAGES[np.sort(order[[5, 300, 0]])])
    assert measured_scale(stored.subset(order[:99]), 255.0) == measured_scale(
        torch.from_numpy(IMAGES[np.sort(order[:99])]), 255.0
    )


def test_a_part_of_a_mapped_array_is_no_file(file):
    assert FileArray.of(np.load(file, mmap_mode="r")[3:]) is None


def test_a_file_that_was_cut_off_is_named(file, stored):
    with file.open("rb+") as opened:
        opened.truncate(file.stat().st_size - 10)
    assert len(stored[:399]) == 399
    with pytest.raises(UserError, match=r"images\.npy ends before its row 399 of 400 does"):
        stored[torch.tensor([399])]


@pytest.mark.parametrize("form", ["arrays", "mapped"])
def test_networks_learn_the_same(form, file, tmp_path, all_on_disk, request):
    """From one file of safetensors, or from an array that NumPy maps: in memory and on disk, to the bit."""
    save_file({"images": IMAGES, "labels": LABELS}, tmp_path / "images.safetensors")

    def problem():
        if form == "arrays":
            return nb.image_classification("arrays", path=str(tmp_path / "images.safetensors"))
        return nb.image_classification((np.load(file, mmap_mode="r"), LABELS))

    on_disk = problem()
    assert all(isinstance(getattr(on_disk.data, part).inputs[0], OnDisk) for part in ("train", "val", "test"))
    request.getfixturevalue("monkeypatch").undo()
    registry._cache.clear()
    in_memory = problem()
    assert isinstance(in_memory.data.train.inputs[0], torch.Tensor)
    assert in_memory.digest == on_disk.digest
    networks = []
    for loaded in (on_disk, in_memory):
        torch.manual_seed(0)
        networks.append(flat_network())
        train(networks[-1], loaded.data.train, TrainingConfig(epochs=1), seed=0)
        assert loaded.score(networks[-1], "val") == pytest.approx(in_memory.score(networks[0], "val"))
    assert torch.equal(networks[0][1].weight, networks[1][1].weight)
