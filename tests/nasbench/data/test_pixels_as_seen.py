"""An image file is read as a viewer shows it: all its tones, turned as its camera says, without hidden colours."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from nasbench.data.decoding import read_image
from nasbench_registry import UserError

HEIGHT, WIDTH = 24, 32
RAMP = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
DEEP_RAMP = (RAMP * 65535).round().astype(np.uint16)


def read(file, channels=3, background=1.0, size=(HEIGHT, WIDTH)):
    pixels = read_image(file, size, channels, background)
    assert pixels.dtype in (np.uint8, np.float32)
    assert pixels.shape == (channels, *size)
    return pixels.astype(np.float32) / 255


def write_png(file, pixels, colour_type, *chunks):
    """A PNG of 16 bits a channel, of which Pillow writes only grey ones."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    body = b"".join(chunk(*fields) for fields in chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["grey.png", "little.tif", "float.tif", "big.tif", "inverted.tif"])
def test_more_than_eight_bits_keep_their_tones(name, channels, tmp_path):
    file = tmp_path / name
    if name == "float.tif":
        Image.fromarray(RAMP.astype(np.float32)).save(file)
    elif name == "big.tif":
        big_endian = Image.frombytes("I;16B", (WIDTH, HEIGHT), DEEP_RAMP.astype(">u2").tobytes())
        big_endian.save(file)
    elif name == "inverted.tif":
        Image.fromarray(65535 - DEEP_RAMP).save(file, tiffinfo={262: 0})
    else:
        Image.fromarray(DEEP_RAMP).save(file)
    for channel in read(file, channels):
        np.testing.assert_allclose(channel, RAMP, atol=1 / 65535)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_in_several_channels(colour_type, channels, tmp_path):
    pixels = np.repeat(DEEP_RAMP[..., None], channels, axis=-1)
    if channels != 3:
        pixels[..., -1] = 65535
    write_png(tmp_path / "deep.png", pixels, colour_type)
    np.testing.assert_allclose(read(tmp_path / "deep.png")[0], RAMP, atol=1.1 / 255)  # Pillow keeps eight bits of these


def test_a_deep_image_is_resized_in_its_own_depth(tmp_path):
    Image.fromarray(DEEP_RAMP).save(tmp_path / "deep.png")
    small = read(tmp_path / "deep.png", 1, size=(HEIGHT // 2, WIDTH // 2))[0]
    # Bilinear resizing averages, and the mean of a ramp stays what it is.
    assert small.mean() == pytest.approx(0.5, abs=1e-3)
    assert len(np.unique(small)) == small.size


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.0, 255.0]], np.float32), "floating point pixels from 0 to 255"),
        (np.array([[-0.5, 0.5]], np.float32), "floating point pixels from -0.5 to 0.5"),
        (np.array([[0.5, np.nan, np.inf]], np.float32), "2 of 3 pixels that are NaN or infinite"),
        (np.array([[0, 70000]], np.int32), "32-bit whole numbers from 0 to 70000"),
    ],
)
def test_pixels_without_a_known_white_are_refused(values, words, tmp_path):
    Image.fromarray(values).save(tmp_path / "strange.tif")
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path / "strange.tif")
    assert str(tmp_path / "strange.tif") in str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "deep.png"])
def test_a_photograph_is_turned_as_its_camera_says(kind, orientation, tmp_path):
    file = tmp_path / f"photo.{kind}"
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8, :8], pixels[8:, 8:] = 255, 128  # no symmetry: each of the eight ways gives another picture
    image = Image.fromarray(pixels.astype(np.uint16) * 257 if kind == "deep.png" else pixels)
    tags = Image.Exif()
    tags[0x0112] = orientation
    image.save(file, exif=tags)
    expected = np.asarray(ImageOps.exif_transpose(_with_orientation(Image.fromarray(pixels), orientation))) / 255
    np.testing.assert_allclose(read(file, 1, size=(16, 16))[0], expected, atol=0.02)


def _with_orientation(image, orientation):
    image.getexif()[0x0112] = orientation
    return image


HIDDEN = (255, 0, 255)


@pytest.mark.parametrize("background", [1.0, 0.0, 0.5])
@pytest.mark.parametrize("kind", ["rgba.png", "rgba.webp", "palette.png", "palette.gif", "colour key.png", "la.png"])
def test_invisible_pixels_show_the_background(kind, background, tmp_path):
    file = tmp_path / kind
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., :3] = HIDDEN
    pixels[8:16, 8:24] = (0, 255, 0, 255)
    image = Image.fromarray(pixels)
    if kind.startswith("palette"):
        indices = np.zeros((HEIGHT, WIDTH), np.uint8)
        indices[8:16, 8:24] = 1
        image = Image.fromarray(indices).convert("P")
        image.putpalette([*HIDDEN, 0, 255, 0])
        image.save(file, transparency=0)
    elif kind == "colour key.png":
        image.convert("RGB").save(file, transparency=HIDDEN)
    elif kind == "la.png":
        image.convert("LA").save(file)
    else:
        image.save(file, lossless=True)
    read_pixels = read(file, background=background)
    np.testing.assert_allclose(read_pixels[:, 0, 0], background, atol=1 / 255)
    patch = 150 / 255 if kind == "la.png" else [0, 1, 0]  # the luminance of green, as Pillow rounds it
    np.testing.assert_allclose(read_pixels[:, 12, 12], patch, atol=1 / 255)


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "half.png")
    np.testing.assert_allclose(read(tmp_path / "half.png", size=(4, 4))[:, 0, 0], [1, 0.498, 0.498], atol=1 / 255)


def test_a_deep_image_with_a_transparent_level(tmp_path):
    write_png(tmp_path / "key.png", DEEP_RAMP, 0, (b"tRNS", struct.pack(">H", 0)))
    pixels = read(tmp_path / "key.png", 1)[0]
    assert pixels[0, 0] == 1
    np.testing.assert_allclose(pixels.ravel()[1:], RAMP.ravel()[1:], atol=1 / 65535)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), (1, 0, 0)),
        ("1", 1, (1, 1, 1)),
        ("L", 51, (0.2, 0.2, 0.2)),
        ("YCbCr", None, (1, 0, 0)),
    ],
)
def test_other_ways_to_write_a_colour(mode, colour, expected, tmp_path):
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode) if colour is None else Image.new(mode, (4, 4), colour)
    image.save(tmp_path / "colour.tif")
    np.testing.assert_allclose(read(tmp_path / "colour.tif", size=(4, 4))[:, 1, 1], expected, atol=2 / 255)


@pytest.mark.parametrize("kind", ["gif", "tif", "png", "webp"])
def test_of_several_frames_the_first_counts(kind, tmp_path):
    frames = [Image.new("RGB", (8, 8), (level, level, level)) for level in (51, 128, 255)]
    frames[0].save(tmp_path / f"film.{kind}", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read(tmp_path / f"film.{kind}", size=(8, 8)), 0.2, atol=0.01)
