"""scikit-learn's digits: 1,797 real images of 8x8 pixels, no download (Alpaydin & Kaynak 1998, UCI)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench.data.dataset import Data, make_data, stratified_parts

WHITE = 16  # the largest pixel
SPLIT_SEED = 0  # fixed, so that every experiment has the same test images


def digits() -> Data:
    """64 % training, 16 % validation, 20 % test, each class divided alike."""
    table = _table()
    images, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)
    train, val, test = ((images[part], labels[part]) for part in stratified_parts(labels, (0.64, 0.16), SPLIT_SEED))
    return make_data("digits", train, val, test, tuple(str(digit) for digit in range(10)), white=WHITE)


def _table() -> npt.NDArray[np.uint8]:
    """(1797, 65): pixels, and the label in the last column.

    They are read from the file of scikit-learn, whose import takes two seconds in every process, if it is where it was.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "scikit-learn is required"
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target]).astype(np.uint8)
