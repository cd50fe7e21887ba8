"""A file of images of any size, written a block at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

BLOCK = 1024  # images that are drawn, and then repeated
CLASSES = 10


def write_images(file: Path, images: int, side: int, seed: int) -> None:
    """Write bytes by chance (images, 3, side, side) with labels (images,) as a safetensors file.

    Args:
        file: File to be written.
        images: Number of images; the same thousand are repeated.
        side: Height and width of an image.
        seed: Random seed of the images.
    """
    rng = np.random.default_rng(seed)
    block = rng.integers(0, 256, (BLOCK, 3, side, side), np.uint8)
    labels = (np.arange(images) % BLOCK % CLASSES).astype(np.int64)
    size, after = block[0].nbytes * images, 8 * images
    header = json.dumps(
        {
            "labels": {"dtype": "I64", "shape": [images], "data_offsets": [0, after]},
            "images": {"dtype": "U8", "shape": [images, 3, side, side], "data_offsets": [after, after + size]},
        }
    ).encode()
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header + labels.tobytes())
        for start in range(0, images, BLOCK):
            opened.write(block[: images - start].data)
