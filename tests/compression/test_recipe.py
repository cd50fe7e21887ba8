"""Recipes: how they are written, which orders are refused, and whole sequences."""

import dataclasses
import itertools
import json
import sys
import types

import pytest
import torch
from bounds import check_below
from compression_networks import NETWORKS
from torch import nn

from nasbench_compression import STEPS, CompiledModel, Context, Recipe, Step, StepResult
from nasbench_registry import UserError

REQUIRED = {
    "prune": {"ratio": 0.3},
    "drop_layers": {"count": 1},
    "sparsify": {"sparsity": 0.5},
    "distill": {"epochs": 1},
}


def parse(*names: str) -> Recipe:
    return Recipe.parse([{name: REQUIRED.get(name)} for name in names])


def test_parse_reads_what_yaml_gives() -> None:
    recipe = Recipe.parse([{"prune": {"ratio": 0.4, "round_to": 8}}, {"quantize": None}, "compile"])
    assert [step.name for step in recipe.steps] == ["prune", "quantize", "compile"]
    assert recipe.steps[0].options()["round_to"] == 8
    assert Recipe.parse(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert Recipe.parse(None) == Recipe.parse([]) == Recipe(())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"prune": {"ratio": 0.4}}, "give a list"),
        ("prune", "give a list"),
        ([{"prune": {"ratio": 0.4}, "quantize": {}}], "entry 1 of the recipe"),
        ([{"quantize": {}}, {}], "entry 2 of the recipe"),
        ([["prune"]], "entry 1 of the recipe"),
        ([{"prune": 0.4}], "options of step 'prune', entry 1"),
        ([{"prun": {"ratio": 0.4}}], "Did you mean 'prune'"),
        ([{"prune": {"ratioo": 0.4}}], "Did you mean 'ratio'"),
        ([{"prune": {}}], "needs the option 'ratio'"),
        ([{"prune": {"ratio": 40}}], "prune ratio is 40"),
        ([{"compile": {"backend": "onxruntime"}}], "Did you mean 'onnxruntime'"),
    ],
)
def test_parse_says_what_is_wrong(entries, words) -> None:
    with pytest.raises(UserError, match=words):
        Recipe.parse(entries)


def test_orders_that_make_sense() -> None:
    order = {"prune": 0, "drop_layers": 0, "sparsify": 0, "decompose": 0, "distill": 0, "quantize": 1, "compile": 2}
    for names in itertools.product(STEPS, repeat=2):
        first, second = (order[name] for name in names)
        dense = names == ("sparsify", "decompose")  # factors of a sparse weight would not be sparse
        if (first < second or first == second == 0) and not dense:
            assert [step.name for step in parse(*names).steps] == list(names)
        else:
            with pytest.raises(UserError, match=f"step '{names[1]}' comes after '{names[0]}'"):
                parse(*names)


def test_order_counts_over_other_steps_between() -> None:
    with pytest.raises(UserError, match="step 'prune' comes after 'quantize'"):
        parse("distill", "quantize", "prune")
    with pytest.raises(UserError, match="step 'quantize' comes after 'compile'"):
        Recipe((*parse("compile").steps, *parse("quantize").steps))


SEQUENCES = [
    [{"prune": {"ratio": 0.3, "epochs": 1}}, {"distill": {"epochs": 2}}, {"quantize": {}}, {"compile": {}}],
    [{"decompose": {"ratio": 0.7, "epochs": 2}}, {"quantize": {}}, {"compile": {}}],
    [
        {"prune": {"ratio": 0.2}},
        {"decompose": {"ratio": 0.8}},
        {"prune": {"ratio": 0.2, "epochs": 3}},
        {"compile": {"backend": "eager"}},
    ],
    [{"distill": {"epochs": 1}}, {"compile": {"precision": "int8"}}],
]


PLANS = [*((SEQUENCES[0], name) for name in NETWORKS), *zip(SEQUENCES[1:], sorted(NETWORKS), strict=True)]


@pytest.mark.parametrize(
    ("entries", "network_name"),
    PLANS,
    ids=lambda value: value if isinstance(value, str) else "-".join(next(iter(entry)) for entry in value),
)
def test_sequences(entries, trained, network_name, context) -> None:
    reported: list[StepResult] = []
    results = list(Recipe.parse(entries).apply(trained, context, on_step=reported.append))
    assert reported == results
    assert [result.step.name for result in results] == [next(iter(entry)) for entry in entries]

    # Every stage is built again from a fresh network and the notes, and computes the same.
    structure = NETWORKS[network_name]()
    images = context.calibration[:20]
    for result in results:
        if isinstance(result.model, CompiledModel):
            continue
        structure = result.step.restore(structure, json.loads(json.dumps(result.note)))
        structure.load_state_dict(result.model.state_dict(), strict=True)
        with torch.no_grad():
            torch.testing.assert_close(structure.eval()(images), result.model.eval()(images), atol=1e-5, rtol=0)

    compiled = results[-1].model
    assert isinstance(compiled, CompiledModel)
    last = results[-2].model
    changed = abs(context.evaluate(compiled) - context.evaluate(last))
    check_below("points that the artefact changes", changed, mean=0.14, sd=0.16, n=27, most=1.5)
    lost = context.evaluate(trained) - context.evaluate(compiled)
    check_below("points lost in all", lost, mean=1.04, sd=1.7, n=27, most=15)
    names = {result.step.name for result in results}
    expected = "int8" if "quantize" in names or results[-1].step.options()["precision"] else "fp32"
    assert results[-1].note["precision"] == expected
    assert results[-1].note["bytes"] == compiled.bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failing(Step):
    name = "failing"
    stage = "failed"
    summary = "fails"
    source = "this test"

    def apply(self, model: nn.Module, context: Context):
        raise RuntimeError("out of luck")

    def restore(self, model: nn.Module, note: dict) -> nn.Module:
        return model


def test_what_was_done_before_a_failure_stays(plain, context) -> None:
    recipe = Recipe((*parse("prune").steps, Failing(), *parse("quantize").steps))
    results = []
    with pytest.raises(RuntimeError, match="out of luck"):
        for result in recipe.apply(plain, context):
            results.append(result)
    assert [result.step.name for result in results] == ["prune"]
    assert results[0].seconds > 0


def test_the_teacher_is_where_the_recipe_started(plain, context) -> None:
    assert context.teacher is None
    pruned, distilled = parse("prune", "distill").apply(plain, context)
    for teacher, same in ((plain, True), (pruned.model, False)):
        _, note = distilled.step.apply(pruned.model, dataclasses.replace(context, teacher=teacher))
        assert (note == distilled.note) == same
    assert context.teacher is None


def test_names_from_a_users_file(plain, context, monkeypatch) -> None:
    module = types.ModuleType("users_steps")
    module.Failing = Failing
    monkeypatch.setattr(Failing, "__module__", "users_steps")
    monkeypatch.setitem(sys.modules, "users_steps", module)
    recipe = Recipe.parse([{"users_steps:Failing": {}}])
    assert recipe.steps == (Failing(),)
    assert recipe.to_json() == [{"users_steps:Failing": {}}]
    with pytest.raises(UserError, match="is not a subclass of nasbench_compression"):
        module.Other = dict
        Recipe.parse([{"users_steps:Other": {}}])
