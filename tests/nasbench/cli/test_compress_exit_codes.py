"""`nasbench compress` is done only if every step was: 2 for a step that does not fit, 1 for one that failed."""

import json

import pytest
import yaml

from nasbench.models import Origin, save_model
from nasbench.models.build import SpaceBuild
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

OPTIONS = {"widths": [8], "layers": 1}
STEPS = """
import dataclasses
import math

import torch

from nasbench.training.errors import Diverged
from nasbench_compression import Step


class Ours(Step):
    name, stage, summary, source = "ours", "done_by_us", "", ""

    def restore(self, model, note):
        return model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bug(Ours):
    def apply(self, model, context):
        return {}["a key that is not there"], {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverging(Ours):
    def apply(self, model, context):
        raise Diverged("the loss is not finite")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Idle(Ours):
    saves = True

    def apply(self, model, context):
        return model, {}
"""


@pytest.fixture
def model(tmp_path):
    """An untrained network: what its accuracy is does not matter here."""
    (tmp_path / "my_steps.py").write_text(STEPS)
    space, task = get_space("mobile", **OPTIONS), Task((1, 8, 8), 10)
    arch = space.architecture([0] * len(space.decisions))
    save_model(
        tmp_path / "model",
        fresh_model(space, arch, task, 0).eval(),
        build=SpaceBuild("mobile", OPTIONS, arch),
        task=task,
        origin=Origin({"name": "digits"}, {"epochs": 1}, {"mean": [0.0], "std": [1.0], "labels": list("0123456789")}),
    )
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("recipe", "expected", "words", "stages"),
    [
        (["quantize"], 0, "", ["searched", "quantized"]),
        (["qantize"], 2, "Did you mean 'quantize'", None),
        ([{"quantize": {"metod": "static"}}], 2, "Did you mean 'method'", None),
        ([{"prune": {"ratio": 0.5, "epochs": 0, "layers": ["conv7"]}}], 2, "", None),
        (["quantize", {"compile": {"backend": "onnxruntime", "threads": 1}}, "quantize"], 2, "quantize", None),
        (
            [{"decompose": {"max_latency_ms": 1e-9}}, "quantize"],
            2,
            "the step to decomposed does not fit",
            ["searched", "decomposed"],
        ),
        (["my_steps:Bug", "quantize"], 1, "it failed: KeyError: 'a key that is not there'", ["searched", "done_by_us"]),
        (["my_steps:Diverging", "quantize"], 1, "its training diverged", ["searched", "done_by_us", "quantized"]),
        (["my_steps:Idle", "quantize"], 0, "", ["searched", "done_by_us", "quantized"]),
    ],
    ids=[
        "all done",
        "no such step",
        "no such option",
        "no such option of prune",
        "no such order",
        "does not fit",
        "a bug",
        "diverged",
        "rolled back",
    ],
)
def test_exit_code(nasbench, model, tmp_path, caplog, recipe, expected, words, stages):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, out, err = nasbench("compress", model, "recipe.yaml", "--out", "small", "--json")
    assert code == expected and words in err, err
    assert ("Traceback" in caplog.text) == ("Bug" in str(recipe)), caplog.text
    if stages is None:
        assert out == ""
        return
    reported = json.loads(out)["stages"]
    assert [stage["name"] for stage in reported] == stages
    assert [stage["problem"] for stage in reported].count(None) == sum(
        stage["artefact"] is not None for stage in reported
    )
    for stage in reported:  # what was done is there, whatever came after it
        assert stage["artefact"] is None or (tmp_path / "small" / stage["artefact"] / "model.json").exists()
    assert json.loads((tmp_path / "small/compress.json").read_text())["stages"] == reported
