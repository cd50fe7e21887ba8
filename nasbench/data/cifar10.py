"""CIFAR-10: 60,000 colour images of 32x32 pixels in ten classes (Krizhevsky 2009)."""

from __future__ import annotations

import numpy as np

from nasbench.data.dataset import Data
from nasbench.data.folders import cifar10_files
from nasbench.data.published import published_data, read_records

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(*, train_images: int | None = None, val_images: int | None = None, size: int | None = None) -> Data:
    """The 10,000 test images; 5,000 of the 50,000 training images validate.

    Args:
        train_images: Use only this many training images, each class alike, for quick experiments.
        val_images: Use only this many validation images, each class alike.
        size: Height and width that images are resized to; None leaves 32.

    Raises:
        UserError: The files are not there or damaged, or an option is out of range.
    """
    parts = [read_records(file, labels=1) for file in cifar10_files()]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    options = {"train_images": train_images, "val_images": val_images, "size": size}
    return published_data("cifar10", (images, labels), parts[-1], CLASSES, **options)
