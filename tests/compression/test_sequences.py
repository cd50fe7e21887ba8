"""Every sensible order of every subset of the steps, on three networks: made, stored as notes, and restored."""

import copy
import dataclasses
import itertools
import json

import pytest
import torch
from compression_networks import NETWORKS

from nasbench_compression import Recipe
from nasbench_registry import UserError

STEPS = {
    "prune": {"ratio": 0.25},
    "sparsify": {"sparsity": 0.5, "epochs": 1},
    "decompose": {"method": "svd", "ratio": 0.8},
    "distill": {"epochs": 1},
    "quantize": {"calibration_images": 32},
}


def sensible():
    """The orders that a recipe does not refuse."""
    for size in range(1, len(STEPS) + 1):
        for names in itertools.permutations(STEPS, size):
            try:
                yield names, Recipe.parse([{name: STEPS[name]} for name in names])
            except UserError:
                continue


RECIPES = dict(sensible())


@pytest.fixture
def hasty(context):
    """Fine-tuning that takes one step, for here it is structure that counts."""

    def finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None):
        images, labels = context.calibration[:32], context.labels[:32]
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001)
        model.train()
        logits = model(images)
        value = torch.nn.functional.cross_entropy(logits, labels) if loss is None else loss(images, logits, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if on_batch is not None:
            on_batch(1, 1)
        model.eval()

    return dataclasses.replace(context, finetune=finetune, evaluate=lambda model: 50.0)


def test_the_orders_are_those_that_make_sense() -> None:
    assert len(RECIPES) > 60
    for names in RECIPES:
        assert "quantize" not in names[:-1]
        assert not ("sparsify" in names and "decompose" in names[names.index("sparsify") :])
    assert ("prune", "decompose", "distill", "quantize") in RECIPES
    assert ("decompose", "sparsify", "prune", "distill", "quantize") in RECIPES


@pytest.mark.parametrize("network_name", sorted(NETWORKS))
def test_every_order_gives_a_network_that_is_restored_from_its_notes(hasty, trained, network_name) -> None:
    images, context = hasty.calibration[:8], dataclasses.replace(hasty, teacher=trained)
    networks = {(): (trained, NETWORKS[network_name]())}  # each order goes on from the one without its last step
    for names, recipe in sorted(RECIPES.items(), key=lambda item: len(item[0])):
        before, structure = networks[names[:-1]]
        last, note = recipe.steps[-1].apply(before, context)
        structure = recipe.steps[-1].restore(structure, json.loads(json.dumps(note)))
        structure.load_state_dict(last.state_dict(), strict=True)
        with torch.no_grad():
            logits, expected = copy.deepcopy(structure).eval()(images), copy.deepcopy(last).eval()(images)
        assert torch.isfinite(logits).all(), names
        torch.testing.assert_close(
            logits, expected, atol=1e-5, rtol=0, msg=lambda text, names=names: f"{names}: {text}"
        )
        networks[names] = last, structure
