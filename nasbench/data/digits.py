"""scikit-learn's digits: 1,797 real images of 8x8 pixels, no download (Alpaydin & Kaynak 1998, UCI)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from nasbench.data.dataset import Data, make_data, stratified_parts

WHITE = 16  # the largest pixel
SPLIT_SEED = 0  # fixed, so that every experiment has the same test images


def digits() -> Data:
    """64 % training, 16 % validation, 20 % test, each class divided alike."""
    raw = load_digits()
    images = raw.images[:, None].astype(np.uint8)
    labels = raw.target.astype(np.int64)
    train, val, test = ((images[part], labels[part]) for part in stratified_parts(labels, (0.64, 0.16), SPLIT_SEED))
    return make_data("digits", train, val, test, tuple(str(digit) for digit in range(10)), white=WHITE)
