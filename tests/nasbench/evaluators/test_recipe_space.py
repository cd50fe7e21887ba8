"""Recipes with choices are a search space, in YAML alone."""

import numpy as np
import pytest
import yaml

from nasbench.evaluators.compressed.recipe_space import RecipeSpace, has_choice
from nasbench.evaluators.compressed.space import SAME_NETWORK, JointSpace
from nasbench_compression import Recipe
from nasbench_registry import UserError
from search_spaces import Architecture, Task, get_space
from search_spaces.check import check_space

TEXT = """
- prune: {ratio: {choice: [0, 0.25, 0.5]}, round_to: {choice: [1, 8]}, epochs: 1}
- choice: [null, {decompose: {method: {choice: [cp, svd]}, macs_ratio: 0.5}}]
- quantize: {precision: {choice: [fp32, int8]}, method: {choice: [static, dynamic]}}
- compile: {backend: onnxruntime, backend_options: {graph_optimization: {choice: [all, basic]}}}
"""


def space(text: str = TEXT) -> RecipeSpace:
    return RecipeSpace(yaml.safe_load(text))


def test_decisions_are_the_choices_of_the_file():
    assert {decision.name: decision.options for decision in space().decisions} == {
        "prune.ratio": (0, 0.25, 0.5),
        "prune.round_to": (1, 8),
        "step2": ("none", "decompose"),
        "step2.decompose.method": ("cp", "svd"),
        "quantize.precision": ("fp32", "int8"),
        "quantize.method": ("static", "dynamic"),
        "compile.backend_options.graph_optimization": ("all", "basic"),
    }
    # 1 + 2 x 2 ways of pruning, 1 + 2 of decomposing, 1 + 2 of quantizing, 2 of compiling
    assert space().size == 5 * 3 * 3 * 2


def test_every_point_is_the_recipe_that_one_would_write():
    recipes = space()
    point = recipes.parse(
        "prune.ratio=0.25,prune.round_to=8,step2=none,quantize.precision=int8,quantize.method=static,"
        "compile.backend_options.graph_optimization=basic"
    )
    assert recipes.entries(point) == [
        {"prune": {"ratio": 0.25, "round_to": 8, "epochs": 1}},
        {"quantize": {"precision": "int8", "method": "static"}},
        {"compile": {"backend": "onnxruntime", "backend_options": {"graph_optimization": "basic"}}},
    ]
    assert recipes.recipe(point).to_json() == Recipe.parse(recipes.entries(point)).to_json()


def test_an_option_that_does_nothing_leaves_the_step_out():
    recipes = space()
    nothing = Architecture(recipes.name, (0,) * len(recipes.decisions))
    assert [step.name for step in recipes.recipe(nothing).steps] == ["compile"]
    flags = dict(
        zip([decision.name for decision in recipes.decisions], recipes.layout.active(nothing.picks), strict=True)
    )
    assert not flags["prune.round_to"] and not flags["quantize.method"] and not flags["step2.decompose.method"]


def test_all_points_are_recipes_and_the_rest_is_invalid():
    recipes = space("- choice: [null, {quantize: {}}]\n- choice: [null, {prune: {ratio: 0.2}}]")
    allowed = {(a, b) for a in range(2) for b in range(2) if recipes.is_valid(Architecture(recipes.name, (a, b)))}
    assert allowed == {(0, 0), (0, 1), (1, 0)}, "pruning what is quantized is no recipe"
    rng = np.random.default_rng(0)
    assert {recipes.sample(rng).picks for _ in range(50)} == allowed


def test_equal_steps_are_told_apart():
    recipes = space("- choice: [{prune: {ratio: 0.2}}, {prune: {ratio: 0.4, importance: {choice: [l1, l2]}}}]")
    assert [decision.name for decision in recipes.decisions] == ["step1", "step1.prune_2.importance"]
    assert recipes.decisions[0].options == ("prune", "prune_2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- prune: {rato: {choice: [0.1, 0.2]}}", ["rato", "Did you mean 'ratio'?"]),
        ("- prune: {ratio: {chioce: [0.1, 0.2]}}", ["chioce", "Did you mean 'choice'?"]),
        ("- chioce: [null, {prune: {ratio: 0.1}}]", ["chioce", "Did you mean 'choice'?"]),
        ("- prun: {ratio: {choice: [0.1, 0.2]}}", ["prun", "Did you mean 'prune'?"]),
        ("- prune: {ratio: {choice: [0.1, 1.2]}}", ["prune.ratio=1.2", "below 1"]),
        ("- compile: {backend: {choice: [eager, onnxruntme]}}", ["onnxruntme", "Did you mean 'onnxruntime'?"]),
        ("- compile: {precision: {choice: [fp32, int7]}}", ["int7", "Did you mean 'int8'?"]),
        ("- prune: {ratio: {choice: []}}", ["prune ratio", "[]"]),
        ("- prune: {ratio: {choice: 0.5}}", ["prune ratio", "0.5", "list"]),
        ("- choice: 3", ["entry 1", "list of steps"]),
        ("- quantize: {precision: {choice: [int8]}}\n- prune: {ratio: 0.2}", ["'prune'", "before 'quantize'"]),
        ("- prune: {ratio: 0.5}", ["nothing to choose"]),
        ("- prune: {ratio: {choice: [0]}, importance: {choice: [l1, l2]}}", ["prune ratio", "[0]", "does nothing"]),
    ],
)
def test_mistakes_are_refused_with_what_to_write(text, words):
    with pytest.raises(UserError) as caught:
        space(text)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_recipe_without_choices_is_none():
    assert not has_choice([{"prune": {"ratio": 0.5}}, {"quantize": None}, "compile"])
    assert has_choice(yaml.safe_load(TEXT)) and has_choice([{"choice": [None, {"quantize": {}}]}])


def test_backends_and_teachers_of_all_recipes_are_told():
    recipes = space(
        "- distill: {teacher: {choice: [null, big]}, epochs: 1}\n- compile: {backend: {choice: [eager, onnxruntime]}}"
    )
    assert recipes.backends() == ["eager", "onnxruntime"] and recipes.teachers() == ["big"]
    assert space("- prune: {ratio: {choice: [0.1, 0.2]}}\n- compile: {}").backends() == ["onnxruntime"]


def test_a_product_with_architectures_is_a_space_like_any_other():
    joint = JointSpace(get_space("mobile", widths=[8, 16], layers=1), space())
    assert check_space(joint, task=Task((1, 8, 8), 10)) == []
    rng = np.random.default_rng(0)
    network_only, recipe_only, swapped = 0, 0, 0
    for _ in range(200):
        a, b = joint.sample(rng), joint.sample(rng)
        child = joint.mutate(a, rng)
        assert sum(x != y for x, y in zip(a.picks, child.picks, strict=True)) == 1
        network_only += joint.split(a)[1] == joint.split(child)[1]
        recipe_only += joint.split(a)[0] == joint.split(child)[0]
        mixed = joint.crossover(a, b, rng)
        swapped += joint.split(mixed) in (
            (joint.split(a)[0], joint.split(b)[1]),
            (joint.split(b)[0], joint.split(a)[1]),
        )
        assert joint.network_key(a) == joint.network.canonical(joint.split(a)[0]).picks
    assert network_only + recipe_only == 200
    six_sigmas = 6 * np.sqrt(200 * SAME_NETWORK * (1 - SAME_NETWORK))
    assert abs(recipe_only - 200 * SAME_NETWORK) < six_sigmas, "mostly, the network stays, which is trained already"
    assert abs(swapped - 200 * SAME_NETWORK) < six_sigmas
