"""The section `gate`: when a compression step is rolled back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nasbench_registry.config import Strict


class GateConfig(Strict):
    """When a compression step is rolled back.

    Attributes:
        max_drop_pct: Largest drop of the quality on validation data against the searched model, in points if it is in
            percent (accuracy, mean IoU), else in percent of its value.
        must_save: Whether a step that promised to save time or bytes is rolled back if its artefact is neither faster
            than the one before, beyond noise, nor smaller by a hundredth. Only where the device times networks itself.
        max_latency_ratio: Largest ratio of the artefact's latency to that of the one before, beyond noise, however
            small the artefact is; null allows any. Only where the device times networks itself.
    """

    max_drop_pct: Annotated[float, Field(ge=0)] = 5.0
    must_save: bool = True
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = None
