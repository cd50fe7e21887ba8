"""The search spaces by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasbench_registry import Entries, Registry, UserError, check_options
from nasbench_registry.registry import check_complete

if TYPE_CHECKING:
    from search_spaces.core import SearchSpace

SPACES: Entries[type[SearchSpace]] = Entries(
    {
        "darts": "search_spaces.darts:DARTS",
        "fbnet": "search_spaces.fbnet:FBNet",
        "micro": "search_spaces.micro:Micro",
        "mobile": "search_spaces.mobile:Mobile",
        "mlp": "search_spaces.mlp:MLP",
        "mobilenet_ofa": "search_spaces.mobilenet_ofa:MobileNetOFA",
        "nasbench101": "search_spaces.nasbench101:NASBench101",
        "nasbench201": "search_spaces.nasbench201:NASBench201",
        "nats_size": "search_spaces.nats_size:NATSSize",
        "resnet": "search_spaces.resnet:ResNet",
        "unet": "search_spaces.unet:UNet",
        "vit": "search_spaces.vit:ViT",
    }
)

spaces: Registry[SearchSpace] = Registry(
    "space", "search_spaces.core:SearchSpace", SPACES, group="nasbench.search_spaces"
)


def get_space(name: str, **options: Any) -> SearchSpace:
    """The space called `name`: one of ours, one of an installed package, or ``module:Class``.

    Raises:
        UserError: The name or an option is unknown, an option has a bad value, or the class is no complete space.
    """
    return made_space(spaces.find(name), name, options)


def made_space(cls: type[SearchSpace], name: str, options: Mapping[str, Any]) -> SearchSpace:
    """An object of the class of a space; UserError if an option is unknown or is missing, or it is no complete space.

    Args:
        cls: Class of the space.
        name: Name of the class in messages.
        options: Options of the space.
    """
    check_complete("space", name, cls, spaces.base)
    check_options(cls, options, what=f"space {name!r}")
    return declared_space(cls(**options), name)


def declared_space(space: SearchSpace, name: str) -> SearchSpace:
    """The space; UserError if its name or its decisions are missing or make no sense."""
    from search_spaces.decision import Decision

    for attribute in ("name", "decisions"):
        if not getattr(space, attribute, None):
            raise UserError(f"space {name!r} has no {attribute!r}; set it on the class or in __init__.")
    if not all(isinstance(decision, Decision) for decision in space.decisions):
        raise UserError(f"space {name!r}: decisions must be a tuple of Decision, not {space.decisions!r}.")
    _ = space.layout  # raises if names or conditions of the decisions make no sense
    return space
