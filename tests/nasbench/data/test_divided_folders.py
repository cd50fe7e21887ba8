"""A folder with train, val and test inside is a divided data set, not a classifier of `test` against `train`."""

import numpy as np
import pytest
from PIL import Image

from nasbench.data import load_data
from nasbench_registry import UserError

TONES = {"bright": 200, "dark": 30}


@pytest.fixture
def fill(tmp_path):
    """Make ``folder/CLASS`` with so many images of one grey each, different in each folder."""

    def make(folder, classes=TONES, count=10, shift=0):
        for name in classes:
            place = tmp_path / "set" / folder / name
            place.mkdir(parents=True)
            for number in range(count):
                tone = TONES.get(name, 120) + shift
                Image.new("L", (4, 4), tone).save(place / f"{number:02}.png")
        return tmp_path / "set"

    return make


def load(root, **options):
    return load_data("image_folder", path=str(root), size=[4, 4], channels=1, **options)


def greys(data, part):
    split = getattr(data, part)
    return set(np.round(255 * (split.examples[:, 0, 0, 0].numpy() * data.std[0] + data.mean[0])).astype(int).tolist())


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Train", "Valid", "Test"), ("training", "validation", "testing")],
)
def test_all_three_parts(names, fill):
    for shift, name in enumerate(names):
        root = fill(name, count=10 - shift, shift=shift)
    data = load(root)
    assert data.labels == ("bright", "dark")
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 18, 16]
    for shift, part in enumerate(("train", "val", "test")):
        assert greys(data, part) == {tone + shift for tone in TONES.values()}


@pytest.mark.parametrize(
    ("there", "sizes"),
    [(("train",), [10, 6, 4]), (("train", "test"), [14, 6, 20]), (("train", "val"), [16, 20, 4])],
)
def test_a_part_that_is_missing_is_taken_from_the_training_images(there, sizes, fill):
    for shift, name in enumerate(there):
        root = fill(name, shift=shift)
    data = load(root, val_share=0.3, test_share=0.2)
    assert [len(part) for part in (data.train, data.val, data.test)] == sizes
    own = {"train": 0, there[-1]: len(there) - 1}
    for part in ("train", "val", "test"):
        assert greys(data, part) == {tone + own.get(part, 0) for tone in TONES.values()}


def test_a_class_may_be_called_train(fill):
    for name in ("bus", "car"):
        root = fill(".", classes=[name])
    (root / "train").mkdir()
    Image.new("L", (4, 4), 99).save(root / "train" / "1.png")
    for number in range(9):
        Image.new("L", (4, 4), 99).save(root / "train" / f"2{number}.png")
    assert load(root).labels == ("bus", "car", "train")


def unlabelled(root, name):
    (root / name).mkdir(parents=True)
    Image.new("L", (4, 4), 99).save(root / name / "1.png")


@pytest.mark.parametrize(
    ("parts", "plain", "words"),
    [
        (("val", "test"), (), "holds test, val and no folder train"),
        (("train", "training"), (), "train and training, which are the same part"),
        (("train", "val", "valid"), (), "val and valid, which are the same part"),
        (("train",), ("test",), "holds train with folders of classes inside, and test without"),
        (("train", "test"), ("cat",), "holds test, train with folders of classes inside, and cat without"),
        ((), ("train", "test"), "holds no folder with folders of classes inside, and test, train without"),
    ],
)
def test_folders_that_make_no_sense_together(parts, plain, words, fill, tmp_path):
    for name in parts:
        fill(name)
    for name in plain:
        unlabelled(tmp_path / "set", name)
    with pytest.raises(UserError, match=words):
        load(tmp_path / "set")


def test_a_class_that_is_only_tested(fill):
    fill("train")
    root = fill("test", classes=["bright", "dim"])
    with pytest.raises(UserError, match="test holds dim, which .*train does not"):
        load(root)


def test_a_class_need_not_be_in_every_part(fill):
    fill("train")
    root = fill("test", classes=["bright"])
    assert set(load(root).test.targets.tolist()) == {0}


def test_one_class_is_no_task(fill):
    root = fill("train", classes=["bright"])
    with pytest.raises(UserError, match="needs 2 classes"):
        load(root)
