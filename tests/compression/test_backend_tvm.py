"""TVM: threads, tuning in a child, records that are reused, and what happens when the child dies."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_compression import get_backend
from nasbench_compression.compilation import tvm_backend
from nasbench_compression.compilation.child import ChildError
from nasbench_compression.compilation.tvm_backend import Tvm
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.blocks.registry import BLOCKS

MISSING = Tvm.why_unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SPACES = {
    "mobile": {},
    "resnet": {"depths": (1, 2, 3), "widths": ((8, 12), (8, 16), (16, 24))},
    "nasbench201": {"channels": 4, "cells": 1},
    "darts": {"channels": 4, "layers": 3},
    "vit": {"embeddings": (16,), "depths": (1,), "heads": (2,), "mlp_ratios": (2,), "head_width": 8},
}


def small_network(name: str) -> nn.Module:
    """The one with the fewest layers of twenty from a space, for every kernel takes a while to compile."""
    torch.manual_seed(0)
    space = get_space(name, **SPACES[name])
    rng = np.random.default_rng(7)
    networks = (space.build(space.sample(rng), Task((3, 8, 8), 10)).eval() for _ in range(20))
    return min(networks, key=lambda network: len(list(network.modules())))


def expected(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(images).numpy()


@pytest.mark.sweep
@pytest.mark.parametrize("name", SPACES)
def test_spaces(name) -> None:
    model = small_network(name)
    images = torch.randn(3, 3, 8, 8)
    compiled = Tvm().compile(model, images[:2])
    np.testing.assert_allclose(compiled(images.numpy()), expected(model, images), atol=1e-4, rtol=1e-4)


@pytest.mark.sweep
def test_all_blocks_in_one_network() -> None:
    torch.manual_seed(0)
    blocks = [block(16, 16) for block in BLOCKS.values()]
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = torch.randn(3, 1, 6, 6)
    wanted = expected(model, images)
    output = Tvm().compile(model, images[:1])(images.numpy())
    np.testing.assert_allclose(output, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


def test_tuning_and_its_records(plain, context, tmp_path) -> None:
    images = context.calibration[:5]
    tvm = get_backend("tvm", trials=6, records=str(tmp_path / "records"))
    tuned = tvm.compile(plain, context.example_inputs)
    np.testing.assert_allclose(tuned(images.numpy()), expected(plain, images), atol=1e-4, rtol=1e-4)
    described = tuned.describe()
    assert described["trials"] == described["trials_run"] == described["records"] == 6
    assert described["kernels_tuned_to_untuned"] <= 1

    loaded = tvm.load(tuned.save(tmp_path))
    assert loaded.describe() == described
    np.testing.assert_array_equal(loaded(images.numpy()), tuned(images.numpy()))

    again = get_backend("tvm", trials=6, records=str(tmp_path / "records"))
    described = again.compile(plain, context.example_inputs).describe()
    assert described["trials_run"] == 0 and described["records"] == 6


def test_a_library_runs_in_another_process(plain, context, tmp_path) -> None:
    compiled = Tvm().compile(plain, context.example_inputs)
    described = compiled.describe()
    assert described["tuned"] is False and described["operators"]["conv2d"] == 3
    assert described["operators_optimized"]["fused_conv2d_add_relu"] == 3
    compiled.save(tmp_path)
    images = context.calibration[:5].numpy()
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, numpy as np; from nasbench_compression import get_backend; "
        "print(get_backend('tvm').load(sys.argv[1])(np.load(sys.argv[1] + '/images.npy')).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), np.float32), compiled(images))


def test_threads_are_those_asked_for_and_bound_to_no_core(plain, context) -> None:
    import tvm

    cores = os.sched_getaffinity(0)
    images = context.calibration[:5].numpy()
    first = Tvm(threads=1).compile(plain, context.example_inputs)
    second = Tvm(threads=2).compile(plain, context.example_inputs)
    used = tvm.get_global_func("runtime.NumThreads")
    for compiled in (first, second, first):
        compiled(images)
        assert used() == compiled.threads
    assert os.sched_getaffinity(0) == cores
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(second, [images] * 8))
    for result in results:
        np.testing.assert_array_equal(result, first(images))


def test_failures_of_the_child_are_told(plain, context, monkeypatch, tmp_path) -> None:
    tvm = Tvm(trials=1, max_minutes=0.001, records=str(tmp_path))
    with pytest.raises(RuntimeError, match=r"tuning of this network failed: .*was still running after 0.06 s.*kept in"):
        tvm.compile(plain, context.example_inputs)

    def killed(*arguments, **settings):
        raise ChildError("its process died of SIGSEGV")

    monkeypatch.setattr(tvm_backend, "run_child", killed)
    with pytest.raises(RuntimeError, match="died of SIGSEGV"):
        tvm.compile(plain, context.example_inputs)


class Unknown(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x.flatten(1))


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(RuntimeError, match="TVM cannot take this network: .*bessel_j0"):
        Tvm().compile(Unknown(), torch.zeros(1, 1, 2, 2))


def test_wrong_options_are_refused(tmp_path, monkeypatch) -> None:
    for options, message in (
        ({"trials": -1}, "tvm trials is -1"),
        ({"seed": 0.5}, "tvm seed"),
        ({"max_minutes": 0}, "tvm max_minutes"),
        ({"records": __file__}, "give a folder"),
    ):
        with pytest.raises(UserError, match=message):
            get_backend("tvm", **options)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    assert "needs a C++ compiler" in str(Tvm.why_unavailable())
