"""A user's own examples in one safetensors file (see docs/data.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import torch

from nasbench.data.dataset import Data, Kind, Raw, check_division, make_data
from nasbench.data.given import encode_targets, is_real, with_missing_parts
from nasbench.data.on_disk import ON_DISK_BYTES, TYPES, FileArray
from nasbench_registry import UserError
from nasbench_registry.files import user_path

BYTE = 255
CHANNELS_LAST = (1, 3, 4)  # sizes that a last axis has where it holds channels


def arrays(
    *,
    path: str | os.PathLike[str],
    val_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
    kind: Kind | None = None,
) -> Data:
    """Inputs from the tensor `images` (n, ...) or `inputs`, and targets from `labels` (n, ...) or `targets`.

    Images are (n, c, h, w), rows of a table (n, columns). uint8 images are divided by 255, others are taken as they
    are. Class names may stand in the metadata of the file under `classes`, a JSON list of strings: the first one
    belongs to label 0. Without names, labels may be any numbers from 0, such as product numbers; the classes are those
    that occur, in their order. Large images stay in the file, of which a batch is read at a time.

    Args:
        path: Safetensors file.
        val_share: Share of the examples that validates.
        test_share: Share that tests.
        split_seed: Random seed of the division, which treats each class alike.
        kind: Kind of the targets: "classes", "masks" (n, h, w), or "values" (n, ...) for regression; the problem sets
            it.

    Raises:
        UserError: The file, a tensor or a share is not as described.
    """
    check_division("arrays", val_share, test_share, split_seed)
    (file,) = array_files(path)
    try:
        with safetensors.safe_open(file, "pt") as opened:
            named = json.loads((opened.metadata() or {}).get("classes", "null"))
            tensor_names = list(opened.keys())
            chosen_names = [next((name for name in names if name in tensor_names), None) for names in NAMES]
            if None in chosen_names:
                raise UserError(
                    f"{file} holds {', '.join(sorted(tensor_names)) or 'nothing'}; it needs the tensors images and "
                    f"labels."
                )
            inputs, targets = (_stored(opened, file, str(name)) for name in chosen_names)
    except PermissionError:
        raise UserError(f"{file} cannot be read; give yourself the right to.") from None
    except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{file} is not a safetensors file with readable metadata: {error}.") from None
    assert isinstance(targets, np.ndarray), "targets are read into memory"
    _check_inputs(inputs, targets, file, kind)
    names: Sequence[str] = ()
    if kind in (None, "classes"):
        targets, names = _classes(targets, named, file)
    else:
        (targets,), names = encode_targets(str(file), [targets], kind, named)
    white = BYTE if str(inputs.dtype).endswith("uint8") else 1
    train, val, test = with_missing_parts({"train": (inputs, targets)}, val_share, test_share, split_seed)
    return make_data(f"arrays:{file.name}", train, val, test, names, white=white)


NAMES = (("images", "inputs"), ("labels", "targets"))
"""How inputs and targets may be called in the file."""


def _stored(opened: Any, file: Path, name: str) -> Raw:
    """A tensor of the file: in memory, or if it is a large one of images on disk."""
    about = opened.get_slice(name)
    shape, dtype = tuple(about.get_shape()), str(about.get_dtype())
    if name in NAMES[0] and dtype in TYPES and int(np.prod(shape)) * np.dtype(TYPES[dtype]).itemsize > ON_DISK_BYTES:
        return FileArray(file, TYPES[dtype], shape, _offset(file, name))
    return _numpy(opened.get_tensor(name))


def _offset(file: Path, name: str) -> int:
    """Where the numbers of a tensor begin: behind eight bytes, the length of the header, and the header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    return 8 + length + int(header[name]["data_offsets"][0])


def array_files(path: str | os.PathLike[str]) -> list[Path]:
    """The file that `arrays` reads; UserError if it is not there."""
    file = user_path(path)
    if not file.is_file():
        raise UserError(f"data set 'arrays': there is no file {file}; give the path of a safetensors file.")
    return [file]


def _numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """An array with floating point numbers as float32, for NumPy knows no bfloat16; too large ones become infinite."""
    values: npt.NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return values


def _check_inputs(images: Raw, labels: npt.NDArray[Any], file: Path, kind: Kind | None) -> None:
    classed = kind in (None, "classes")
    flat = classed and (images.ndim == 3 or labels.ndim != 1)
    if images.ndim < 2 or flat or labels.shape[:1] != images.shape[:1] or 0 in images.shape:
        raise UserError(
            f"{file}: images {images.shape} and labels {labels.shape} must be (n, c, h, w) and (n,), and not empty."
        )
    if isinstance(images, np.ndarray) and not is_real(images.dtype):
        raise UserError(f"{file}: images are {images.dtype}; store them as uint8 or float32.")
    if images.ndim != 4:
        return
    _, channels, height, width = images.shape
    if channels == height and channels not in CHANNELS_LAST and width in CHANNELS_LAST:
        raise UserError(
            f"{file}: images {images.shape} look like (n, height, width, channels); store them as (n, channels, "
            f"height, width), with images.transpose(0, 3, 1, 2)."
        )


def _classes(labels: npt.NDArray[Any], named: Any, file: Path) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
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
