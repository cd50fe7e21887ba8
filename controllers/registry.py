"""The controllers by name."""

from __future__ import annotations

from typing import Any

from controllers.bayesian import Bayesian
from controllers.bohb import BOHB
from controllers.core import Controller
from controllers.hyperband import Hyperband
from controllers.local_search import LocalSearch
from controllers.nsga2 import NSGA2
from controllers.optuna_samplers import OptunaGP, OptunaNSGA3, OptunaTPE
from controllers.ppo import PPO
from controllers.predictor_evolution import PredictorEvolution
from controllers.random import Random
from controllers.regularized_evolution import RegularizedEvolution
from controllers.reinforce import Reinforce
from controllers.sequential import Sequential
from nasbench_registry import Registry, check_options
from search_spaces import SearchSpace

CONTROLLERS: dict[str, type[Controller]] = {
    "random": Random,
    "regularized_evolution": RegularizedEvolution,
    "reinforce": Reinforce,
    "local_search": LocalSearch,
    "nsga2": NSGA2,
    "ppo": PPO,
    "hyperband": Hyperband,
    "bohb": BOHB,
    "optuna_tpe": OptunaTPE,
    "optuna_gp": OptunaGP,
    "optuna_nsga3": OptunaNSGA3,
    "bayesian": Bayesian,
    "predictor_evolution": PredictorEvolution,
    "sequential": Sequential,
}

# mypy has no type for "the class object of an abstract class" other than through this ignore.
controllers = Registry("controller", Controller, CONTROLLERS, group="nasbench.controllers")  # type: ignore[type-abstract]


def get_controller(name: str, space: SearchSpace, *, seed: int, **options: Any) -> Controller:
    """The controller called `name`: one of ours, one of an installed package, or ``module:Class``.

    Raises:
        UserError: the name or an option is unknown, or an option has a bad value.
    """
    cls = controllers.find(name)
    check_options(cls, options, what=f"controller {name!r}", reserved=("space", "seed"))
    return cls(space, seed=seed, **options)
