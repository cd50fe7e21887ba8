"""Fashion-MNIST: 70,000 images of 28x28 pixels in ten classes of clothing (Xiao et al. 2017, arXiv 1708.07747)."""

from __future__ import annotations

from nasbench.data.dataset import Data
from nasbench.data.folders import fashion_files
from nasbench.data.published import idx_data

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion_mnist(*, train_images: int | None = None, val_images: int | None = None) -> Data:
    """The 10,000 test images of the paper; 5,000 of its training images validate.

    Args:
        train_images: Use only this many training images, each class alike, for quick experiments.
        val_images: Use only this many validation images, each class alike.

    Raises:
        UserError: The files are not there, or an option is out of range.
    """
    return idx_data("fashion_mnist", fashion_files(), CLASSES, train_images=train_images, val_images=val_images)
