"""Where data are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from nasbench_registry import UserError
from nasbench_registry.files import user_path

FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package
FASHION_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def data_folders() -> list[Path]:
    """The folder that NASBENCH_DATA names, if it does, and the cache folder of the user."""
    named = os.environ.get("NASBENCH_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nasbench"
    return [user_path(named), cache] if named else [cache]


def fashion_files() -> list[Path]:
    """The four files; UserError if they are nowhere."""
    return [fashion_folder() / f"{file}-ubyte.gz" for file in FASHION_FILES]


def fashion_folder() -> Path:
    """Where the four files are; UserError if they are nowhere."""
    places = [FASHION, *(folder / "fashion-mnist" for folder in data_folders())]
    for place in places:
        if all((place / f"{file}-ubyte.gz").exists() for file in FASHION_FILES):
            return place
    raise UserError(
        f"data set 'fashion_mnist' was not found in {', '.join(map(str, places))}; install Debian's package "
        f"dataset-fashion-mnist, or put its four .gz files into one of these folders."
    )
