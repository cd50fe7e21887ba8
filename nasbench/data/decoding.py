"""One image file as pixels from 0 to 255, whatever its format says about depth, rotation and transparency."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nasbench.data.dataset import Array
from nasbench_registry import UserError, one_of

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Modes of Pillow with more than eight bits; its own conversion clips them to white or black."""
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0
WHITE = 255
LARGEST = 4096
"""Height or width in pixels that images are resized to, at most."""

Pixels = npt.NDArray[Any]
CROP, PAD, STRETCH = "crop", "pad", "stretch"
RESIZES = {
    CROP: "the middle of an image that has the wanted shape, as large as it can be",
    PAD: "the whole image, with the background above and below, or left and right",
    STRETCH: "the whole image, wider or higher than it was",
}
"""How an image is changed that has another shape than the wanted one."""


@dataclass(frozen=True)
class Decoding:
    """How images of any form become pixels of one form.

    Attributes:
        size: Height and width that every image is resized to.
        channels: Number of channels: 3 for colour, 1 for grey.
        background: Grey level behind transparent pixels, from 0 (black) to 1 (white).
        resize: How the shape is changed, one of `RESIZES`.
    """

    size: tuple[int, int]
    channels: int
    background: float
    resize: str

    @classmethod
    def of(cls, name: str, size: Sequence[int], channels: int, background: float, resize: str) -> Decoding:
        """The options of a data set called `name`; UserError if one is out of range."""
        if channels not in (1, 3):
            raise UserError(f"channels={channels} of data set {name!r} must be 3 (colour) or 1 (grey).")
        if len(size) != 2 or min(size) < 1 or max(size) > LARGEST:
            raise UserError(
                f"size={size!r} of data set {name!r} must be [height, width], whole numbers from 1 to {LARGEST}."
            )
        if not 0 <= background <= 1:
            raise UserError(f"background={background} of data set {name!r} must be from 0 (black) to 1 (white).")
        one_of(f"resize of data set {name!r}", resize, RESIZES)
        return cls((size[0], size[1]), channels, background, resize)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, *self.size)

    def __call__(self, file: Path | bytes, name: str = "") -> Pixels:
        """See `read_image`."""
        return read_image(file, self.size, self.channels, self.background, self.resize, name=name)


def read_image(
    file: Path | bytes,
    size: tuple[int, int],
    channels: int,
    background: float,
    resize: str = CROP,
    *,
    name: str = "",
) -> Pixels:
    """The image in a file as (channels, height, width), bytes, or float32 from 0 to 255 where it has more than 8 bits.

    A photograph is turned as its EXIF tag says. Sixteen bits keep their tones. Transparent pixels lie on the
    background. Of an animation or of several pages it is the first one.

    Args:
        file: File to read, or its bytes.
        size: Height and width that it is resized to.
        channels: Number of channels: 3 for colour, 1 for grey.
        background: Grey level from 0 (black) to 1 (white) behind transparent pixels, and around an image with `PAD`.
        resize: How the shape is changed, one of `RESIZES`.
        name: Name of the image in errors; that of the file by default.

    Raises:
        UserError: It is damaged, no image, too large, or its pixels have no known white.
    """
    name = name or ("an image" if isinstance(file, bytes) else str(file))
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
            image = ImageOps.exif_transpose(opened)
            if opened.mode in DEEP:
                return _deep(opened, image, size, channels, background, resize)
            return _ordinary(image, size, channels, background, resize)
    except UserError as error:
        raise UserError(f"{name} {error}") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"{name} has more than {limit:,} pixels, beyond which Pillow reads no image; make it smaller."
        ) from None
    except Exception as error:  # decoders raise errors of any kind for a damaged file: SyntaxError, struct.error, ...
        words = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(
            f"{name} is not an image that can be read ({words}); remove it, or open it and save it anew."
        ) from None


def _ordinary(image: Image.Image, size: tuple[int, int], channels: int, background: float, resize: str) -> Pixels:
    """The pixels of an image whose channels have eight bits at most."""
    level = round(255 * background)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (level, level, level, 255)), layer)
    image = image.convert("RGB" if channels == 3 else "L")
    pixels = np.asarray(_resized(image, size, resize, (level,) * 3 if channels == 3 else level))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _deep(
    opened: Image.Image, image: Image.Image, size: tuple[int, int], channels: int, background: float, resize: str
) -> Array:
    """The pixels of a grey image with more than eight bits; `opened` knows the file, `image` is turned."""
    values = np.asarray(image).astype(np.float32)
    tags = getattr(opened, "tag_v2", {})
    if opened.mode == "F":
        scaled = _unit_range(values)
    elif opened.mode == "I" and opened.format != "PNG":
        raise UserError(
            f"holds signed or 32-bit whole numbers from {values.min():g} to {values.max():g}, so it does not say which "
            f"one is white; save it with 8 or 16 bits without a sign."
        )
    else:
        white = float(2 ** int(tags.get(BITS_PER_SAMPLE, (16,))[0]) - 1)
        scaled = values / np.float32(white)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            scaled = 1 - scaled
    invisible = opened.info.get("transparency")
    if isinstance(invisible, int):
        scaled = np.where(values == invisible, np.float32(background), scaled)
    pixels = np.asarray(_resized(Image.fromarray(scaled), size, resize, background), dtype=np.float32).clip(0, 1)
    return np.repeat(np.float32(WHITE) * pixels[None], channels, axis=0)


def _unit_range(values: Array) -> Array:
    """Floating point pixels, if they lie between 0 and 1."""
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise UserError(f"has {broken:,} of {values.size:,} pixels that are NaN or infinite; repair or remove it.")
    if values.min() < 0 or values.max() > 1:
        raise UserError(
            f"has floating point pixels from {values.min():g} to {values.max():g}, and they must lie between 0 (black) "
            f"and 1 (white); scale it, or store all images in one safetensors file (data set 'arrays')."
        )
    return values


def _resized(image: Image.Image, size: tuple[int, int], resize: str, ground: float | tuple[int, ...]) -> Image.Image:
    target_size, method = (size[1], size[0]), Image.Resampling.BILINEAR
    if resize == CROP:
        return ImageOps.fit(image, target_size, method)
    if resize == PAD:
        return ImageOps.pad(image, target_size, method, color=ground)  # type: ignore[arg-type]  # a number is a colour, too
    return image.resize(target_size, method)
