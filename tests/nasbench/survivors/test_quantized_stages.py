"""Every kind of quantized network as a stage of a survivor: measured, stored, loaded in another process, exported."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from bounds import check_learned
from judging import judge
from tests_support import check_accuracies_of_export

from nasbench.costs.cost import cost
from nasbench.devices.device import Device
from nasbench.models import Origin, save_model as save
from nasbench.models.build import SpaceBuild
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.survivors.config import GateConfig
from nasbench.survivors.stages import measure_stages, run_recipe, save_stages
from nasbench.training.config import TrainingConfig
from nasbench_compression import Recipe, get_backend
from nasbench_compression.quantization.modules import dequantize, is_quantized
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

KINDS = {
    "static": {"calibration": "entropy"},
    "qat": {"method": "qat"},
    "dynamic": {"method": "dynamic"},
    "weight_only": {"method": "weight_only"},
    "int4": {"precision": "int4"},
    "fp16": {"precision": "fp16"},
    "bf16": {"precision": "bf16"},
    "mixed": {"precision": "mixed", "max_latency_ms": 1000.0, "calibration_images": 32},
}
SPACE = {"widths": [16, 32], "layers": 1}
TEXT = "convolution_k3_w1.0/inverted_residual_k3_w1.0"
RUNTIME = "eager" if get_backend("onnxruntime").why_unavailable() else "onnxruntime"
GATE = GateConfig(max_drop_pct=100, must_save=False)


@pytest.fixture(scope="module")
def survivor(tmp_path_factory):
    """The searched stage, and a stage of each kind that goes on from it, with their metrics, in a folder."""
    folder = tmp_path_factory.mktemp("survivor")
    device = Device(RUNTIME, threads=1, batch=1)
    data = {"name": "digits"}
    bench = Workbench(
        image_classification("digits", training=TrainingConfig(epochs=3, learning_rate=0.005)), seed=0, device=device
    )
    space = get_space("mobile", **SPACE)
    arch = space.parse(TEXT)
    model = fresh_model(space, arch, bench.problem.data.task, 0)
    bench.finetune(model, epochs=3)
    stages = []
    for kind, options in KINDS.items():
        searched, quantized = run_recipe(model, Recipe.parse([{"quantize": options}]), bench, GATE)
        stages += [searched] if not stages else []
        assert quantized.accepted, quantized.reason
        quantized.name = kind
        stages.append(quantized)
    metrics, _ = measure_stages(stages, bench, device)
    normalization = (
        {"mean": list(bench.problem.data.mean), "std": list(bench.problem.data.std)}
        if hasattr(bench.problem.data, "mean")
        else {}
    )
    writer = functools.partial(save, build=SpaceBuild("mobile", SPACE, arch), task=bench.problem.data.task)
    save_stages(folder, folder, stages, metrics, save=writer, origin=Origin(data, {"epochs": 1}, normalization))
    np.save(folder / "images.npy", bench.problem.data.val.examples[:40].numpy())
    return folder, stages, metrics, bench


def test_metrics(survivor) -> None:
    _, stages, metrics, bench = survivor
    searched = metrics[0]
    params = {}
    for stage, numbers in zip(stages[1:], metrics[1:], strict=True):
        assert numbers["size_bytes"] < (0.95 if stage.name in ("dynamic", "mixed") else 0.55) * searched["size_bytes"]
        assert numbers["latency_ms"]["precision"] == ("int8" if is_quantized(stage.network) else "fp32")
        assert numbers["test_acc_pct"] == judge(stage.model, bench.problem.data.test).accuracy_pct
        check_learned(stage.name, numbers["test_acc_pct"], images=len(bench.problem.data.test))
        # Nothing but the batch norms that are folded away is missing from what is counted.
        assert 0.9 * searched["macs"] < numbers["macs"] <= searched["macs"]
        params[stage.name] = numbers["params"]
        whole = cost(stage.network, bench.problem.data.task)
        assert whole.bytes_moved == cost(dequantize(stage.network), bench.problem.data.task).bytes_moved
    assert len(set(params.values())) == 1


def test_another_process_computes_the_same(survivor) -> None:
    folder, stages, _, _ = survivor
    code = """
import sys
from pathlib import Path
import numpy as np, torch
from nasbench.models import load_model
folder = Path(sys.argv[1])
images = torch.from_numpy(np.load(folder / "images.npy"))
with torch.no_grad():
    np.savez(folder / "logits.npz", **{kind: load_model(folder / kind).model(images).numpy() for kind in sys.argv[2:]})
"""
    subprocess.run([sys.executable, "-c", code, str(folder), *KINDS], check=True)
    images = torch.from_numpy(np.load(folder / "images.npy"))
    logits = np.load(folder / "logits.npz")
    for stage in stages[1:]:
        with torch.no_grad():
            np.testing.assert_allclose(logits[stage.name], stage.model(images).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_export(kind, survivor, nasbench, tmp_path) -> None:
    folder, stages, _, _ = survivor
    network = next(stage.network for stage in stages if stage.name == kind)
    code, out, err = nasbench("export", str(folder / kind), "--backend", RUNTIME, "--out", str(tmp_path), "--json")
    assert code == 0, err
    exported = json.loads(out)
    assert exported["precision"] == ("int8" if is_quantized(network) else "fp32")
    check_accuracies_of_export(exported)
