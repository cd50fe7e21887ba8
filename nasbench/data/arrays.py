"""A user's own images in one safetensors file (see docs/data.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load_file

from nasbench.data.images import ImageData, check_division, make_data, stratified_parts
from nasbench_registry import UserError


def arrays(*, path: str, val_share: float = 0.15, test_share: float = 0.15, split_seed: int = 0) -> ImageData:
    """Images from the tensors `images` (n, c, h, w) and `labels` (n,) of a safetensors file.

    uint8 images are divided by 255, others are taken as they are. Class names may stand in the metadata of the file
    under `classes`, a JSON list of strings.

    Args:
        path: the file.
        val_share: share of the images that validates.
        test_share: share that tests.
        split_seed: of the division, which treats each class alike.

    Raises:
        UserError: the file, a tensor or a share is not as described.
    """
    check_division("arrays", val_share, test_share, split_seed)
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"data set 'arrays': there is no file {file}; give the path of a safetensors file.")
    try:
        tensors = load_file(file)
        with safetensors.safe_open(file, "numpy") as opened:
            named = json.loads((opened.metadata() or {}).get("classes", "null"))
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{file} is not a safetensors file with readable metadata: {error}.") from None
    if not {"images", "labels"} <= set(tensors):
        raise UserError(
            f"{file} holds {', '.join(sorted(tensors)) or 'nothing'}; it needs the tensors images and labels."
        )
    images, labels = tensors["images"], tensors["labels"]
    if images.ndim != 4 or labels.shape != images.shape[:1] or images.size == 0:
        raise UserError(
            f"{file}: images {images.shape} and labels {labels.shape} must be (n, c, h, w) and (n,), and not empty."
        )
    # NumPy knows bfloat16 and the like only where some other package has taught it to.
    if not np.issubdtype(images.dtype, np.number):
        raise UserError(f"{file}: images are {images.dtype}; store them as uint8 or float32.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{file}: labels are {labels.dtype}; store them as integers from 0.")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise UserError(f"{file}: the metadata 'classes' is {named!r}; store a JSON list of strings.")
    labels = labels.astype(np.int64)
    scaled = (images / np.float32(255 if images.dtype == np.uint8 else 1)).astype(np.float32)
    classes = tuple(named) if named else tuple(str(label) for label in range(int(labels.max()) + 1))
    parts = stratified_parts(labels, (val_share, test_share), split_seed)
    val, test, train = ((scaled[part], labels[part]) for part in parts)
    return make_data(f"arrays:{file.name}", train, val, test, classes)
