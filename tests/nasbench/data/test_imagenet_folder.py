"""ImageNet in each of its layouts, small: three synsets, of which two are called crane."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import nasbench as nb
from nasbench.data import registry
from nasbench.data.encoded import EncodedImages
from nasbench.models.normalization import in_words
from nasbench_registry import UserError

SYNSETS = {"n01": "tench, Tinca tinca", "n02": "crane", "n03": "crane"}


def save(path, level):
    """A grey image whose level says of which synset it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (level,) * 3).save(path)


def train(root):
    for level, synset in enumerate(SYNSETS):
        for number in range(10):
            save(root / f"train/{synset}/{synset}_{number}.JPEG", 40 + 80 * level)


def val(root, place):
    """Six images, two of each synset in turn, in the folder that `place` gives for an image and its synset."""
    for number in range(6):
        level = number % 3
        save(root / "val" / place(f"ILSVRC2012_val_{number + 1:08d}.JPEG", list(SYNSETS)[level]), 40 + 80 * level)


def devkit(root, words=True):
    place = root / "ILSVRC2012_devkit_t12/data"
    place.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    order = [(1, "n03"), (2, "n01"), (3, "n02"), (1001, "n99")]
    rows = [(number, synset, SYNSETS.get(synset, "group")) for number, synset in order]
    savemat(place / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    (place / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n3\n1\n" * 2)


def kaggle(root):
    lines = [f"ILSVRC2012_val_{number + 1:08d},{list(SYNSETS)[number % 3]} 1 2 3 4" for number in range(6)]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(lines) + "\n")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{synset} {words}\n" for synset, words in SYNSETS.items()))


def load(root, **options):
    registry._cache.clear()
    return nb.image_classification("imagenet_folder", path=str(root), size=[8, 8], val_share=0.2, **options).data


def check(data):
    """The official validation images test; each image is of the class that its level says."""
    assert [len(part) for part in (data.train, data.val, data.test)] == [24, 6, 6]
    for part in (data.train, data.val, data.test):
        levels = part.inputs[0][:].float().mean((1, 2, 3))
        assert torch.equal(((levels - 40) / 80).round().long(), part.labels)


@pytest.mark.parametrize("layout", ["folders", "devkit", "kaggle"])
def test_each_layout(layout, tmp_path):
    train(tmp_path)
    val(tmp_path, lambda file, synset: f"{synset}/{file}" if layout == "folders" else file)
    {"folders": lambda root: None, "devkit": devkit, "kaggle": kaggle}[layout](tmp_path)
    data = load(tmp_path)
    check(data)
    known = ("tench (n01)", "crane (n02)", "crane (n03)")
    assert data.labels == (tuple(SYNSETS) if layout == "folders" else known)


def test_a_file_of_words(tmp_path):
    train(tmp_path)
    val(tmp_path, lambda file, synset: f"{synset}/{file}")
    (tmp_path / "names").write_text("n01 fish\nn02 bird, big bird\nn03 machine\n")
    assert load(tmp_path, words=str(tmp_path / "names")).labels == ("fish", "bird", "machine")
    (tmp_path / "names").write_text("n01\n")
    with pytest.raises(UserError, match="has the line 'n01' without words"):
        load(tmp_path, words=str(tmp_path / "names"))


def test_many_images_stay_encoded(tmp_path, monkeypatch):
    train(tmp_path)
    val(tmp_path, lambda file, synset: f"{synset}/{file}")
    decoded = load(tmp_path)
    monkeypatch.setattr("nasbench.data.encoded.IN_MEMORY_BYTES", 0)
    encoded = load(tmp_path)
    assert isinstance(encoded.train.inputs[0], EncodedImages)
    check(encoded)
    assert torch.equal(encoded.train.inputs[0][:], decoded.train.inputs[0])
    assert encoded.mean == decoded.mean and encoded.std == decoded.std
    monkeypatch.setattr("nasbench.data.encoded.SCALED_BY", 8)
    assert len(encoded.train.inputs[0].representative()) == 8
    before = encoded.digest
    save(tmp_path / "train/n01/n01_3.JPEG", 41)
    assert load(tmp_path).digest != before
    (tmp_path / "train/n01/n01_4.JPEG").write_bytes(b"no image")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(UserError, match=r"n01_4\.JPEG is not an image that can be read"):
            [part.inputs[0][:] for part in (load(tmp_path).train, load(tmp_path).val)]
    finally:
        torch.set_num_threads(threads)


def test_the_readme_of_an_artefact_reads_files_as_training_did():
    text = in_words({"mean": [1.0] * 3, "std": [2.0] * 3, "white": 255}, {"name": "imagenet_folder"}, (3, 8, 8))
    assert "ImageOps.fit(image, (8, 8), Image.Resampling.BILINEAR)" in text and 'convert("RGB")' in text


def without_truth(root):
    val(root, lambda file, synset: file)


def short_truth(root):
    val(root, lambda file, synset: file)
    devkit(root)
    (root / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt").write_text("2\n3\n")


def strange_synset(root):
    val(root, lambda file, synset: f"{synset}x/{file}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "has no folder val"),
        (without_truth, "6 images without folders, and their classes are nowhere"),
        (short_truth, "has 2 classes for 6 images"),
        (strange_synset, "holds n01x, n02x, n03x, which"),
    ],
)
def test_what_is_missing_is_one_sentence(make, message, tmp_path):
    train(tmp_path)
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path)
