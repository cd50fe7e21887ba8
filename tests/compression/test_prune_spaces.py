"""Pruning on a network of every search space and of every block module: forward, backward, export, restore, target."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_compression import Context, get_backend, get_step
from search_spaces import SPACES, Task, get_space
from search_spaces.blocks.registry import BLOCKS

SMALL = {
    "darts": {"channels": 8, "layers": 3},
    "fbnet": {"width": 0.5, "head": 128},
    "mobilenet_ofa": {"width": 0.25},
    "nasbench101": {"channels": 16, "modules": 1},
    "nasbench201": {"channels": 16, "cells": 1},
    "resnet": {"depths": (1, 2, 3), "widths": ((8, 12), (8, 16), (16, 24))},
    "vit": {"embeddings": (32, 48), "depths": (2, 3), "heads": (2, 4), "mlp_ratios": (2, 3.5), "head_width": 8},
}
CASES = [*(("space", name) for name in SPACES), *(("block", name) for name in BLOCKS)]
TASK = Task((3, 9, 12), 10)


def build(kind: str, name: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "space":
        space = get_space(name, **SMALL.get(name, {}))
        return space.build(space.sample(np.random.default_rng(7)), TASK).eval()
    block = BLOCKS[name]
    blocks = [block(32, 32), block(32, 48, stride=2)] if block.reshapes else [block(32, 32)]
    width = 48 if block.reshapes else 32
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    tail = nn.Sequential(nn.Conv2d(width, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(stem, *blocks, tail, *head).eval()


@pytest.fixture(scope="module")
def images() -> Context:
    inputs = torch.randn(4, *TASK.input_shape, generator=torch.Generator().manual_seed(0))
    return Context(example_inputs=inputs, calibration=inputs, finetune=None, evaluate=None, seed=0)  # none is called


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: value)
def test_share_of_channels(kind, name, images) -> None:
    model = build(kind, name)
    step = get_step("prune", ratio=0.4, heads=True)
    pruned, note = step.apply(model, images)
    kept = note["channels"][1] / note["channels"][0]
    assert kept == pytest.approx(0.6, rel=0.02), note["missed"]
    assert note["params"][1] < 0.9 * note["params"][0]

    restored = step.restore(build(kind, name), json.loads(json.dumps(note)))
    restored.load_state_dict(pruned.state_dict(), strict=True)
    with torch.no_grad():
        expected = pruned(images.example_inputs)
        assert torch.equal(restored(images.example_inputs), expected)
    assert expected.shape == (4, 10) and expected.isfinite().all()

    learner = copy.deepcopy(pruned).train()
    nn.functional.cross_entropy(learner(images.example_inputs), torch.arange(4)).backward()
    gradients = [parameter.grad for parameter in learner.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)

    backend = get_backend("onnxruntime")
    if backend.why_unavailable() is None:
        logits = backend.compile(pruned, images.example_inputs[:1])(images.example_inputs.numpy())
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: value)
def test_share_of_macs(kind, name, images) -> None:
    step = get_step("prune", macs_ratio=0.35, importance="l1", global_ranking=True, heads=True)
    pruned, note = step.apply(build(kind, name), images)
    assert note["macs"][1] / note["macs"][0] == pytest.approx(0.65, rel=0.02), note["missed"]
    assert pruned(images.example_inputs).isfinite().all()
