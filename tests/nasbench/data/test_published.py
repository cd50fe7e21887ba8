"""Image sets that are published in files of bytes: CIFAR-10, CIFAR-100 and MNIST, read as their authors wrote them."""

import gzip
import io
import tarfile

import numpy as np
import pytest
import torch

from nasbench.data import load_data, why_missing
from nasbench.data.folders import CIFAR10_FILES, IDX_FILES
from nasbench.tables.sources import SOURCES
from nasbench_registry import UserError


def records(count, classes, labels, seed):
    """Records of CIFAR's binary version, the classes in turn; the first byte of red is the class."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (count, labels + 3072), dtype=np.uint8)
    rows[:, labels - 1] = np.arange(count) % classes
    rows[:, labels] = rows[:, labels - 1]
    return rows.tobytes()


def cifar10_files():
    return {f"cifar-10-batches-bin/{name}": records(100, 10, 1, index) for index, name in enumerate(CIFAR10_FILES)}


def cifar100_files():
    names = "\n".join(f"kind_{number:02}" for number in range(100)) + "\n"
    folder = "cifar-100-binary"
    return {
        f"{folder}/train.bin": records(2000, 100, 2, 0),
        f"{folder}/test.bin": records(200, 100, 2, 1),
        f"{folder}/fine_label_names.txt": names.encode(),
    }


def mnist_files():
    files = {}
    for name, count in zip(IDX_FILES, (400, 400, 50, 50), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        values = np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)
        values = values if "images" in name else (np.arange(count) % 10).astype(np.uint8)
        head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        files[f"mnist/{name}"] = gzip.compress(head + values.tobytes())
    return files


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(files):
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("name", "files", "shape", "parts"),
    [
        ("cifar10", cifar10_files, (3, 32, 32), (450, 50, 100)),
        ("cifar100", cifar100_files, (3, 32, 32), (1800, 200, 200)),
        ("mnist", mnist_files, (1, 28, 28), (360, 40, 50)),
    ],
)
def test_files_as_their_authors_wrote_them(name, files, shape, parts, data_folder):
    assert f"nasbench data fetch {name}" in why_missing(name)
    data_folder(files())
    assert why_missing(name) is None
    data = load_data(name)
    assert (len(data.train), len(data.val), len(data.test)) == parts
    assert data.task.input_shape == shape and data.train.inputs[0].dtype == torch.uint8
    if name != "mnist":
        for part in (data.train, data.val, data.test):  # red is first, and the fine label counts
            assert torch.equal(part.inputs[0][:, 0, 0, 0].long(), part.targets)
    assert data.labels[:2] == {"cifar10": ("airplane", "automobile"), "cifar100": ("kind_00", "kind_01")}.get(
        name, ("0", "1")
    )


def test_fewer_and_larger_images(data_folder):
    data_folder(cifar10_files())
    data = load_data("cifar10", train_images=50, size=48)
    assert len(data.train) == 50 and data.task.input_shape == (3, 48, 48)
    assert torch.bincount(data.train.targets).tolist() == [5] * 10
    with pytest.raises(UserError, match="train_images=5 of data set 'cifar10' must be from 10 to 450"):
        load_data("cifar10", train_images=5)
    with pytest.raises(UserError, match="size=0 of data set 'cifar10'"):
        load_data("cifar10", size=0)


def test_files_that_are_cut(data_folder):
    folder = data_folder(cifar10_files())
    file = folder / "cifar-10-batches-bin/test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="test_batch.bin has 307,299 bytes, and not records of 3073"):
        load_data("cifar10")
    assert "not records of 3073" in " ".join(SOURCES["cifar10"].check(file))
    folder = data_folder(cifar100_files())
    (folder / "cifar-100-binary/fine_label_names.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match="2 names of classes in place of 100"):
        load_data("cifar100")


def test_an_archive_becomes_the_files_of_the_data_folder():
    files = cifar10_files()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    assert SOURCES["cifar10"].convert({"cifar-10-binary.tar.gz": archive.getvalue()}) == files
