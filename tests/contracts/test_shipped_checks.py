"""The checks that are shipped pass what is sound, and say what is wrong with what is not."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch

from controllers import CONTROLLERS, Controller, Proposal
from controllers.testing import check_controller
from nasbench_compression import STEPS, Step
from nasbench_compression.testing import check_step

OPTIONS = {
    "regularized_evolution": {"population": 12, "tournament": 4},
    "nsga2": {"population": 20},
    "hyperband": {"max_epochs": 9},
    "bohb": {"max_epochs": 9},
    "optuna_gp": {"n_startup_trials": 5},
    "optuna_nsga2": {"population_size": 20},
    "optuna_nsga3": {"population_size": 20},
}


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_our_controllers_are_sound(name):
    steps = 12 if name == "optuna_gp" else 40
    assert check_controller(CONTROLLERS[name], OPTIONS.get(name), steps=steps) == []


class Careless(Controller):
    name = "careless"
    summary = "draws from the global generator and forgets"
    source = "here"

    def _propose(self):
        picks = [np.random.randint(1, 3) for _ in self.space.decisions]
        return Proposal(self.space.architecture(picks))


def test_a_careless_controller_is_told_what_is_wrong():
    problems = check_controller(Careless)
    assert any("global generator" in problem for problem in problems)
    assert any("the same seed gives other proposals" in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "options"),
    [("prune", {"ratio": 0.5}), ("sparsify", {"sparsity": 0.5}), ("decompose", {"ratio": 0.6}), ("quantize", {})],
)
def test_our_steps_are_sound(name, options):
    assert check_step(STEPS[name], **options) == []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clumsy(Step):
    """Halves the weights of the network that it is given."""

    name: ClassVar[str] = "clumsy"
    stage: ClassVar[str] = "halved"
    summary: ClassVar[str] = "halves weights in place"
    source: ClassVar[str] = "here"

    def apply(self, model, context):
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(torch.rand(()))
        return model, {"shape": (1, 2)}

    def restore(self, model, note):
        return model


def test_a_clumsy_step_is_told_what_is_wrong():
    problems = check_step(Clumsy)
    for words in ("changes weights", "another one after JSON", "global generator of torch"):
        assert any(words in problem for problem in problems), problems


def test_a_controller_that_promises_more_proposals_than_it_knows_is_told():
    class Hasty(CONTROLLERS["regularized_evolution"]):
        def lookahead(self, waiting):
            return 30

    problems = check_controller(Hasty, {"population": 10, "tournament": 3})
    assert len(problems) == 1 and "lookahead(0) was 30 after 0 outcomes" in problems[0]
