"""The controllers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nasbench_registry import Entries, Registry, check_options

if TYPE_CHECKING:
    from controllers.core import Controller
    from search_spaces import SearchSpace

CONTROLLERS: Entries[type[Controller]] = Entries(
    {
        "random": "controllers.random:Random",
        "regularized_evolution": "controllers.regularized_evolution:RegularizedEvolution",
        "reinforce": "controllers.reinforce:Reinforce",
        "local_search": "controllers.local_search:LocalSearch",
        "nsga2": "controllers.nsga2:NSGA2",
        "ppo": "controllers.ppo:PPO",
        "hyperband": "controllers.hyperband:Hyperband",
        "bohb": "controllers.bohb:BOHB",
        "optuna_tpe": "controllers.optuna_samplers:OptunaTPE",
        "optuna_gp": "controllers.optuna_samplers:OptunaGP",
        "optuna_nsga2": "controllers.optuna_samplers:OptunaNSGA2",
        "optuna_nsga3": "controllers.optuna_samplers:OptunaNSGA3",
        "bananas": "controllers.bananas:Bananas",
        "bayesian": "controllers.bayesian:Bayesian",
        "ehvi": "controllers.ehvi:EHVI",
        "cost_aware": "controllers.cost_aware:CostAware",
        "predictor_evolution": "controllers.predictor_evolution:PredictorEvolution",
        "sequential": "controllers.sequential:Sequential",
    }
)

controllers: Registry[Controller] = Registry(
    "controller", "controllers.core:Controller", CONTROLLERS, group="nasbench.controllers"
)


def get_controller(name: str, space: SearchSpace, *, seed: int, **options: Any) -> Controller:
    """The controller called `name`: one of ours, one of an installed package, or ``module:Class``.

    Raises:
        UserError: The name or an option is unknown, or an option has a bad value.
    """
    cls = controllers.find(name)
    check_options(cls, options, what=f"controller {name!r}", reserved=("space", "seed"))
    return cls(space, seed=seed, **options)
