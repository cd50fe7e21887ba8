"""Mini-batches of real images: what a file has to hold."""

import pytest
import torch
from safetensors.torch import save_file

from nasbench.tables.minibatches import SHAPES, load_minibatch
from nasbench_registry import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "minibatches").mkdir()
    return tmp_path / "minibatches"


@pytest.mark.parametrize("dataset", SHAPES)
def test_those_of_the_benchmark_are_normalized_and_have_labels_of_the_data_set(data_file, dataset):
    data_file("minibatches/imagenet.safetensors")
    images, labels = load_minibatch(dataset)
    shape, classes = SHAPES[dataset]
    assert images.shape == (64, *shape) and images.dtype == torch.float32
    assert abs(float(images.mean())) < 0.5 and 0.7 < float(images.std()) < 1.5
    assert labels.shape == (64,) and int(labels.min()) >= 0 and int(labels.max()) < classes


def test_labels_of_another_data_set_are_numbered_anew_and_bytes_are_normalized(folder):
    images = torch.full((3, 3, 16, 16), 123, dtype=torch.uint8)
    save_file({"images_0": images, "labels_0": torch.tensor([900, 7, 900])}, folder / "imagenet.safetensors")
    loaded, labels = load_minibatch("imagenet16_120")
    assert labels.tolist() == [1, 0, 1]
    assert float(loaded[0, 0, 0, 0]) == pytest.approx((123 - 122.68) / 63.22)


def test_a_file_that_holds_something_else_costs_one_sentence(folder):
    with pytest.raises(UserError, match="there is no mini-batch of cifar10"):
        load_minibatch("cifar10")
    file = folder / "cifar10.safetensors"
    file.write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_minibatch("cifar10")
    for tensors, found in (
        ({"images": torch.zeros(2, 3, 32, 32)}, r"images \(2, 3, 32, 32\)"),
        ({"images_0": torch.zeros(2, 3, 16, 16), "labels_0": torch.zeros(2)}, r"images_0 \(2, 3, 16, 16\)"),
        ({"images_0": torch.zeros(2, 3, 32, 32), "labels_0": torch.zeros(3)}, r"labels_0 \(3,\)"),
    ):
        save_file(tensors, file)
        with pytest.raises(UserError, match=rf"holds .*{found}.*; write images_0 of \(n, 3, 32, 32\)"):
            load_minibatch("cifar10")
    with pytest.raises(UserError, match="Did you mean 'cifar10'"):
        load_minibatch("cifar1")
