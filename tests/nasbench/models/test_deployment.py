"""A folder with an artefact can be run, and checked, by somebody without this project."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.models import Origin, load_compiled, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.deployment import artefact_files
from nasbench_compression import BACKENDS, get_backend
from search_spaces import Task, get_space

QUICK = ("onnxruntime", "openvino")
NORMALIZATION = {"mean": [0.25], "std": [0.5], "labels": ["zero", "one", "two"]}


def case(name: str):
    backend = BACKENDS[name]
    marks = [pytest.mark.only_where(backend.why_unavailable() is None)]
    return pytest.param(name, marks=marks if name in QUICK else [*marks, pytest.mark.sweep])


def deploy(backend, folder, precision="fp32"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)).eval()
    space = get_space("mobile")
    arch = space.sample(np.random.default_rng(0))
    images = torch.randn(64, 1, 8, 8)
    compiled = backend.compile(model, images[:2], precision, images)
    metrics = {
        "val_acc_pct": 97.5,
        "latency_ms": {"median": 0.1, "low": 0.09, "high": 0.2, "batch": 1, "threads": 1, "device": "a CPU"},
    }
    origin = Origin(data={"name": "digits"}, normalization=NORMALIZATION, metrics=metrics)
    save_model(folder, compiled, build=SpaceBuild("mobile", {}, arch), task=Task((1, 8, 8), 3), origin=origin)
    return images[:6].numpy()


@pytest.mark.parametrize("name", [case(name) for name in sorted(BACKENDS) if BACKENDS[name].usage])
def test_the_lines_of_the_readme_run_without_this_project(name, tmp_path):
    images = deploy(get_backend(name), tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), flags=re.DOTALL)
    np.save(tmp_path / "images.npy", images)
    refuse = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('nasbench', 'nasbench_compression', 'search_spaces', 'controllers'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    program = f"{refuse}import numpy\nimages = numpy.load('images.npy')\n{code}\nnumpy.save('logits.npy', logits)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), load_compiled(tmp_path)(images), atol=1e-5)


def test_int8_runs_without_this_project_too(tmp_path):
    images = deploy(get_backend("onnxruntime", threads=2), tmp_path, "int8")
    text = (tmp_path / "README.md").read_text()
    assert "# onnxruntime" in text and "int8" in text and "intra_op_num_threads = 2" in text
    assert load_compiled(tmp_path).options["threads"] == 2 and load_compiled(tmp_path)(images).shape == (6, 3)


def test_the_readme_tells_images_labels_and_numbers(tmp_path):
    deploy(get_backend("onnxruntime"), tmp_path)
    text = (tmp_path / "README.md").read_text()
    for words in (
        "1 x 8 x 8",
        "3 classes",
        "[0.25]",
        "[0.5]",
        "zero, one, two",
        "val_acc_pct: 97.5",
        "0.1 (95 % interval 0.09 to 0.2",
    ):
        assert words in text, words


def test_checksums_are_those_of_the_files(tmp_path):
    deploy(get_backend("openvino"), tmp_path)
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(digests) == {"README.md", "model.bin", "model.json", "model.xml"}
    for name, digest in digests.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert [file.name for file in artefact_files(tmp_path)] == ["model.bin", "model.xml"]


def test_weights_alone_say_how_they_are_run(tmp_path):
    deploy(get_backend("eager"), tmp_path)
    assert "writes no file that runs by itself" in (tmp_path / "README.md").read_text()
