"""The differentiable methods by name, and the controllers that an experiment may name, these included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controllers import CONTROLLERS
from nasbench_registry import Entries, Registry, one_of

if TYPE_CHECKING:
    from nasbench.supernet.differentiable.method import Method

METHODS: Entries[type[Method]] = Entries(
    {
        "darts": "nasbench.supernet.differentiable.darts:DARTS",
        "gdas": "nasbench.supernet.differentiable.gdas:GDAS",
        "drnas": "nasbench.supernet.differentiable.drnas:DrNAS",
        "beta_darts": "nasbench.supernet.differentiable.beta_darts:BetaDARTS",
        "enas": "nasbench.supernet.differentiable.enas:ENAS",
    }
)

named_controllers: Registry[Any] = Registry(
    "controller",
    "controllers.core:Controller",
    Entries(CONTROLLERS.places | METHODS.places),
    group="nasbench.controllers",
)
"""Controllers, and methods that a controller is made of; see `nasbench.supernet.differentiable.controller`."""


def method_class(name: str) -> type[Method]:
    """The class of the differentiable method called `name`; UserError if there is none."""
    return METHODS[one_of("differentiable method", name, METHODS)]
