"""A user's own images in one safetensors file (see docs/data.md)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from safetensors.torch import load_file

from nasbench.data.images import ImageData, Labels, check_division, make_data, stratified_parts
from nasbench_registry import UserError
from nasbench_registry.files import user_path

BYTE = 255
CHANNELS_LAST = (1, 3, 4)  # sizes that a last axis has where it holds channels


def arrays(
    *, path: str | os.PathLike[str], val_share: float = 0.15, test_share: float = 0.15, split_seed: int = 0
) -> ImageData:
    """Images from the tensors `images` (n, c, h, w) and `labels` (n,) of a safetensors file.

    uint8 images are divided by 255, others are taken as they are. Class names may stand in the metadata of the file
    under `classes`, a JSON list of strings: the first one belongs to label 0. Without names, labels may be any numbers
    from 0, such as product numbers; the classes are those that occur, in their order.

    Args:
        path: the file.
        val_share: share of the images that validates.
        test_share: share that tests.
        split_seed: of the division, which treats each class alike.

    Raises:
        UserError: the file, a tensor or a share is not as described.
    """
    check_division("arrays", val_share, test_share, split_seed)
    (file,) = array_files(path)
    try:
        tensors = load_file(file)
        with safetensors.safe_open(file, "numpy") as opened:
            named = json.loads((opened.metadata() or {}).get("classes", "null"))
    except PermissionError:
        raise UserError(f"{file} cannot be read; give yourself the right to.") from None
    except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{file} is not a safetensors file with readable metadata: {error}.") from None
    if not {"images", "labels"} <= set(tensors):
        raise UserError(
            f"{file} holds {', '.join(sorted(tensors)) or 'nothing'}; it needs the tensors images and labels."
        )
    images, labels = (_numpy(tensors[name]) for name in ("images", "labels"))
    _check_images(images, labels, file)
    targets, classes = _classes(labels, named, file)
    white = BYTE if images.dtype == np.uint8 else 1
    scaled = (images / np.float32(white)).astype(np.float32)
    parts = stratified_parts(targets, (val_share, test_share), split_seed)
    val, test, train = ((scaled[part], targets[part]) for part in parts)
    return make_data(f"arrays:{file.name}", train, val, test, classes, white=white)


def array_files(path: str | os.PathLike[str]) -> list[Path]:
    """The file that `arrays` reads; UserError if it is not there."""
    file = user_path(path)
    if not file.is_file():
        raise UserError(f"data set 'arrays': there is no file {file}; give the path of a safetensors file.")
    return [file]


def _numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """With floating point numbers as float32, for NumPy knows no bfloat16; what is too large becomes infinite."""
    values: npt.NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return values


def _check_images(images: npt.NDArray[Any], labels: npt.NDArray[Any], file: Path) -> None:
    if images.ndim != 4 or labels.shape != images.shape[:1] or images.size == 0:
        raise UserError(
            f"{file}: images {images.shape} and labels {labels.shape} must be (n, c, h, w) and (n,), and not empty."
        )
    if not (np.issubdtype(images.dtype, np.integer) or np.issubdtype(images.dtype, np.floating)):
        raise UserError(f"{file}: images are {images.dtype}; store them as uint8 or float32.")
    _, channels, height, width = images.shape
    if channels == height and channels not in CHANNELS_LAST and width in CHANNELS_LAST:
        raise UserError(
            f"{file}: images {images.shape} look like (n, height, width, channels); store them as (n, channels, "
            f"height, width), with images.transpose(0, 3, 1, 2)."
        )


def _classes(labels: npt.NDArray[Any], named: Any, file: Path) -> tuple[Labels, tuple[str, ...]]:
    """Labels from 0 without gaps, and the name of each class."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{file}: labels are {labels.dtype}; store them as integers from 0.")
    numbers, targets = np.unique(labels, return_inverse=True)
    negative = int((labels < 0).sum())
    if negative:
        raise UserError(
            f"{file}: {negative:,} of {labels.size:,} labels are negative, down to {numbers[0]}; classes are numbered "
            f"from 0, so leave out images that have none."
        )
    if named is None:
        return targets.astype(np.int64), tuple(str(number) for number in numbers)
    if not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise UserError(f"{file}: the metadata 'classes' is {named!r}; store a JSON list of strings.")
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise UserError(f"{file}: the metadata 'classes' names {twice!r} twice; give each class a name of its own.")
    if numbers[-1] >= len(named):
        raise UserError(
            f"{file}: labels go up to {numbers[-1]}, and the metadata 'classes' names {len(named)} classes, for labels "
            f"up to {len(named) - 1}; name every class."
        )
    unused = [name for label, name in enumerate(named) if label not in set(numbers.tolist())]
    if unused:
        raise UserError(
            f"{file}: the metadata 'classes' names {len(named)} classes, and no image is of {len(unused)} of them "
            f"({', '.join(unused[:5])}{', ...' if len(unused) > 5 else ''}), so nothing would train their outputs; "
            f"leave them out and number the labels anew."
        )
    return targets.astype(np.int64), tuple(named)
