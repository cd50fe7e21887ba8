"""Data sets of the package `datasets`: saved to disk, parquet files, folders of images; without a network."""

import importlib.util
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import nasbench as nb
from nasbench.data import registry
from nasbench.data.encoded import EncodedImages
from nasbench_registry import UserError

INSTALLED = importlib.util.find_spec("datasets") is not None
LEVELS = np.random.default_rng(0).integers(0, 2, 40)


needs_it = pytest.mark.only_where(INSTALLED)


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The package, which keeps what it converts in a folder of the test."""
    import datasets as package

    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    registry._cache.clear()
    return package


def some(datasets, count=40):
    """Dark cats and bright dogs."""
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    pictures = [Image.new("L", (12, 10), 40 + 150 * int(level)) for level in LEVELS[:count]]
    return datasets.Dataset.from_dict({"picture": pictures, "kind": LEVELS[:count].tolist()}, features=features)


def saved(datasets, root):
    some(datasets).save_to_disk(root)


def saved_splits(datasets, root):
    datasets.DatasetDict({"train": some(datasets), "test": some(datasets, 10)}).save_to_disk(root)


def parquet(datasets, root):
    for file, count in {"train-00000-of-00001": 40, "validation-00000-of-00001": 10}.items():
        some(datasets, count).to_parquet(root / f"data/{file}.parquet")


def folder(datasets, root):
    for number, level in enumerate(LEVELS):
        place = root / "train" / ["cat", "dog"][level]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 10), 40 + 150 * int(level)).save(place / f"{number}.png")


@needs_it
@pytest.mark.parametrize(
    ("make", "sizes"),
    [(saved, [28, 6, 6]), (saved_splits, [34, 6, 10]), (parquet, [34, 10, 6]), (folder, [28, 6, 6])],
)
def test_images(make, sizes, datasets, tmp_path, monkeypatch):
    make(datasets, tmp_path / "set")

    def load():
        registry._cache.clear()
        return nb.image_classification("huggingface", path=str(tmp_path / "set"), size=[8, 8], channels=1).data

    decoded = load()
    assert decoded.labels == ("cat", "dog")
    assert [len(part) for part in (decoded.train, decoded.val, decoded.test)] == sizes
    assert torch.equal(decoded.train.inputs[0].float().mean((1, 2, 3)) > 100, decoded.train.labels.bool())
    monkeypatch.setattr("nasbench.data.encoded.IN_MEMORY_BYTES", 0)
    encoded = pickle.loads(pickle.dumps(load().train))
    assert isinstance(encoded.inputs[0], EncodedImages)
    assert torch.equal(encoded.inputs[0][:], decoded.train.inputs[0])


@needs_it
def test_columns_of_numbers(datasets, tmp_path):
    rng = np.random.default_rng(0)
    columns = {"age": rng.random(40), "rooms": rng.integers(1, 5, 40), "price": rng.random(40), "name": ["x"] * 40}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "homes.parquet")
    path = str(tmp_path / "homes.parquet")
    data = nb.regression("huggingface", path=path, target="price", inputs=["age", "rooms"]).data
    assert data.columns == ("age", "rooms") and data.train.inputs[0].shape == (28, 2)
    for options, message in [
        ({"target": "price"}, "column 'name' of data set 'huggingface:homes.parquet' holds no numbers"),
        ({}, "which of them is the target is not known"),
        ({"target": "prize"}, "Did you mean 'price'"),
    ]:
        with pytest.raises(UserError, match=message):
            nb.regression("huggingface", path=path, **options)


@needs_it
def test_tokens(datasets, tmp_path):
    tokens = np.arange(280).reshape(40, 7) % 9
    datasets.Dataset.from_dict({"ids": tokens.tolist(), "label": LEVELS.tolist()}).to_parquet(tmp_path / "t.parquet")
    (spec,) = nb.image_classification("huggingface", path=str(tmp_path / "t.parquet")).task.inputs
    assert (spec.shape, spec.dtype, spec.values) == ((7,), "int64", 9)


@needs_it
def test_what_is_no_data_set(datasets, tmp_path):
    with pytest.raises(UserError, match="there is no file in"):
        nb.image_classification("huggingface", path=str(tmp_path / "nothing"))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(UserError, match="is no data set that the package datasets reads"):
        nb.image_classification("huggingface", path=str(tmp_path))


@pytest.mark.only_where(not INSTALLED)
def test_without_the_package(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"needs the package datasets; install nasbench-framework\[huggingface\]"):
        nb.image_classification("huggingface", path=str(tmp_path))
