"""What every step keeps, whatever it does; a new step adds its options here and is tested."""

import copy
import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from compression_networks import NETWORKS
from torch import nn

from nasbench_compression import STEPS, CompiledModel, Step, get_step, steps
from nasbench_registry import UserError

OPTIONS = {
    "prune": {"ratio": 0.4, "epochs": 1},
    "drop_layers": {"count": 1, "epochs": 1},
    "sparsify": {"sparsity": 0.5, "epochs": 1},
    "decompose": {"ratio": 0.6, "epochs": 1},
    "distill": {"epochs": 1},
    "quantize": {"calibration_images": 64},
    "compile": {},
}
# Further ways of a step that have code of their own.
VARIANTS = {
    "quantize: entropy": {"calibration": "entropy"},
    "quantize: qat": {"method": "qat"},
    "quantize: dynamic": {"method": "dynamic"},
    "quantize: weight_only": {"method": "weight_only", "symmetric": False},
    "quantize: int4": {"precision": "int4"},
    "quantize: fp16": {"precision": "fp16"},
    "quantize: bf16": {"precision": "bf16"},
    "quantize: mixed": {"precision": "mixed", "max_size_bytes": 25_000, "calibration_images": 64},
}


@pytest.fixture(params=[*sorted(STEPS), *VARIANTS])
def step(request) -> Step:
    return get_step(request.param.split(":")[0], **(OPTIONS | VARIANTS)[request.param])


@pytest.fixture
def full_context(context, trained):
    return dataclasses.replace(context, teacher=trained)


def logits_of(model, images) -> torch.Tensor:
    if isinstance(model, CompiledModel):
        return torch.from_numpy(model(images.numpy()))
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return model(images)


def test_every_step_has_options_here() -> None:
    assert set(OPTIONS) == set(STEPS) == set(steps.names())


@pytest.mark.parametrize("name", sorted(STEPS))
def test_names_and_lines_for_listings(name) -> None:
    step = STEPS[name]
    assert step.name == name
    assert step.stage and step.summary and step.source
    assert step.not_after <= set(STEPS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("network_name", ["residual"])
def test_input_is_left_as_it_was(step, full_context, trained, training) -> None:
    model = copy.deepcopy(trained).train(training)
    next(iter(model.parameters())).requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    modules = {name: (type(module), module.training) for name, module in model.named_modules()}
    learned = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    step.apply(model, full_context)
    assert {name: (type(module), module.training) for name, module in model.named_modules()} == modules
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == learned
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_note_is_json_and_restores_the_structure(step, full_context, trained, network_name, digits) -> None:
    if step.name == "drop_layers" and network_name != "residual":
        with pytest.raises(UserError, match="of 0 residual blocks"):
            step.apply(trained, full_context)
        return
    compressed, note = step.apply(trained, full_context)
    assert json.loads(json.dumps(note)) == note
    fresh = NETWORKS[network_name]()
    if isinstance(compressed, CompiledModel):
        with pytest.raises(UserError, match="get_backend"):
            step.restore(fresh, note)
        return
    before = copy.deepcopy(fresh.state_dict())
    restored = step.restore(fresh, json.loads(json.dumps(note)))
    assert str(restored) == str(compressed)
    restored.load_state_dict(compressed.state_dict(), strict=True)
    images = digits.val_images[:40]
    torch.testing.assert_close(logits_of(restored, images), logits_of(compressed, images), atol=1e-5, rtol=0)
    assert {n: p.requires_grad for n, p in restored.named_parameters()} == {
        n: p.requires_grad for n, p in compressed.named_parameters()
    }
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("network_name", ["residual"])
def test_same_seed_same_result_and_global_generators_untouched(step, full_context, trained, digits) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, note = step.apply(trained, full_context)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    torch.rand(3)
    second, note_again = step.apply(trained, full_context)
    assert {**note, "measured": None} == {**note_again, "measured": None}  # times are never the same twice
    images = digits.val_images[:40]
    assert torch.equal(logits_of(first, images), logits_of(second, images))


def test_unknown_option_is_refused_with_the_nearest(step) -> None:
    options = OPTIONS[step.name]
    known = sorted(step.options())[0]
    with pytest.raises(UserError, match=f"Did you mean '{known}'"):
        get_step(step.name, **options, **{known + "x": 1})


def test_options_make_the_same_step(step) -> None:
    assert get_step(step.name, **json.loads(json.dumps(step.options()))) == step


def test_unknown_step_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'quantize'"):
        get_step("quantise")


def test_missing_option_is_named() -> None:
    with pytest.raises(UserError, match="needs the option 'ratio'"):
        get_step("prune")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prune", {"ratio": 0}),
        ("prune", {"ratio": 1}),
        ("prune", {"ratio": "half"}),
        ("prune", {"ratio": float("nan")}),
        ("prune", {"ratio": 0.5, "importance": "l3"}),
        ("prune", {"ratio": 0.5, "round_to": 0}),
        ("prune", {"ratio": 0.5, "round_to": 2.5}),
        ("prune", {"ratio": 0.5, "epochs": -1}),
        ("prune", {"macs_ratio": 1.5}),
        ("prune", {"max_macs": 0}),
        ("prune", {"max_latency_ms": "fast"}),
        ("prune", {"ratio": 0.5, "iterations": 0}),
        ("prune", {"ratio": 0.5, "exclude": "stem"}),
        ("prune", {"ratio": 0.5, "calibration_images": 0}),
        ("drop_layers", {"count": 0}),
        ("drop_layers", {"ratio": 1}),
        ("drop_layers", {"count": 1, "importance": "l2"}),
        ("distill", {"epochs": 0}),
        ("distill", {"epochs": True}),
        ("distill", {"epochs": 1, "temperature": 0}),
        ("distill", {"epochs": 1, "alpha": 1.1}),
        ("distill", {"epochs": 1, "method": "hints"}),
        ("distill", {"epochs": 1, "beta": 2.0}),
        ("distill", {"epochs": 1, "method": "decoupled", "alpha": -1}),
        ("distill", {"epochs": 1, "method": "fitnets", "teacher_layers": "features"}),
        ("distill", {"epochs": 1, "teacher": 7}),
        ("sparsify", {"sparsity": 1}),
        ("sparsify", {"sparsity": 0.5, "importance": "l2"}),
        ("sparsify", {"pattern": "4:2"}),
        ("sparsify", {"pattern": 124}),  # what YAML makes of 2:4 without quotation marks
        ("sparsify", {"sparsity": 0.5, "pattern": "2:4"}),
        ("sparsify", {"sparsity": 0.5, "importance": "movement"}),
        ("sparsify", {"sparsity": 0.5, "schedule": "cubic"}),
        ("sparsify", {"sparsity": 0.5, "end": 0.5, "begin": 0.6}),
        ("sparsify", {"sparsity": 0.5, "exclude": "classifier"}),
        ("decompose", {"method": "tucker9"}),
        ("decompose", {"ratio": 1.5}),
        ("decompose", {"rank": 0}),
        ("decompose", {"energy": 1}),
        ("decompose", {"rank_rule": "bayes"}),
        ("decompose", {"macs_ratio": 0}),
        ("decompose", {"max_macs": 1.5}),
        ("decompose", {"max_params": 0}),
        ("decompose", {"max_latency_ms": 0}),
        ("decompose", {"exclude": "classifier"}),
        ("quantize", {"precision": "int3"}),
        ("quantize", {"method": "dynamo"}),
        ("quantize", {"precision": "int4", "method": "static"}),
        ("quantize", {"calibration": "kl"}),
        ("quantize", {"percentile": 50}),
        ("quantize", {"calibration_images": 0}),
        ("quantize", {"group_size": 7}),
        ("quantize", {"symmetric": "no"}),
        ("quantize", {"method": "qat", "epochs": 0}),
        ("quantize", {"precision": "mixed"}),
        ("quantize", {"max_size_bytes": 1000}),
        ("quantize", {"precision": "mixed", "max_acc_drop_pct": -1}),
        ("compile", {"backend": "onnxruntim"}),
        ("compile", {"precision": "int3"}),
        ("compile", {"threads": 0}),
    ],
)
def test_values_out_of_range_are_refused(name, options) -> None:
    wrong = list(options.values())[-1]
    with pytest.raises(UserError) as caught:
        get_step(name, **options)
    assert repr(wrong) in str(caught.value)


def test_a_network_that_a_step_cannot_change_is_refused(context) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UserError, match="removes nothing"):
        get_step("prune", ratio=0.5).apply(head, context)
    with pytest.raises(UserError, match="no convolution"):
        get_step("decompose").apply(head, context)
    with pytest.raises(UserError, match="no Conv2d or Linear"):
        get_step("quantize").apply(nn.Flatten(), context)
    with pytest.raises(UserError, match="no layer of this network to make sparse"):
        get_step("sparsify", sparsity=0.5).apply(nn.Flatten(), context)
    with pytest.raises(UserError, match="give teacher: a trained network"):
        get_step("distill", epochs=1).apply(head, context)
