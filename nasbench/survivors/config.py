"""The section `gate`: when a compression step is rolled back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nasbench_registry.config import Strict


class GateConfig(Strict):
    """When a compression step is rolled back.

    Attributes:
        max_val_acc_drop_pct: if validation accuracy is more points than this below the searched model; of a problem
            whose quality is not in percent, if it is worse by more percent of its value.
        must_save: if it promised to save time or bytes, and its artefact is neither faster than the one before, beyond
            noise, nor smaller by a hundredth. Only where the device times networks itself.
        max_latency_ratio: if its artefact takes more than so many times as long as the one before, beyond noise,
            however small it is; null allows any. Only where the device times networks itself.
    """

    max_val_acc_drop_pct: Annotated[float, Field(ge=0)] = 5.0
    must_save: bool = True
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = None
