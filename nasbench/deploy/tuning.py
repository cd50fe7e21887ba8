"""The request of a search for the fastest setting, and the settings that it may choose from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench.deploy.setting import PRECISIONS, Setting, settings
from nasbench.deploy.variants import model_key
from nasbench.devices.device import processor_name
from nasbench.models import load_model
from nasbench.storage.files import read_json, write_json
from nasbench_compression import backends
from nasbench_compression.quantization.modules import is_quantized
from nasbench_registry import UserError

BATCHES = (1, 8, 32, 128)  # batches that a search for throughput chooses from


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The request of a search for the fastest setting.

    Attributes:
        model: Folder of `save_model` with a network.
        backends: Backends to choose from; those that are not installed are left out with the reason.
        goal: "latency" of one call, or "throughput", which is the time for one image at any batch.
        max_acc_drop_pct: Points of validation accuracy that may be lost; of a quality that is not in percent, percent
            of its value.
        max_latency_ms: Largest latency of one call in milliseconds; None is no limit.
        max_threads: Largest number of threads of one call.
        batch: Images of one call; those of the defaults, where throughput is the goal.
        images: Largest number of validation images that accuracy is read on.
        seconds: Seconds of timing for each model in a trial.
        timeout_s: Seconds after which a trial is ended.
        seed: Random seed of every random choice.
    """

    model: Path
    backends: tuple[str, ...]
    goal: str = "latency"
    max_acc_drop_pct: float = 1.0
    max_latency_ms: float | None = None
    max_threads: int = 1
    batch: int = 1
    images: int = 2000
    seconds: float = 0.5
    timeout_s: float = 300.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The JSON of the request; if it changes, it is another request."""
        fields = dataclasses.asdict(self) | {"model": str(self.model), "backends": list(self.backends)}
        return fields | {"model_key": model_key(self.model), "machine": processor_name()}


def offered_settings(tuning: Tuning, names: Sequence[str]) -> tuple[list[Setting], list[Setting], list[Setting]]:
    """The settings that a search may choose from.

    Args:
        tuning: Request of the search.
        names: Names of the backends that are installed.

    Returns:
        Every setting of these backends; the default of each, for a quantized network in int8 where there is one; and
        the same in the other precisions.
    """
    quantized = is_quantized(load_model(tuning.model).model)
    threads = [count for power in range(16) if (count := 2**power) < tuning.max_threads] + [tuning.max_threads]
    batches = [tuning.batch]
    if tuning.goal == "throughput":
        batches += [batch for batch in BATCHES if batch != tuning.batch]
    offered, defaults, others = [], [], []
    for name in names:
        offered += settings(name, PRECISIONS, threads, batches)
        precision_of_default = "int8" if quantized and "int8" in backends.find(name).precisions else "fp32"
        defaults.append(Setting.of(name, precision_of_default, {}, tuning.batch))
        others += [
            Setting.of(name, precision, {}, tuning.batch)
            for precision in PRECISIONS
            if precision != precision_of_default
        ]
    defaults, others = ([setting for setting in group if setting in offered] for group in (defaults, others))
    return offered, defaults, others


def same_request(file: Path, request: dict[str, Any]) -> None:
    """Keep the request in a file; UserError if another one is in it."""
    if not file.exists():
        write_json(file, request)
        return
    stored = read_json(file, "give another folder")
    changed = [
        f"{key} was {stored.get(key)!r} and is {request.get(key)!r}"
        for key in sorted({*stored, *request})
        if stored.get(key) != request.get(key)
    ]
    if changed:
        raise UserError(
            f"{file.parent} belongs to another request: {'; '.join(changed)}; ask the same, or take another folder."
        )
