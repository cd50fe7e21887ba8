"""How raw pixels become what a network takes, in numbers and in words for those who do not have this project."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.data.dataset import Data
from nasbench.data.decoding import CROP, PAD, STRETCH

BYTE = 255.0
FORMULA = "(pixels / 255 - mean) / std"
"""Formula of all data sets, whatever their pixels are: `mean` and `std` are in units of 255 steps of the raw pixels."""

_FILES = """
    from PIL import Image, ImageOps

    def pixels_of(path):  # (channels, height, width) from 0 to 255
        with Image.open(path) as file:
            image, deep = ImageOps.exif_transpose(file), file.mode.startswith(("I", "F"))
        if deep:  # 16 bits, or floating point from 0 to 1
            white = 1 if image.mode == "F" else 65535
            image = Image.fromarray(np.asarray(image).astype(np.float32) / white * 255)
        elif image.has_transparency_data:
            ground = Image.new("RGBA", image.size, ({ground}, {ground}, {ground}, 255))
            image = Image.alpha_composite(ground, image.convert("RGBA"))
        if not deep:
            image = image.convert("{mode}")
        values = np.asarray({resized}, np.float32).clip(0, 255)
        return values.transpose(2, 0, 1) if values.ndim == 3 else np.repeat(values[None], {channels}, axis=0)

    pixels = np.stack([pixels_of(path) for path in paths])
"""


def normalization_of(data: Data) -> dict[str, Any]:
    """How raw pixels become what a network takes.

    Returns:
        JSON: `formula`, which is `FORMULA`, with `mean` and `std` by channel; and `white`, the raw pixel that the data
        set itself scales to 1; without these, where inputs are taken as they are. `labels` names the classes;
        `targets`, with `mean` and `std`, makes values of outputs: outputs * std + mean; `columns` names those of a
        table.
    """
    unit = data.white / BYTE
    entries: dict[str, Any] = {"labels": list(data.labels)}
    if data.scale is not None:
        entries |= {
            "formula": FORMULA,
            "mean": [unit * mean for mean in data.mean],
            "std": [unit * deviation for deviation in data.std],
            "white": data.white,
        }
    if data.targets is not None:
        entries["targets"] = {"mean": list(data.targets.mean), "std": list(data.targets.std)}
    return entries | ({"columns": list(data.columns)} if data.columns else {})


FOLDERS = ("image_folder", "imagenet_folder")
"""Data sets of files, which are read in the same way."""


def scaled(normalization: Mapping[str, Any], name: str) -> list[float] | None:
    """The mean or the deviation in the units of `ImageData`, in which white is 1.

    Args:
        normalization: Normalization as `normalization_of` gives it; without `white`, that is 255.
        name: Statistic to read: "mean" or "std".

    Returns:
        By channel; None if it is not recorded.
    """
    unit = BYTE / float(normalization.get("white", BYTE))
    return None if name not in normalization else [unit * value for value in normalization[name]]


def in_words(normalization: Mapping[str, Any], data: Mapping[str, Any], input_shape: Sequence[int]) -> str:
    """How to normalize, for a README: a sentence and lines of Python from `pixels` to `images`; empty if not recorded.

    Args:
        normalization: Normalization as `normalization_of` gives it.
        data: Name and options of the data set.
        input_shape: Shape of an image, (channels, height, width), or any other shape.
    """
    if "mean" not in normalization or "std" not in normalization:
        return ""
    if len(input_shape) != 3:
        return _values_in_words(normalization, input_shape)
    mean, deviation = list(normalization["mean"]), list(normalization["std"])
    lines = [
        "import numpy as np",
        "",
        f"mean, std = np.array({mean})[:, None, None], np.array({deviation})[:, None, None]",
        f"images = ({FORMULA}).astype(np.float32)  # pixels: (n, channels, height, width)",
    ]
    if data.get("name") in FOLDERS:
        channels, height, width = input_shape
        ground = round(BYTE * float(data.get("background", 1.0)))
        size = f"({width}, {height}), Image.Resampling.BILINEAR"
        forms = {
            CROP: f"ImageOps.fit(image, {size})",
            PAD: f"ImageOps.pad(image, {size}, color=({ground},) * 3 if image.mode == 'RGB' else {ground})",
            STRETCH: f"image.resize({size})",
        }
        code = textwrap.dedent(_FILES).format(
            ground=ground,
            resized=forms[str(data.get("resize", CROP))],
            mode="RGB" if channels == 3 else "L",
            width=width,
            height=height,
            channels=channels,
        )
        lines[1:1] = code.strip("\n").splitlines()
    sentence = (
        f"`images = {FORMULA}`, channel by channel, with the mean {mean} and the std {deviation}. "
        f"{_pixels(float(normalization.get('white', BYTE)), str(data.get('name', '')))}"
    )
    return f"{sentence}\n\n{textwrap.indent(chr(10).join(lines), ' ' * 4)}"


def _values_in_words(normalization: Mapping[str, Any], input_shape: Sequence[int]) -> str:
    """How to normalize rows of a table and other inputs that are no images."""
    mean, deviation = (scaled(normalization, name) for name in ("mean", "std"))
    after = f".reshape(-1, {', '.join('1' for _ in input_shape[1:])})" if len(input_shape) > 1 else ""
    columns = ", ".join(map(str, normalization.get("columns", ())))
    lines = [
        "import numpy as np",
        "",
        f"mean, std = np.array({mean}){after}, np.array({deviation}){after}",
        f"images = ((values - mean) / std).astype(np.float32)  # values: (n, {', '.join(map(str, input_shape))})",
    ]
    named = f" The columns are {columns}." if columns else ""
    return f"`images = (values - mean) / std`.{named}\n\n{textwrap.indent(chr(10).join(lines), ' ' * 4)}"


def _pixels(white: float, name: str) -> str:
    if name in FOLDERS:
        return "`pixels` are those of the files at `paths`, turned, laid on a ground and resized as in training:"
    if white == 1:
        return (
            "`pixels` are the numbers of the data set as they are, not scaled to 0..1 or to 255 beforehand: mean and "
            "std see to that."
        )
    return f"`pixels` are those of the data set, from 0 to {white:g}."
