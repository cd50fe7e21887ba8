"""Data sets: which images are where, and what is refused."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from nasbench.data import DATASETS, Data, Split, check_data, fashion_mnist, folders, load_data
from nasbench.data.folders import data_folders
from nasbench_registry import UserError

PARTS = ("train", "val", "test")
FASHION = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
FASHION_HERE = any(
    all((folder / f"{file}-ubyte.gz").exists() for file in FASHION)
    for folder in (folders.FASHION, *(folder / "fashion-mnist" for folder in data_folders()))
)
needs_fashion = pytest.mark.skipif(
    not FASHION_HERE,
    reason="Fashion-MNIST is neither in /usr/share/datasets/fashion-mnist nor in NASBENCH_DATA's folder fashion-mnist",
)


def parts(data: Data) -> list[Split]:
    return [getattr(data, part) for part in PARTS]


def raw_images(data: Data, split: Split) -> torch.Tensor:
    """The images before normalisation, scaled to 0..1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return split.examples * std + mean


def in_one_line(error: UserError) -> str:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


class TestDigits:
    def test_sizes_and_types(self, digits) -> None:
        sizes = [len(part) for part in parts(digits)]
        assert sum(sizes) == 1797
        # Each class is divided by itself, so each of the ten may be off by half an image.
        assert sizes == pytest.approx([0.64 * 1797, 0.16 * 1797, 0.20 * 1797], abs=10)
        assert digits.task.input_shape == (1, 8, 8)
        assert digits.task.classes == len(digits.labels) == 10
        for part in parts(digits):
            assert part.examples.shape == (len(part), 1, 8, 8)
            assert part.examples.dtype == torch.float32
            assert part.targets.dtype == torch.int64

    def test_every_image_is_in_one_part(self, digits) -> None:
        raw = load_digits()
        known = [
            bytes((image.astype(np.uint8)).tobytes()) + bytes([label])
            for image, label in zip(raw.images, raw.target, strict=True)
        ]
        records = []
        for part in parts(digits):
            pixels = (raw_images(digits, part) * 16).round().to(torch.uint8).numpy()
            records += [
                image.tobytes() + bytes([label]) for image, label in zip(pixels, part.targets.tolist(), strict=True)
            ]
        assert sorted(records) == sorted(known)
        assert len(set(records)) == 1797  # so none can be in two parts

    def test_each_class_is_divided_alike(self, digits) -> None:
        counts = np.array([np.bincount(part.targets, minlength=10) for part in parts(digits)])
        shares = counts / counts.sum(axis=0)
        smallest = counts.sum(axis=0).min()
        np.testing.assert_allclose(shares, np.repeat([[0.64], [0.16], [0.20]], 10, axis=1), atol=1 / smallest)

    def test_normalised_by_the_training_images(self, digits) -> None:
        train = digits.train.examples.double()
        assert train.mean().item() == pytest.approx(0, abs=1e-5)
        assert train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        raw = load_digits().images / 16
        assert 0 < abs(digits.mean[0] - raw.mean()) < 0.01  # of the training images, not of all
        for part in parts(digits):
            unscaled = raw_images(digits, part)
            assert unscaled.min() > -1e-5
            assert unscaled.max() < 1 + 1e-5

    def test_the_order_is_mixed(self, digits) -> None:
        for part in parts(digits):
            assert len(set(part.targets[:30].tolist())) > 5

    def test_the_same_in_every_call_and_whatever_was_drawn_before(self, digits) -> None:
        np.random.seed(5)  # the global generator is what this is about
        torch.manual_seed(5)
        states = np.random.get_state()[1].tolist(), torch.get_rng_state()
        again = DATASETS["digits"]()
        assert np.random.get_state()[1].tolist() == states[0]
        assert torch.equal(torch.get_rng_state(), states[1])
        for first, second in zip(parts(digits), parts(again), strict=True):
            assert torch.equal(first.examples, second.examples)
            assert torch.equal(first.targets, second.targets)

    def test_the_same_in_another_process(self, digits) -> None:
        code = "from nasbench.data import load_data; print(load_data('digits').test.targets.tolist())"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(answer.stdout) == digits.test.targets.tolist()

    def test_read_once(self, digits) -> None:
        assert load_data("digits") is digits


@pytest.fixture(scope="module")
def fashion() -> Data:
    return fashion_mnist.fashion_mnist()


class TestNames:
    @pytest.mark.parametrize("check", [check_data, load_data])
    def test_unknown_data_set(self, check) -> None:
        with pytest.raises(UserError, match=r"unknown data set 'digit'.*Did you mean 'digits'"):
            check("digit")

    @pytest.mark.parametrize("check", [check_data, load_data])
    def test_unknown_option(self, check) -> None:
        with pytest.raises(
            UserError, match=r"unknown option 'train_image' of data set 'fashion_mnist'.*'train_images'"
        ):
            check("fashion_mnist", train_image=3)
        with pytest.raises(UserError, match="unknown option 'share' of data set 'digits'"):
            check("digits", share=3)

    def test_a_check_loads_nothing(self, tmp_path) -> None:
        assert check_data("arrays", path=str(tmp_path / "missing.safetensors")) is None

    def test_missing_or_useless_option(self) -> None:
        for options in ({}, {"path": 3}, {"path": "x.safetensors", "val_share": "much"}):
            with pytest.raises(UserError, match="data set 'arrays'") as caught:
                load_data("arrays", **options)
            in_one_line(caught.value)


@needs_fashion
class TestFashionMNIST:
    def test_sizes(self, fashion) -> None:
        assert [len(part) for part in parts(fashion)] == [55_000, 5_000, 10_000]
        assert fashion.task.input_shape == (1, 28, 28)
        assert len(fashion.labels) == 10
        for part in parts(fashion):
            counts = np.bincount(part.targets)
            assert len(counts) == 10
            assert counts.max() == counts.min()  # the data set is balanced, and so is every part

    def test_normalised_by_the_training_images(self, fashion) -> None:
        assert fashion.train.examples.mean().item() == pytest.approx(0, abs=1e-3)
        assert fashion.train.examples.std().item() == pytest.approx(1, abs=1e-3)
        assert fashion.mean[0] == pytest.approx(0.286, abs=0.001)  # the well-known values, of all 60,000
        assert fashion.std[0] == pytest.approx(0.353, abs=0.001)

    def test_the_test_images_are_the_papers_in_their_order(self, fashion) -> None:
        assert fashion.test.targets[:5].tolist() == [9, 2, 1, 1, 6]

    def test_fewer_training_images(self, fashion) -> None:
        few = fashion_mnist.fashion_mnist(train_images=200)
        assert [len(part) for part in parts(few)] == [200, 5_000, 10_000]
        assert np.bincount(few.train.targets).tolist() == [20] * 10
        assert torch.equal(few.val.targets, fashion.val.targets)
        assert torch.equal(few.test.targets, fashion.test.targets)
        pixels = {
            image.tobytes() for image in (raw_images(fashion, fashion.train) * 255).round().to(torch.uint8).numpy()
        }
        chosen = (raw_images(few, few.train) * 255).round().to(torch.uint8).numpy()
        assert all(image.tobytes() in pixels for image in chosen)

    @pytest.mark.parametrize("train_images", [0, 9, 55_001, -1])
    def test_too_few_or_too_many(self, train_images) -> None:
        with pytest.raises(UserError, match=f"train_images={train_images} .* from 10 to 55000"):
            fashion_mnist.fashion_mnist(train_images=train_images)

    def test_fewer_validation_images(self, fashion) -> None:
        few = fashion_mnist.fashion_mnist(val_images=500)
        assert [len(part) for part in parts(few)] == [55_000, 500, 10_000]
        assert np.bincount(few.val.targets).tolist() == [50] * 10
        assert torch.equal(few.train.targets, fashion.train.targets)
        with pytest.raises(UserError, match="val_images=5001 .* from 10 to 5000"):
            fashion_mnist.fashion_mnist(val_images=5_001)


class TestFashionMNISTFiles:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch) -> Path:
        """The only place that is searched."""
        monkeypatch.setattr(folders, "FASHION", tmp_path / "not-installed")
        monkeypatch.setenv("NASBENCH_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        folder = tmp_path / "data" / "fashion-mnist"
        folder.mkdir(parents=True)
        return folder

    def write(self, folder: Path, images: int = 60) -> None:
        rng = np.random.default_rng(0)
        for file in FASHION:
            shape = (images, 28, 28) if "images" in file else (images,)
            values = rng.integers(0, 256, shape) if "images" in file else np.arange(images) % 10
            head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            (folder / f"{file}-ubyte.gz").write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))

    def test_missing(self, folder) -> None:
        with pytest.raises(UserError) as caught:
            load_data("fashion_mnist")
        text = in_one_line(caught.value)
        assert str(folder) in text
        assert "dataset-fashion-mnist" in text

    def test_read_from_the_folder_that_nasbench_data_names(self, folder) -> None:
        self.write(folder)
        data = fashion_mnist.fashion_mnist()
        assert [len(part) for part in parts(data)] == [50, 10, 60]  # one of six of each class validates
        assert data.test.targets.tolist() == (np.arange(60) % 10).tolist()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[:-20],
            lambda data: b"no gzip",
            lambda data: gzip.compress(b"no IDX"),
            lambda data: gzip.compress(gzip.decompress(data)[:-5]),
            lambda data: b"",
        ],
        ids=["cut", "no gzip", "no IDX", "too few bytes", "empty"],
    )
    def test_damaged(self, folder, damage) -> None:
        self.write(folder)
        file = folder / "t10k-images-idx3-ubyte.gz"
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(UserError, match="fetch it again") as caught:
            fashion_mnist.fashion_mnist()
        assert str(file) in in_one_line(caught.value)


class TestArrays:
    images = torch.arange(90 * 2 * 4 * 5, dtype=torch.float32).reshape(90, 2, 4, 5) % 251
    labels = torch.arange(90) % 3

    def write(self, folder: Path, metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> str:
        path = folder / "mine.safetensors"
        save_file({"images": self.images, "labels": self.labels} | tensors, path, metadata=metadata)
        return str(path)

    def test_bytes_and_floats_are_the_same_images(self, tmp_path) -> None:
        as_bytes = DATASETS["arrays"](path=self.write(tmp_path, images=self.images.to(torch.uint8)))
        as_floats = DATASETS["arrays"](path=self.write(tmp_path, images=self.images / 255))
        for byte_part, float_part in zip(parts(as_bytes), parts(as_floats), strict=True):
            torch.testing.assert_close(byte_part.examples, float_part.examples)
            assert torch.equal(byte_part.targets, float_part.targets)
        assert as_bytes.task.input_shape == (2, 4, 5)
        assert max(as_bytes.mean) < 1

    def test_every_image_is_in_one_part(self, tmp_path) -> None:
        numbered = torch.arange(90, dtype=torch.float32)[:, None, None, None].expand(90, 1, 2, 2).contiguous()
        data = DATASETS["arrays"](path=self.write(tmp_path, images=numbered), val_share=0.2, test_share=0.3)
        assert [len(part) for part in parts(data)] == [45, 18, 27]
        part_numbers = [raw_images(data, part)[:, 0, 0, 0].round().long() for part in parts(data)]
        assert sorted(torch.cat(part_numbers).tolist()) == list(range(90))
        for numbers, part in zip(part_numbers, parts(data), strict=True):
            assert torch.equal(self.labels[numbers], part.targets)
            assert len(set(np.bincount(part.targets).tolist())) == 1

    def test_the_split_is_decided_by_its_seed(self, tmp_path) -> None:
        path = self.write(tmp_path)
        first, again, another_seed = (DATASETS["arrays"](path=path, split_seed=seed).val.examples for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, another_seed)

    def test_class_names(self, tmp_path) -> None:
        names = ["ant", "bee", "cicada"]
        data = DATASETS["arrays"](path=self.write(tmp_path, {"classes": json.dumps(names)}))
        assert data.labels == tuple(names)
        assert data.task.classes == 3
        assert DATASETS["arrays"](path=self.write(tmp_path)).labels == ("0", "1", "2")

    def test_a_constant_channel_is_harmless(self, tmp_path) -> None:
        images = self.images.clone()
        images[:, 1] = 7
        data = DATASETS["arrays"](path=self.write(tmp_path, images=images))
        assert data.train.examples.isfinite().all()
        assert data.train.examples[:, 1].abs().max() < 1

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"images": images[:, 0].contiguous()}, "must be"),
            ({"labels": labels[:-1]}, "must be"),
            ({"labels": labels[:, None].contiguous()}, "must be"),
            ({"images": images[:0], "labels": labels[:0]}, "not empty"),
            ({"labels": labels + 0.5}, "labels are float32"),
            ({"labels": labels - 1}, "30 of 90 labels are negative, down to -1"),
            ({"images": images * torch.nan}, "3,600 pixels in 90 of 90 images that are NaN or infinite"),
            ({"images": images[:3], "labels": labels[:3]}, "no validation images"),
        ],
    )
    def test_tensors_that_are_refused(self, tensors, words, tmp_path) -> None:
        path = self.write(tmp_path, **tensors)
        with pytest.raises(UserError, match=words) as caught:
            load_data("arrays", path=path)
        in_one_line(caught.value)

    @pytest.mark.parametrize("classes", ["no JSON", '"ant"', '{"ant": 0}', "[1, 2, 3]", '["ant", "bee"]'])
    def test_class_names_that_are_refused(self, classes, tmp_path) -> None:
        with pytest.raises(UserError, match=r"classes|metadata") as caught:
            load_data("arrays", path=self.write(tmp_path, {"classes": classes}))
        assert "mine.safetensors" in in_one_line(caught.value)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"val_share": 0}, "val_share=0"),
            ({"test_share": -0.1}, "test_share=-0.1"),
            ({"val_share": 0.5, "test_share": 0.5}, "less than 1"),
            ({"split_seed": -1}, "split_seed=-1"),
        ],
    )
    def test_options_that_are_refused(self, options, words, tmp_path) -> None:
        with pytest.raises(UserError, match=words):
            load_data("arrays", path=self.write(tmp_path), **options)

    def test_files_that_are_refused(self, tmp_path) -> None:
        text = tmp_path / "text.safetensors"
        text.write_text("no tensors")
        pictures = tmp_path / "other.safetensors"
        save_file({"pictures": self.images}, pictures)
        cases = [
            (text, "not a safetensors file"),
            (pictures, "holds pictures"),
            (tmp_path, "no file"),
            (tmp_path / "x", "no file"),
        ]
        for path, words in cases:
            with pytest.raises(UserError, match=words) as caught:
                load_data("arrays", path=str(path))
            assert str(path) in in_one_line(caught.value)


def test_images_and_labels_are_the_examples_and_targets_of_classifiers():
    part = load_data("digits").val
    assert torch.equal(part.images, part.examples) and part.images.dtype == torch.float32
    assert torch.equal(part.labels, part.targets)
