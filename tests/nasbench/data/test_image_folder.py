"""A folder of images as a data set."""

import numpy as np
import pytest
from PIL import Image

from nasbench.data import load_data
from nasbench_registry import UserError


@pytest.fixture
def photos(tmp_path):
    """Two classes of real pixels: dark and bright rows of a gradient, 20 images each, of different sizes."""
    root = tmp_path / "photos"
    for label, base in {"bright": 200, "dark": 20}.items():
        (root / label).mkdir(parents=True)
        for index in range(20):
            pixels = np.full((10 + index, 12, 3), base + index, dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{index:02d}.png")
    return root


def test_classes_sizes_and_parts(photos):
    data = load_data("image_folder", path=str(photos), size=[8, 6])
    assert data.labels == ("bright", "dark")
    assert data.task.input_shape == (3, 8, 6)
    assert (len(data.train), len(data.val), len(data.test)) == (28, 6, 6)
    for part in (data.train, data.val, data.test):
        mean = part.examples.mean(dim=(1, 2, 3))
        assert (mean[part.targets == 0] > 0).all()
        assert (mean[part.targets == 1] < 0).all()
    assert data.mean[0] == pytest.approx(0.47, abs=0.03)


def test_grey(photos):
    assert load_data("image_folder", path=str(photos), channels=1).task.input_shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "there is no folder nowhere"),
        ({"size": [8]}, "must be .height, width."),
        ({"channels": 2}, "must be 3 .colour. or 1 .grey."),
        ({"val_share": 0.6, "test_share": 0.6}, "sum to less than 1"),
        ({"split_seed": -1}, "split_seed=-1 of data set 'image_folder' must be 0 or more"),
        ({"path": None}, "needs 2 classes"),
    ],
)
def test_mistakes(photos, options, message):
    if options.get("path", "") is None:
        options = {"path": str(photos / "dark")}
    with pytest.raises(UserError, match=message):
        load_data("image_folder", **{"path": str(photos)} | options)


def test_files_that_are_no_images(photos):
    (photos / "dark" / "99.png").write_text("no image")
    with pytest.raises(UserError, match=r"99\.png is not an image that can be read"):
        load_data("image_folder", path=str(photos))
    (photos / "empty").mkdir()
    (photos / "dark" / "99.png").unlink()
    with pytest.raises(UserError, match="empty holds no images"):
        load_data("image_folder", path=str(photos))


def test_an_image_of_another_shape_is_not_distorted(tmp_path):
    """A disc stays round in the middle, and whole on the background; it becomes an ellipse only where asked for."""
    height, width = 24, 48
    rows, columns = np.mgrid[:height, :width]
    disc = ((rows - 11.5) ** 2 + (columns - 23.5) ** 2 < 81).astype(np.uint8) * 255
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(6):
            Image.fromarray(disc).save(tmp_path / label / f"{number}.png")

    def extent(**options):
        data = load_data("image_folder", path=str(tmp_path), size=[24, 24], channels=1, background=0.0, **options)
        picture = data.train.inputs[0][0, 0] > 127
        return int(picture.any(1).sum()), int(picture.any(0).sum())

    assert extent() == (18, 18)
    assert extent(resize="stretch") == (18, 10)  # half as wide, and pixels that are half covered
    high, wide = extent(resize="pad")
    assert high == wide == 10
    with pytest.raises(
        UserError, match="unknown resize of data set 'image_folder' 'shrink'; known: crop, pad, stretch"
    ):
        extent(resize="shrink")
