"""The search spaces by name."""

from __future__ import annotations

from typing import Any

from nasbench_registry import Registry, UserError, check_options
from search_spaces.core import Decision, SearchSpace
from search_spaces.darts import DARTS
from search_spaces.fbnet import FBNet
from search_spaces.mobile import Mobile
from search_spaces.mobilenet_ofa import MobileNetOFA
from search_spaces.nasbench101 import NASBench101
from search_spaces.nasbench201 import NASBench201
from search_spaces.nats_size import NATSSize
from search_spaces.resnet import ResNet
from search_spaces.vit import ViT

SPACES: dict[str, type[SearchSpace]] = {
    "darts": DARTS,
    "fbnet": FBNet,
    "mobile": Mobile,
    "mobilenet_ofa": MobileNetOFA,
    "nasbench101": NASBench101,
    "nasbench201": NASBench201,
    "nats_size": NATSSize,
    "resnet": ResNet,
    "vit": ViT,
}

# mypy has no type for "the class object of an abstract class" other than through this ignore.
spaces = Registry("space", SearchSpace, SPACES, group="nasbench.search_spaces")  # type: ignore[type-abstract]


def get_space(name: str, **options: Any) -> SearchSpace:
    """The space called `name`: one of ours, one of an installed package, or ``module:Class``.

    Raises:
        UserError: the name or an option is unknown, an option has a bad value, or the class is no complete space.
    """
    cls = spaces.find(name)
    check_options(cls, options, what=f"space {name!r}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise UserError(f"space {name!r} does not define {', '.join(missing)}; see search_spaces.core.SearchSpace.")
    space = cls(**options)
    for attribute in ("name", "decisions"):
        if not getattr(space, attribute, None):
            raise UserError(f"space {name!r} has no {attribute!r}; set it on the class or in __init__.")
    if not all(isinstance(decision, Decision) for decision in space.decisions):
        raise UserError(f"space {name!r}: decisions must be a tuple of Decision, not {space.decisions!r}.")
    _ = space.layout  # raises if names or conditions of the decisions make no sense
    return space
