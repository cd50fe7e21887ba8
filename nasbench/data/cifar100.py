"""CIFAR-100: 60,000 colour images of 32x32 pixels in a hundred classes (Krizhevsky 2009)."""

from __future__ import annotations

from nasbench.data.dataset import Data
from nasbench.data.folders import cifar100_files, class_names
from nasbench.data.published import published_data, read_records


def cifar100(*, train_images: int | None = None, val_images: int | None = None, size: int | None = None) -> Data:
    """The 10,000 test images with their fine labels; 5,000 of the 50,000 training images validate.

    Args:
        train_images: Use only this many training images, each class alike, for quick experiments.
        val_images: Use only this many validation images, each class alike.
        size: Height and width that images are resized to; None leaves 32.

    Raises:
        UserError: The files are not there or damaged, or an option is out of range.
    """
    train, test, names = cifar100_files()
    images, test_images = (read_records(file, labels=2) for file in (train, test))
    classes = class_names(names, 100)
    options = {"train_images": train_images, "val_images": val_images, "size": size}
    return published_data("cifar100", images, test_images, classes, **options)
