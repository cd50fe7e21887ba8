"""One model in one runtime, in a process of its own: its numbers are right, and whatever it does ends there."""

import time

import numpy as np
import pytest
import torch
from judging import judge
from stored_digits import store_trained, write_backends

from nasbench.deploy.attempt import Request, run_attempt
from nasbench.deploy.process import ChildError
from nasbench.deploy.setting import CHOICES, Setting, choices, settings, why_not
from nasbench.models import load_compiled, load_model
from nasbench.survivors.stored import workbench
from nasbench_compression import BACKENDS
from nasbench_compression.surgery import inference
from nasbench_registry import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return store_trained(tmp_path_factory.mktemp("model"))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    write_backends(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_numbers_of_a_cell_are_those_of_its_artefact(folder, tmp_path):
    request = Request(
        model=str(folder),
        setting=Setting.of("onnxruntime", "fp32", {"graph_optimization": "basic"}, batch=2).to_json(),
        seconds=0.05,
        images=100,
        test=True,
        artefact=str(tmp_path / "artefact"),
        seed=3,
    )
    cell = run_attempt(request, timeout_s=120)
    stored = load_model(folder)
    data = workbench(stored, folder, 0).problem.data
    val, compiled = data.val.some(100, 3), load_compiled(tmp_path / "artefact")
    assert (cell["val_images"], cell["test_images"]) == (100, 100)
    assert cell["val_acc_pct"] == judge(compiled, val).accuracy_pct == judge(stored.model, val).accuracy_pct
    assert cell["test_acc_pct"] == judge(compiled, data.test.some(100, 3)).accuracy_pct
    with inference(stored.model):
        logits = stored.model(val.examples).numpy()
    assert cell["max_logit_diff"] == pytest.approx(np.abs(compiled(val.examples.numpy()) - logits).max(), abs=2e-6)
    assert 0 < cell["max_logit_diff"] < 1e-4 < cell["largest_logit"] == pytest.approx(np.abs(logits).max(), rel=1e-5)
    assert cell["size_bytes"] == (tmp_path / "artefact/model.onnx").stat().st_size == compiled.bytes
    assert cell["of_eager"]["low"] <= cell["of_eager"]["ratio"] <= cell["of_eager"]["high"]
    assert cell["latency_ms"]["batch"] == 2 and cell["latency_ms"]["repeats"] >= 30
    assert cell["eager_latency_ms"] > 0 and cell["conversion_s"] > 0
    assert cell["describe"]["graph_optimization"] == "basic" and cell["describe"]["operators"]["Conv"] == 5


def test_a_crash_is_told_and_ends_there(folder, mine):
    request = Request(model=str(folder), setting=Setting.of("mine:Crashes", "fp32").to_json())
    with pytest.raises(ChildError, match="^its process died of SIGSEGV"):
        run_attempt(request, timeout_s=120)


def test_a_hang_is_ended(folder, mine):
    request = Request(model=str(folder), setting=Setting.of("mine:Hangs", "fp32").to_json())
    started = time.monotonic()
    with pytest.raises(ChildError, match="^it was still running after 3 s and was ended$"):
        run_attempt(request, timeout_s=3)
    assert time.monotonic() - started < 30


def test_images_are_drawn_by_the_seed(folder):
    val = workbench(load_model(folder), folder, 0).problem.data.val
    some = val.some(50, 1)
    assert len(some) == 50 and not torch.equal(some.targets, val.targets[:50])
    assert torch.equal(some.examples, val.some(50, 1).examples) and len(val.some(None, 1)) == len(val)


def test_a_setting_is_data():
    setting = Setting.of("onnxruntime", "int8", {"threads": 2, "graph_optimization": "all"}, batch=8)
    assert setting.options == (("threads", 2),), "a default says nothing"
    assert Setting.from_json(setting.to_json()) == setting and hash(Setting.from_json(setting.to_json())) == hash(
        setting
    )
    assert setting.label() == "onnxruntime int8, threads=2, batch=8"
    assert setting.make() == BACKENDS["onnxruntime"](threads=2)
    chosen = {"precision": "int8", "batch": 8, "threads": 2, "graph_optimization": "all"}
    assert setting.values() == chosen
    assert Setting.of("onnxruntime", "fp32", {"graph_optimization": "al"}).label().endswith("graph_optimization=al")
    with pytest.raises(UserError, match="graph_optimization"):
        Setting.of("onnxruntime", "fp32", {"graph_optimization": "al"}).make()


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_all_settings_of_a_backend_can_be_made(name):
    all_settings = settings(name, ("fp32", "int8", "fp4"), threads=(1, 2), batches=(1, 8))
    able = [precision for precision in ("fp32", "int8") if precision in BACKENDS[name].precisions]
    expected = len(able) * 2 * 2
    for values in choices(name).values():
        expected *= len(values)
    assert len(all_settings) == len(set(all_settings)) == expected
    assert all(setting.make().threads == setting.threads for setting in all_settings)
    assert all_settings[0] == Setting.of(name, able[0]), "the default comes first"
    assert all(values[0] == getattr(BACKENDS[name](), option) for option, values in choices(name).items())


def test_an_option_that_a_backend_lacks_is_passed_over(monkeypatch):
    monkeypatch.setitem(CHOICES, "eager", {"no_such_option": (1, 2), "memory_format": ("contiguous", "no such format")})
    assert choices("eager") == {}


def test_what_is_known_without_trying(mine):
    assert why_not(Setting.of("eager", "fp32")) is None
    assert "does not compile to int4; it has fp32" in why_not(Setting.of("eager", "int4"))
    assert "no_such_package" in why_not(Setting.of("mine:Missing", "fp32"))
