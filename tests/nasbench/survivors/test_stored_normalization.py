"""A stored model is judged on images normalised as it knows them, in any unit, whatever became of its data."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

import nasbench as nb
from nasbench.models import load_model, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.origin import origin_of
from nasbench.survivors.stored import workbench
from nasbench_registry import UserError
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

SPACE = {"widths": [8, 16], "layers": 1}
KINDS = {
    "digits": None,
    "bytes": lambda pixels: (pixels * 15).astype(np.uint8),
    "sixteen bits": lambda pixels: (pixels * 4000).astype(np.uint16),
    "floats": lambda pixels: (pixels / 16).astype(np.float32),
}


@pytest.fixture
def write(tmp_path):
    """Write digits as arrays of a kind; the problem that they make."""
    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8)

    def make(kind, count=600, brighter=0.0, classes=None):
        if KINDS[kind] is None:
            return nb.image_classification("digits", epochs=2)
        file = tmp_path / "d.safetensors"
        raw = KINDS[kind](np.clip(images[:count] + brighter, 0, 16))
        metadata = None if classes is None else {"classes": classes}
        save_file({"images": raw, "labels": labels[:count].astype(np.int64)}, file, metadata=metadata)
        return nb.image_classification("arrays", path=str(file), epochs=2)

    return make


def store(problem, folder):
    space = get_space("mobile", **SPACE)
    arch = space.sample(np.random.default_rng(0))
    network = fresh_model(space, arch, problem.task, 0)
    problem.fit(network, seed=0)
    build = SpaceBuild("mobile", SPACE, arch)
    save_model(folder, network, build=build, task=problem.task, origin=origin_of(problem))
    return problem.score(network, "val")["val_acc_pct"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_accuracy_is_the_one_that_training_found(kind, write, tmp_path):
    problem = write(kind)
    accuracy = store(problem, tmp_path / "model")
    stored = load_model(tmp_path / "model")
    bench = workbench(stored, tmp_path / "model", 0)
    assert bench.validate(stored.model) == accuracy
    np.testing.assert_array_equal(bench.problem.data.val.examples, problem.data.val.examples)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_other_images_are_normalised_as_before(kind, write, tmp_path):
    before = write(kind).data
    store(write(kind), tmp_path / "model")
    after = write(kind, brighter=2.0).data
    assert after.mean != before.mean
    data = workbench(load_model(tmp_path / "model"), tmp_path / "model", 0).problem.data
    assert data.mean == pytest.approx(before.mean)
    assert data.std == pytest.approx(before.std)
    raw = np.float32(after.mean[0]) + after.train.examples.numpy() * np.float32(after.std[0])
    np.testing.assert_allclose(data.train.examples, (raw - before.mean[0]) / before.std[0], atol=1e-4)


def test_other_classes_are_refused(write, tmp_path):
    store(write("bytes"), tmp_path / "model")
    write("bytes", classes='["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]')
    with pytest.raises(UserError, match="was made for the classes 0, 1, 2, .* now has a, b, c"):
        workbench(load_model(tmp_path / "model"), tmp_path / "model", 0)
