"""The README of an artefact makes of a user's raw pixels what the network was trained on; it is executed here."""

import contextlib
import json
import re
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from torch import nn

from nasbench.data import load_data
from nasbench.models import save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.origin import origin_of
from nasbench.problems.image_classification import ImageClassification
from nasbench_compression import get_backend
from search_spaces import get_space

COUNT = 60
LABELS = np.arange(COUNT) % 3
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (COUNT, 1, 8, 8))
COLOUR = RANDOM.integers(0, 256, (COUNT, 3, 8, 8))

ARRAYS = {
    "uint8, grey": GREY.astype(np.uint8),
    "uint8, colour": COLOUR.astype(np.uint8),
    "float from 0 to 1": (COLOUR / 255).astype(np.float32),
    "float from 0 to 255": GREY.astype(np.float32),
    "float around 0": (GREY / 100 - 1.3).astype(np.float64),
    "uint16": (GREY * 257).astype(np.uint16),
    "int16 with a sign": (GREY * 100 - 12800).astype(np.int16),
}


def deploy(name, options, folder):
    """An artefact of a network for a data set, and the images that the data set gives."""
    data = load_data(name, **options)
    channels, height, width = data.task.input_shape
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, len(data.labels))).eval()
    compiled = get_backend("onnxruntime").compile(network, data.train.examples[:1], "fp32", data.train.examples)
    problem = ImageClassification(data, data_source={"name": name, **options})
    space = get_space("mobile")
    build = SpaceBuild("mobile", {}, space.sample(np.random.default_rng(0)))
    save_model(folder, compiled, build=build, task=data.task, origin=origin_of(problem))
    parts = torch.cat([part.examples for part in (data.train, data.val, data.test)])
    return parts.numpy(), compiled(parts.numpy())


def executed(folder, variables):
    """The images and the logits of what the README says."""
    before, after = (folder / "README.md").read_text().split("## Images and labels")
    (run,) = re.findall(r"```python\n(.*?)```", before, flags=re.DOTALL)
    lines = [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("    ") or not line]
    names = dict(variables)
    with contextlib.chdir(folder):
        exec(textwrap.dedent("\n".join(lines)), names)
        exec(run, names)
    return names["images"], names["logits"]


def in_order(rows):
    """Rows in an order of their own, for a data set divides its images by chance."""
    flat = rows.reshape(len(rows), -1)
    return flat[np.argsort(flat @ np.random.default_rng(1).standard_normal(flat.shape[1]))]


def check(name, options, folder, variables):
    images, logits = deploy(name, options, folder)
    readme_images, readme_logits = executed(folder, variables)
    assert readme_images.dtype == np.float32
    np.testing.assert_allclose(in_order(readme_images), in_order(images), atol=1e-4)
    np.testing.assert_allclose(np.sort(readme_logits, axis=0), np.sort(logits, axis=0), atol=1e-3)


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_type(kind, tmp_path):
    file = tmp_path / "images.safetensors"
    save_file({"images": ARRAYS[kind], "labels": LABELS}, file)
    check("arrays", {"path": str(file)}, tmp_path, {"pixels": ARRAYS[kind]})


def test_a_data_set_with_a_white_of_its_own(tmp_path):
    check("digits", {}, tmp_path, {"pixels": load_digits().images[:, None]})


def with_transparency(pixels, file):
    alpha = np.linspace(0, 255, pixels.shape[1] * pixels.shape[2]).reshape(pixels.shape[1:])
    Image.fromarray(np.concatenate([pixels, alpha[None]]).transpose(1, 2, 0).astype(np.uint8)).save(file)


def turned(pixels, file):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).save(file, exif=exif)


def plain(pixels, file):
    Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).save(file)


FILES = {
    "grey": (1, {}, lambda pixels, file: Image.fromarray(pixels[0].astype(np.uint8)).save(file)),
    "colour as grey": (1, {}, plain),
    "colour, not square": (3, {"size": [6, 11]}, plain),
    "colour, padded": (3, {"size": [6, 11], "resize": "pad", "background": 0.25}, plain),
    "grey, padded": (1, {"size": [11, 6], "resize": "pad", "background": 0.5}, plain),
    "colour, stretched": (3, {"size": [6, 11], "resize": "stretch"}, plain),
    "16 bits": (3, {}, lambda pixels, file: Image.fromarray((pixels[0] * 257).astype(np.uint16)).save(file)),
    "floating point": (
        1,
        {},
        lambda pixels, file: Image.fromarray((pixels[0] / 255).astype(np.float32)).save(file.with_suffix(".tiff")),
    ),
    "transparent": (3, {"background": 0.25}, with_transparency),
    "turned by its tag": (3, {"size": [5, 9]}, turned),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_kind(kind, tmp_path):
    channels, options, write = FILES[kind]
    for number, (pixels, label) in enumerate(zip(COLOUR, LABELS, strict=True)):
        place = tmp_path / "images" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        write(pixels, place / f"{number}.png")
    options = {"path": str(tmp_path / "images"), "channels": channels, "size": [8, 8], **options}
    paths = [path for path in (tmp_path / "images").rglob("*") if path.is_file()]
    check("image_folder", options, tmp_path, {"paths": paths})


def test_model_json_tells_the_same_formula(tmp_path):
    file = tmp_path / "images.safetensors"
    save_file({"images": ARRAYS["float from 0 to 1"], "labels": LABELS}, file)
    images, _ = deploy("arrays", {"path": str(file)}, tmp_path / "model")
    normalization = json.loads((tmp_path / "model" / "model.json").read_text())["normalization"]
    pixels = ARRAYS["float from 0 to 1"]
    mean, std = (np.array(normalization[name])[:, None, None] for name in ("mean", "std"))
    assert normalization["formula"] == "(pixels / 255 - mean) / std"
    np.testing.assert_allclose(in_order((pixels / 255 - mean) / std), in_order(images), atol=1e-4)
