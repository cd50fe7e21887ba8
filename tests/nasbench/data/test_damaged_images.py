"""What lies in a folder of images and is none, or none that can be read: one sentence, and no traceback."""

import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasbench.data import load_data
from nasbench_registry import UserError

RNG = np.random.default_rng(0)


@pytest.fixture
def photos():
    """Two classes of twelve images, in a folder that others may look into, with a space and umlauts in its name."""
    with tempfile.TemporaryDirectory(prefix="bilder ü ") as name:
        root = Path(name)
        root.chmod(0o755)
        for label in ("a b", "ö-klasse"):
            (root / label).mkdir()
            for number in range(12):
                pixels = RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / label / f"bild {number:02}.png")
        yield root


def count(root):
    data = load_data("image_folder", path=str(root), size=[8, 8])
    return len(data.train) + len(data.val) + len(data.test)


def refusal(root):
    with pytest.raises(UserError) as caught:
        load_data("image_folder", path=str(root), size=[8, 8])
    text = str(caught.value)
    assert "\n" not in text
    return text


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def noise_png(root):
    Image.fromarray(RNG.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(root / "whole.png")
    return bytearray((root / "whole.png").read_bytes())


def truncated(root):
    return noise_png(root)[:3000]


def broken_chunk(root):
    raw = noise_png(root)
    at = raw.find(b"IDAT", raw.find(b"IDAT") + 4)
    raw[at : at + 4] = b"\x8d\x03\x98\xa6"
    return raw


def wrong_byte(root):
    raw = noise_png(root)
    raw[60] ^= 255
    return raw


def long_comment(root):
    raw = bytes(noise_png(root))
    return raw[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 3_000_000)) + raw[33:]


def huge(root):
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(20_001) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


DAMAGE = {
    "truncated": truncated,
    "broken chunk": broken_chunk,
    "wrong byte": wrong_byte,
    "head alone": lambda root: noise_png(root)[:40],
    "long comment": long_comment,
    "20000 x 20000": huge,
    "empty": lambda root: b"",
    "web page": lambda root: b"<html>404</html>",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_image_that_cannot_be_read(damage, photos):
    raw = DAMAGE[damage](photos)
    (photos / "ö-klasse" / "x.png").write_bytes(raw)
    text = refusal(photos)
    assert str(photos / "ö-klasse" / "x.png") in text
    assert ("178,956,970 pixels" in text) == (damage == "20000 x 20000")


def test_several_of_them_are_counted(photos):
    for name in ("x.jpg", "y.jpg", "z.jpg"):
        (photos / "a b" / name).write_bytes(b"no image")
    assert "3 of 27 images cannot be used; the first: " in refusal(photos)


def test_what_is_no_image_is_left_out(photos):
    place = photos / "a b"
    (place / "Thumbs.db").write_bytes(b"x")
    (place / "notes.txt").write_text("x")
    (place / "._bild 00.png").write_bytes(b"\0\5\26\7" + bytes(50))  # what macOS leaves on other file systems
    (place / "folder.png").mkdir()
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (place / name).mkdir()
        (place / name / "bild.png").write_bytes((place / "bild 00.png").read_bytes())
        (photos / name).mkdir()
    assert count(photos) == 24


def test_links_are_followed_once(photos):
    more = photos / "a b" / "more"
    more.mkdir()
    (photos / "a b" / "bild 00.png").rename(more / "bild 00.png")
    (photos / "a b" / "again").symlink_to(more)  # the same images once more
    (photos / "a b" / "loop").symlink_to(photos / "a b")
    (photos / "ö-klasse" / "bild 12.png").symlink_to(photos / "ö-klasse" / "bild 00.png")
    assert count(photos) == 25
    (photos / "ö-klasse").rename(photos / ".elsewhere")
    (photos / "ö-klasse").symlink_to(photos / ".elsewhere")  # a class may lie on another disk
    assert count(photos) == 25


@pytest.mark.parametrize("target", ["gone.png", "x.png"])
def test_a_link_to_nothing(target, photos):
    (photos / "a b" / "x.png").symlink_to(photos / "a b" / target)
    assert "x.png is a link to a file that is not there" in refusal(photos)


@pytest.mark.parametrize("place", ["", "a b", "a b/bild 00.png"])
def test_what_may_not_be_read(place, photos):
    mode = (photos / place).stat().st_mode
    (photos / place).chmod(0)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)  # the administrator may read everything; nobody may not
        text = refusal(photos)
    finally:
        os.seteuid(me)
        (photos / place).chmod(mode)
    assert str(photos / place) in text
    assert "ermission denied" in text


def test_a_class_without_images(photos):
    (photos / "c" / "inner").mkdir(parents=True)
    (photos / "c" / ".hidden.png").write_bytes(b"x")
    assert "c holds no images" in refusal(photos)
