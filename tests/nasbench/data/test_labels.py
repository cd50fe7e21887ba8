"""Labels of a user's arrays: every output of a network is a class that something trains, or it is refused."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from nasbench.data import load_data
from nasbench_registry import UserError

COUNT = 120
IMAGES = np.random.default_rng(0).integers(0, 255, (COUNT, 1, 6, 6)).astype(np.uint8)
THIRDS = np.arange(COUNT) % 3


@pytest.fixture
def load(tmp_path):
    def write_and_load(images=IMAGES, labels=THIRDS, classes=None, **options):
        metadata = {"classes": json.dumps(classes)} if classes else None
        save_file({"images": images, "labels": labels}, tmp_path / "d.safetensors", metadata=metadata)
        return load_data("arrays", path=tmp_path / "d.safetensors", **options)

    return write_and_load


@pytest.mark.parametrize(
    "numbers",
    [(0, 1, 7), (1_002_345, 1_002_346, 1_002_347), (900_000_000, 900_000_001, 900_000_002), (5, 40, 2**62)],
)
@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_any_numbers_are_classes_in_their_order(numbers, kind, load):
    data = load(labels=np.array(numbers, dtype=kind)[THIRDS])
    assert data.labels == tuple(map(str, numbers))
    assert data.task.classes == 3
    for part in (data.train, data.val, data.test):
        assert set(part.targets.tolist()) == {0, 1, 2}


def test_every_image_keeps_its_class(load):
    images = np.zeros((COUNT, 1, 2, 2), np.float32) + np.array([3.0, 5.0, 9.0])[THIRDS].reshape(-1, 1, 1, 1)
    data = load(images.astype(np.float32), np.array([70, 4, 12])[THIRDS])
    raw = data.train.examples[:, 0, 0, 0] * data.std[0] + data.mean[0]
    assert data.labels == ("4", "12", "70")
    np.testing.assert_allclose(raw, np.array([5.0, 9.0, 3.0])[data.train.targets], rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (np.where(THIRDS == 2, -1, THIRDS), None, "40 of 120 labels are negative, down to -1"),
        (THIRDS.astype(np.float32), None, "labels are float32; store them as integers"),
        (THIRDS == 1, None, "labels are bool; store them as integers"),
        (np.zeros(COUNT, np.int64), None, "has 1 class.*needs 2 or more"),
        (THIRDS, ["a", "b", "c", "d"], "names 4 classes, and no image is of 1 of them .d."),
        (np.array([0, 1, 7])[THIRDS], ["a", "b", "c"], "labels go up to 7, .* names 3 classes"),
        (THIRDS, ["a", "b", "a"], "names 'a' twice"),
        (np.arange(COUNT), None, "no validation images"),
        (np.eye(3, dtype=np.int64)[THIRDS], None, r"labels \(120, 3\) must be"),
    ],
)
def test_labels_that_are_refused(labels, classes, words, load):
    with pytest.raises(UserError, match=words):
        load(labels=labels, classes=classes)


def test_a_class_without_a_training_image(load):
    labels = np.concatenate([THIRDS[:-1], [9]])
    with pytest.raises(UserError, match=r"no training image of 1 of its 4 classes \(9\)"):
        load(labels=labels, val_share=0.5, test_share=0.2)  # half of one image is one


FLOATS = IMAGES.astype(np.float32) / 255


def with_pixels(*values):
    images = FLOATS.astype(np.float64)
    images.reshape(-1)[: len(values)] = values
    images[7, 0, 0, 0] = values[0]
    return images


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (with_pixels(np.nan, np.inf, -np.inf), "4 pixels in 2 of 120 images that are NaN or infinite"),
        (with_pixels(1e300), "2 pixels in 2 of 120 images .* too large for float32"),
        (IMAGES > 100, "images are bool; store them as uint8 or float32"),
        (FLOATS.astype(np.complex64), "images are complex64; store them"),
        (IMAGES[:0], "not empty"),
        (IMAGES[:, :, :0], "not empty"),
        (IMAGES[:, 0], "must be .n, c, h, w."),
        (
            np.repeat(IMAGES, 3, 1).transpose(0, 2, 3, 1).copy(),
            r"look like \(n, height, width, channels",
        ),
    ],
)
def test_images_that_are_refused(images, words, load):
    with pytest.raises(UserError, match=words):
        load(images, THIRDS[: len(images)])


def test_bfloat16_images(tmp_path):
    file = tmp_path / "d.safetensors"
    images = torch.from_numpy(IMAGES // 2)  # whole numbers up to 127, which bfloat16 keeps
    read = []
    for kind in (torch.bfloat16, torch.float32):
        safetensors.torch.save_file({"images": images.to(kind), "labels": torch.from_numpy(THIRDS)}, file)
        read.append(load_data("arrays", path=file).train.examples)
    assert torch.equal(*read)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16, np.int16, np.float16, np.float64])
def test_any_type_of_number_gives_the_same_normalised_images(kind, load):
    data, as_bytes = load(IMAGES.astype(kind)), load(IMAGES)
    np.testing.assert_allclose(data.train.examples, as_bytes.train.examples, atol=1e-4)
    assert data.white == (255 if kind == np.uint8 else 1)


def test_a_file_that_may_not_be_read(load, tmp_path):
    for content in (b"", b"no tensors"):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="x.safetensors is not a safetensors file"):
            load_data("arrays", path=tmp_path / "x.safetensors")
