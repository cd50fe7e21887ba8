"""Where data are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from nasbench_registry import UserError
from nasbench_registry.files import user_path

FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package
IDX_FILES = tuple(
    f"{file}-ubyte.gz" for file in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)
"""Files of MNIST and of data sets in its form: training images and labels, test images and labels."""
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR100_FILES = ("train.bin", "test.bin", "fine_label_names.txt")


def data_folders() -> list[Path]:
    """The folder that NASBENCH_DATA names, if it does, and the cache folder of the user."""
    named = os.environ.get("NASBENCH_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nasbench"
    return [user_path(named), cache] if named else [cache]


def fashion_files() -> list[Path]:
    """The four files of Fashion-MNIST; UserError if they are nowhere."""
    advice = "install Debian's package dataset-fashion-mnist, or put its four .gz files into one of these folders"
    return _files("fashion_mnist", "fashion-mnist", IDX_FILES, advice, FASHION)


def mnist_files() -> list[Path]:
    """The four files of MNIST; UserError if they are nowhere."""
    return _files("mnist", "mnist", IDX_FILES, "run: nasbench data fetch mnist")


def cifar10_files() -> list[Path]:
    """Five files of training images and one of test images; UserError if they are nowhere."""
    return _files("cifar10", "cifar-10-batches-bin", CIFAR10_FILES, "run: nasbench data fetch cifar10")


def cifar100_files() -> list[Path]:
    """Training images, test images, and the names of the classes; UserError if they are nowhere."""
    return _files("cifar100", "cifar-100-binary", CIFAR100_FILES, "run: nasbench data fetch cifar100")


def class_names(file: Path, count: int) -> tuple[str, ...]:
    """The lines of a file; UserError if there are not so many."""
    names = tuple(file.read_text(encoding="utf-8").split())
    if len(names) != count:
        raise UserError(f"{file} has {len(names)} names of classes in place of {count}; fetch it again.")
    return names


def _files(name: str, folder: str, files: tuple[str, ...], advice: str, *first: Path) -> list[Path]:
    """The files of a data set in the first folder that has all of them."""
    places = [*first, *(place / folder for place in data_folders())]
    for place in places:
        if all((place / file).exists() for file in files):
            return [place / file for file in files]
    raise UserError(f"data set {name!r} was not found in {', '.join(map(str, places))}; {advice}.")
