"""MNIST: 70,000 grey images of handwritten digits, 28x28 pixels (LeCun et al. 1998)."""

from __future__ import annotations

from nasbench.data.dataset import Data
from nasbench.data.folders import mnist_files
from nasbench.data.published import idx_data


def mnist(*, train_images: int | None = None, val_images: int | None = None) -> Data:
    """The 10,000 test images; 5,000 of the 60,000 training images validate.

    Args:
        train_images: Use only this many training images, each class alike, for quick experiments.
        val_images: Use only this many validation images, each class alike.

    Raises:
        UserError: The files are not there or damaged, or an option is out of range.
    """
    return idx_data(
        "mnist",
        mnist_files(),
        tuple(str(digit) for digit in range(10)),
        train_images=train_images,
        val_images=val_images,
    )
