"""What is wrong with data of a user's own is one sentence, before anything is trained."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

import nasbench as nb
from nasbench_registry import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 1, 6, 6)).astype(np.uint8)
LABELS = np.arange(60) % 3
NAMES = np.array(["cat", "dog", "hen"])[LABELS]
ROWS = RNG.normal(size=(60, 4)).astype(np.float32)
VALUES = RNG.normal(size=60)
MASKS = RNG.integers(0, 3, (60, 6, 6))


class Examples(Dataset):
    def __init__(self, read, count=60):
        self.read, self.count = read, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.read(number)


def without(array, value, share=0.1):
    """The array with a value in a tenth of its places, as floating point numbers or objects."""
    kind = object if value is None else np.float64
    return np.where(RNG.random(array.shape) < share, value, array.astype(kind))


def fails():
    raise FileNotFoundError("no photos.npy")


CLASSES = [
    ((IMAGES, LABELS + 0.5), {}, "labels such as 0.5, which number no class"),
    ((IMAGES, without(LABELS, np.nan)), {}, "labels such as nan, which number no class"),
    ((IMAGES, without(LABELS, None)), {}, "of 60 labels that are None; leave examples without one out"),
    ((IMAGES, LABELS - 1), {}, "20 of 60 labels are negative, down to -1"),
    ((IMAGES, LABELS.astype(np.uint64) + 2**63), {}, "has the label 9223372036854775810"),
    ((IMAGES, LABELS * 1j), {}, "labels of type complex128"),
    ((IMAGES, np.eye(3)[LABELS]), {}, "targets of shape (60, 3), and classification needs one for each example"),
    ((IMAGES, MASKS), {}, "targets of shape (60, 6, 6), and classification needs one for each example"),
    ((IMAGES, LABELS), {"labels": ["a", "b"]}, "labels from 0 to 2; with 2 classes they must be from 0 to 1"),
    ((IMAGES, LABELS), {"labels": ["a", "b", "c", "d"]}, "no training image of 1 of its 4 classes (d)"),
    ((IMAGES, LABELS), {"labels": ["a", "b", "a"]}, "name 'a' twice"),
    ((IMAGES, LABELS), {"labels": "abc"}, "labels='abc' of data set '<given>' must be a list of names"),
    ((IMAGES, LABELS), {"val_share": "a third"}, "val_share='a third' of data set '<given>' must be a number"),
    ((IMAGES, LABELS * 0), {}, "1 class(es); a classification task needs 2 or more"),
    ((IMAGES, LABELS[:9]), {}, "shapes (60, 1, 6, 6), (9,); give as many of one as of the other"),
    ((IMAGES[:0], LABELS[:0]), {}, "a train part without examples"),
    ((IMAGES[:3], LABELS[:3]), {}, "leaves no validation images"),
    ((without(IMAGES, np.nan), LABELS), {}, "that are NaN or infinite"),
    ((IMAGES * 1j, LABELS), {}, "inputs of type complex128; give numbers"),
    ({"train": (IMAGES, LABELS), "test": (IMAGES[:, :, :3], LABELS)}, {}, "and test inputs of shape (1, 3, 6)"),
    ({"train": (IMAGES, LABELS), "val": (IMAGES / 255, LABELS)}, {}, "and validation inputs of shape (1, 6, 6) and"),
    ({"train": (IMAGES, LABELS), "test": (IMAGES, LABELS + 1)}, {}, "no training image of 1 of its 4 classes (3)"),
    ({"train": (IMAGES, LABELS), "test": (IMAGES, NAMES)}, {}, "targets of another shape or type in one part"),
    (Examples(lambda number: (IMAGES[number], LABELS[number]), 0), {}, "a train part without examples"),
    (Examples(lambda number: (IMAGES[number, :, number % 2 :], 0)), {}, "differ in shape"),
    (
        Examples(lambda number: IMAGES[number + 100]),
        {},
        "example 0 of the train part cannot be read (IndexError: index",
    ),
    (Examples(lambda number: {"image": 1}), {}, "example 0 of the train part is a dict"),
    (fails, {}, "the function fails gives no data (FileNotFoundError: no photos.npy, in line"),
]
MASKED = [
    (MASKS[:, :3], "images of 6x6 pixels with masks of 3x6"),
    (MASKS[:, None], "masks of shape (60, 1, 6, 6), and segmentation needs a class for each pixel"),
    (LABELS, "masks of shape (60,), and segmentation needs a class for each pixel"),
    (MASKS + 0.5, "labels such as"),
    (MASKS - 1, "pixels below 0; number classes from 0, and write 255 where none is asked for"),
    (255 * (MASKS > 0), "masks of nothing but 0 and 255"),
]
NUMBERS = [
    ((ROWS, without(VALUES, np.nan)), "target values that are NaN or infinite"),
    ((without(ROWS, np.inf), VALUES), "that are NaN or infinite"),
    ((ROWS, NAMES), "targets such as 'cat', and regression needs numbers"),
    ((ROWS, VALUES * 1j), "and regression needs numbers"),
    ((ROWS, 0 * VALUES + 7), "is 7 in every training example, so there is nothing to learn"),
    ((ROWS, np.stack([VALUES, 0 * VALUES], 1)), "target 1 of data set '<given>' is 0 in every training example"),
    (([[1.0, 2.0], [3.0]], [1.0, 2.0]), "a list that is no array"),
    (ROWS, "gives a ndarray; give (inputs, targets), a torch Dataset, or a dict"),
    (None, "gives a NoneType"),
]


def check(make, message):
    with pytest.raises(UserError) as refused:
        make()
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("data", "options", "message"), CLASSES, ids=[message for *_, message in CLASSES])
def test_classes(data, options, message):
    check(lambda: nb.image_classification(data, **options), message)


@pytest.mark.parametrize(("masks", "message"), MASKED, ids=[message for _, message in MASKED])
def test_masks(masks, message):
    check(lambda: nb.image_segmentation((IMAGES, masks)), message)


@pytest.mark.parametrize(("data", "message"), NUMBERS, ids=[message for _, message in NUMBERS])
def test_numbers(data, message):
    check(lambda: nb.regression(data), message)


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        NAMES.tolist(),
        NAMES.astype(object),
        LABELS.astype(float),
        LABELS[:, None],
        LABELS.astype(object),
        torch.tensor(LABELS),
    ],
)
def test_labels_that_name_or_number_three_classes(labels):
    data = nb.image_classification((IMAGES, labels)).data
    assert data.labels in (("cat", "dog", "hen"), ("0", "1", "2"))
    assert sorted(data.train.labels.unique().tolist()) == [0, 1, 2]


def test_what_a_users_code_raised_is_behind_the_sentence():
    with pytest.raises(UserError) as refused:
        nb.image_classification(fails)
    assert isinstance(refused.value.__cause__, FileNotFoundError)
