"""What reaches Optuna, and what comes back."""

import json

import numpy as np
import pytest
from bounds import check_above
from controllers_support import Hill, height, run
from optuna.trial import TrialState

from controllers import Outcome, Proposal, get_controller
from nasbench_registry import UserError
from search_spaces import get_space

NAMES = ["optuna_tpe", "optuna_gp", "optuna_nsga2", "optuna_nsga3"]
every = pytest.mark.parametrize("name", NAMES)


class Rare(Hill):
    """A hill of which one architecture in 256 is there."""

    name = "rare"

    def is_valid(self, arch):
        return super().is_valid(arch) and arch.picks[:4] == (1, 2, 3, 0)


@every
def test_parameters_are_the_decisions_that_matter(name):
    space = get_space("mobile")
    controller = get_controller(name, space, seed=0)
    proposals = run(controller, 8, lambda proposal: (float(proposal.arch.picks[0]),))
    for trial, proposal in zip(controller.study.trials, proposals, strict=True):
        free = {d.name for d, size in zip(space.decisions, space.layout.sizes, strict=True) if size > 1}
        assert set(trial.params) == set(space.choices(proposal.arch)) & free
        assert trial.values == [float(proposal.arch.picks[0])]


@every
def test_failures_count_as_the_worst_so_far(name):
    controller = get_controller(name, Hill(), seed=0)
    scores = [None, (0.5,), (0.2,), None, (0.1,), None]
    for score in scores:
        controller.tell(Outcome(controller.ask(), score))
    states = [trial.state for trial in controller.study.trials]
    assert states == [TrialState.FAIL] + [TrialState.COMPLETE] * 5
    assert [trial.values for trial in controller.study.trials[1:]] == [[0.5], [0.2], [0.2], [0.1], [0.1]]


@every
def test_a_space_with_hardly_anything_in_it(name):
    controller = get_controller(name, Rare(), seed=0)
    assert all(Rare().is_valid(proposal.arch) for proposal in run(controller, 3))


@pytest.mark.parametrize("name", ["optuna_tpe", "optuna_gp"])
def test_models_learn_from_architectures_that_were_never_asked_for(name):
    """Told the hill, the next proposals are higher than random ones (7/12 on the average), by standard errors."""
    controller = get_controller(name, Hill(), seed=0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        arch = Hill().sample(rng)
        controller.tell(Outcome(Proposal(arch), (height(arch),)))
    heights = [height(proposal.arch) for proposal in run(controller, 15)]
    check_above(
        "standard errors above", (np.mean(heights) - 7 / 12) / (0.15 / np.sqrt(15)), mean=6.383, sd=0.97, least=0
    )


def test_nsga3_takes_architectures_that_were_never_asked_for_as_parents():
    """A population of one architecture, and no mutation: its children are that architecture."""
    controller = get_controller("optuna_nsga3", Hill(), seed=0, population_size=5, mutation_prob=0.0)
    arch = Hill().architecture((3, 2, 1, 0, 1, 2))
    for _ in range(5):
        controller.tell(Outcome(Proposal(arch), (1.0, 2.0, 3.0)))
    assert controller.ask() == Proposal(arch)


def test_nsga3_resumes_with_the_parents_of_its_generation():
    """The parents of a generation are chosen with random numbers once; the twin has to know which they were."""

    def three(proposal):
        return tuple(float(pick) * (-1) ** index for index, pick in enumerate(proposal.arch.picks[:3]))

    controller = get_controller("optuna_nsga3", Hill(), seed=0, population_size=10)
    run(controller, 47, three)
    twin = get_controller("optuna_nsga3", Hill(), seed=5, population_size=10)
    twin.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    assert run(controller, 40, three) == run(twin, 40, three)


@every
def test_running_trials_survive_the_change_to_several_objectives(name):
    controller = get_controller(name, Hill(), seed=0)
    running = [controller.ask() for _ in range(4)]
    for proposal in running:
        controller.tell(Outcome(proposal, (height(proposal.arch), 1.0, -1.0)))
    assert len(controller.study.directions) == 3
    assert [trial.values for trial in controller.study.trials] == [[height(p.arch), 1.0, -1.0] for p in running]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("optuna_tpe", {"n_ei_candidates": 0}),
        ("optuna_gp", {"n_startup_trials": 0}),
        ("optuna_nsga2", {"population_size": 1}),
        ("optuna_nsga3", {"dividing_parameter": 0}),
        ("optuna_nsga3", {"mutation_prob": 2.0}),
    ],
)
def test_refuses_senseless_options(name, options):
    with pytest.raises(UserError, match=next(iter(options))):
        get_controller(name, Hill(), seed=0, **options)
