"""A context needs nothing but example inputs; a step names what else it uses, and says so where it is missing."""

import pytest
import torch
from torch import nn

from nasbench_compression import Context, get_step, steps
from nasbench_compression.step import MEANING
from nasbench_compression.testing import check_step, small_context, small_network
from nasbench_registry import UserError

EXAMPLE = torch.zeros(1, 3, 8, 8)
CASES = [
    ("prune", {"ratio": 0.5}, ()),
    ("prune", {"ratio": 0.5, "epochs": 1}, ("finetune",)),
    ("prune", {"ratio": 0.5, "importance": "taylor"}, ("calibration", "labels")),
    ("prune", {"ratio": 0.5, "importance": "activation"}, ("calibration",)),
    ("prune", {"max_latency_ms": 0.2}, ("latency_ms",)),
    ("sparsify", {"sparsity": 0.5}, ()),
    ("sparsify", {"sparsity": 0.5, "importance": "snip"}, ("calibration", "labels")),
    ("sparsify", {"sparsity": 0.5, "epochs": 1}, ("finetune",)),
    ("decompose", {"method": "svd", "ratio": 0.5}, ()),
    ("decompose", {"method": "svd", "max_latency_ms": 0.2}, ("latency_ms",)),
    ("quantize", {"precision": "int8"}, ("calibration",)),
    ("quantize", {"precision": "int8", "method": "qat"}, ("calibration", "finetune")),
    ("quantize", {"precision": "int8", "method": "dynamic"}, ()),
    ("quantize", {"precision": "int4"}, ()),
    ("quantize", {"precision": "fp16"}, ()),
    ("quantize", {"precision": "mixed", "max_acc_drop_pct": 50}, ("calibration", "evaluate")),
    ("quantize", {"precision": "mixed", "max_latency_ms": 9}, ("calibration", "evaluate", "latency_ms")),
    ("distill", {"epochs": 1}, ("finetune", "teacher")),
    ("compile", {}, ()),
]


def name_of(case):
    return "-".join([case[0], *map(str, case[1].values())])


def test_every_step_has_a_case():
    assert {name for name, _, _ in CASES} == set(steps) - {"drop_layers"}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_step_needs_what_it_names_and_nothing_else(case):
    name, options, needs = case
    step = get_step(name, **options)
    assert step.needs == needs
    model = small_network().eval()
    whole = small_context(model)
    fields = {**{key: getattr(whole, key) for key in MEANING}, "latency_ms": lambda network: 0.1}
    for missing in needs:
        rest = {key: value for key, value in fields.items() if key in needs and key != missing}
        if missing == "calibration":
            rest.pop("labels", None)
        with pytest.raises(UserError, match=f"^{name}, with these options, needs .*{missing}: "):
            step.apply(model, Context(EXAMPLE, **rest))
    if "max_latency_ms" not in options:
        step.apply(model, Context(EXAMPLE, **{key: fields[key] for key in needs}))


def test_dropping_layers_needs_images_or_a_judge():
    assert get_step("drop_layers", count=1).needs == ("calibration",)
    assert get_step("drop_layers", count=1, importance="accuracy", epochs=1).needs == ("finetune", "evaluate")


def test_what_has_no_shape_of_inputs_is_refused():
    for wrong in (torch.zeros(3), torch.zeros(0, 3), [[1.0]]):
        with pytest.raises(UserError, match="example_inputs .* give a batch of at least one input as a tensor"):
            Context(wrong)
    with pytest.raises(UserError, match="labels are given without the calibration inputs"):
        Context(EXAMPLE, labels=torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(1, 6), (1, 4, 16), (1, 2, 6, 6, 6)], ids=["vectors", "signals", "volumes"])
def test_inputs_of_any_number_of_dimensions(shape):
    kinds = {2: nn.Linear, 3: nn.Conv1d, 5: nn.Conv3d}
    kind = kinds[len(shape)]
    more = () if kind is nn.Linear else (3,)
    network = nn.Sequential(kind(shape[1], 16, *more), nn.ReLU(), kind(16, 8, *more), nn.Flatten(), nn.LazyLinear(3))
    with torch.no_grad():
        network(torch.zeros(shape))
    images = torch.randn(8, *shape[1:], generator=torch.Generator().manual_seed(0))
    context = Context(images[:1], calibration=images)
    pruned, note = get_step("prune", ratio=0.5).apply(network.eval(), context)
    assert note["params"][1] < 0.7 * note["params"][0]
    quantized, note = get_step("quantize", precision="int8").apply(pruned, context)
    assert note["layers"]
    with torch.no_grad():
        assert (quantized(images) - pruned(images)).abs().max() < 0.1 * pruned(images).abs().max()


class Sneaky(get_step("prune", ratio=0.5).__class__):
    """Uses labels without a word."""

    def apply(self, model, context):
        context.labels.sum()
        return super().apply(model, context)


def test_the_shipped_check_knows_what_a_step_hides():
    (problem,) = check_step(Sneaky, ratio=0.5)
    assert "what `needs` does not name" in problem
