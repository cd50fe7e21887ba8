"""A user's own images in a folder with one folder a class (see docs/data.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from nasbench.data.images import Array, ImageData, check_division, make_data, stratified_parts
from nasbench_registry import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def image_folder(
    *,
    path: str,
    size: Sequence[int] = (32, 32),
    channels: int = 3,
    val_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
) -> ImageData:
    """Images from ``path/CLASS/*.png`` and the like, resized, all in memory.

    Args:
        path: the folder; its folders, in alphabetical order, are the classes.
        size: height and width that every image is resized to.
        channels: 3 for colour, 1 for grey.
        val_share: share of the images that validates.
        test_share: share that tests.
        split_seed: of the division, which treats each class alike.

    Raises:
        UserError: the folder, an image or an option is not as described.
    """
    check_division("image_folder", val_share, test_share, split_seed)
    if channels not in (1, 3):
        raise UserError(f"channels={channels} of data set 'image_folder' must be 3 (colour) or 1 (grey).")
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise UserError(f"size={size!r} of data set 'image_folder' must be [height, width], whole numbers from 1.")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"data set 'image_folder': there is no folder {root}; give one with a folder for each class.")
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if len(classes) < 2:
        raise UserError(
            f"{root} holds {len(classes)} folder(s) of images; a classification task needs 2 classes or more."
        )
    images, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(file for file in (root / name).rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"{root / name} holds no images ({', '.join(SUFFIXES)}); add some or remove the folder.")
        images += [_read(file, (size[0], size[1]), channels) for file in files]
        labels += [label] * len(files)
    pixels, targets = np.stack(images), np.array(labels, dtype=np.int64)
    parts = stratified_parts(targets, (val_share, test_share), split_seed)
    val, test, train = ((pixels[part], targets[part]) for part in parts)
    return make_data(f"image_folder:{root.name}", train, val, test, tuple(classes))


def _read(file: Path, size: tuple[int, int], channels: int) -> Array:
    """One image as (channels, height, width) from 0 to 1."""
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB" if channels == 3 else "L").resize(
                (size[1], size[0]), Image.Resampling.BILINEAR
            )
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{file} is not an image that can be read ({error}); remove it or write it again.") from None
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
