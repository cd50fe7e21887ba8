"""The section `joint`: stages that may end a candidate early where recipes are searched, too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nasbench_registry.config import Count, Strict

ProxyName = Literal[
    "params",
    "macs",
    "l2_norm",
    "plain",
    "grad_norm",
    "snip",
    "grasp",
    "fisher",
    "synflow",
    "jacov",
    "naswot",
    "zen",
    "zico",
    "swap",
    "meco",
    "epe_nas",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
]
"""Name of a proxy of `nasbench.evaluators.proxies`."""


class JointConfig(Strict):
    """Stages that may end a candidate early where the recipe leaves something to choose.

    Attributes:
        predict: Whether a candidate ends whose latency is predicted, beyond doubt, to be over a limit.
        proxy: A zero-cost proxy of the untrained network; null looks at none.
        proxy_keep: The share of candidates that it lets through.
        short_epochs: After so many epochs validation accuracy is compared; null trains everyone to the end.
        short_keep: The share of candidates that go on.
    """

    predict: bool = True
    proxy: ProxyName | None = None
    proxy_keep: Annotated[float, Field(gt=0, le=1)] = 0.7
    short_epochs: Count | None = None
    short_keep: Annotated[float, Field(gt=0, le=1)] = 0.7
