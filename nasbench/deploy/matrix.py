"""Every model, made smaller in every way, in every runtime and precision: a number in each cell, or the reason."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasbench.deploy.attempt import Request, run_attempt
from nasbench.deploy.process import ChildError
from nasbench.deploy.setting import PRECISIONS, Setting, why_not
from nasbench.deploy.variants import Variant, VariantResult, make_variant, model_key
from nasbench.devices.device import processor_name
from nasbench.storage.files import content_key, read_json, write_json
from nasbench_compression import backends

CELLS, VARIANTS, MATRIX = "cells", "variants", "matrix.json"

Cell = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The request of a matrix.

    Attributes:
        models: Folders of `save_model` with networks.
        variants: Variants that are made of each model.
        settings: Settings in which each is compiled, all at one number of threads and one batch.
        seconds: Seconds of timing for each cell, and as many for eager PyTorch.
        images: Number of validation images, and of test images, that a cell is judged on; None is all.
        test: Whether test images are judged, too.
        timeout_s: Seconds after which a cell is ended.
        seed: Random seed of every random choice.
    """

    models: tuple[Path, ...]
    variants: tuple[Variant, ...]
    settings: tuple[Setting, ...]
    seconds: float = 0.5
    images: int | None = 2000
    test: bool = False
    timeout_s: float = 300.0
    seed: int = 0

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.models) * len(self.variants) * len(self.settings)


def fill(
    matrix: Matrix,
    out: Path,
    *,
    command: str = "",
    on_variant: Callable[[Path, Variant, str], None] = lambda model, variant, stage: None,
    on_cell: Callable[[Cell], None] = lambda cell: None,
) -> dict[str, Any]:
    """Fill the matrix; what a run before this one has measured of the same thing is not measured again.

    A variant of a model and a finished cell are each written into `out` at once. A cell that failed is kept as well,
    unless it was ended for its time and has more of it now; what is not installed is looked up anew.

    Args:
        matrix: Request: the models, the variants and the settings.
        out: Folder of the results, which may hold cells of other requests.
        command: Command that asked for the matrix.
        on_variant: Function that is called before each stage of a variant that is being made.
        on_cell: Function that is called with each finished cell.

    Returns:
        What `matrix.json` holds: `command`, `machine`, `models`, `variants` (`model`, `name`, `recipe`, `folder`,
        `reason`), what was asked for, and `cells`. A cell has `model`, `variant`, `backend`, `precision`, `reason`
        (None if it has numbers) and what `run_attempt` returns.

    Raises:
        UserError: a model is no model folder, its data are not here, or there is no such backend.
    """
    variants: list[dict[str, Any]] = []
    cells: list[Cell] = []
    for model in matrix.models:
        for variant in matrix.variants:
            on_stage = functools.partial(on_variant, model, variant)
            made_variant = make_variant(model, variant, out / VARIANTS, seed=matrix.seed, on_stage=on_stage)
            variants.append(_described(model, variant, made_variant))
            for cell in _cells(matrix, out, model, variant, made_variant):
                cells.append(cell)
                on_cell(cell)
    result = {
        "command": command,
        "machine": processor_name(),
        "models": [str(model) for model in matrix.models],
        "variants": variants,
        "backends": list(dict.fromkeys(setting.backend for setting in matrix.settings)),
        "precisions": list(dict.fromkeys(setting.precision for setting in matrix.settings)),
        "threads": matrix.settings[0].threads,
        "batch": matrix.settings[0].batch,
        "seconds": matrix.seconds,
        "seed": matrix.seed,
        "cells": cells,
    }
    write_json(out / MATRIX, result)
    return result


def _described(model: Path, variant: Variant, made_variant: VariantResult) -> dict[str, Any]:
    return {
        "model": str(model),
        "name": variant.name,
        "recipe": variant.recipe.to_json(),
        "folder": None if made_variant.folder is None else str(made_variant.folder),
        "reason": made_variant.reason,
    }


def _cells(matrix: Matrix, out: Path, model: Path, variant: Variant, made_variant: VariantResult) -> Iterator[Cell]:
    for setting in matrix.settings:
        cell: Cell = {
            "model": str(model),
            "variant": variant.name,
            "backend": setting.backend,
            "precision": setting.precision,
        }
        reason = made_variant.reason or why_not(setting)
        if made_variant.folder is None or reason is not None:
            yield cell | {"reason": reason}
            continue
        yield cell | _kept_or_run(matrix, out, model, variant, made_variant.folder, setting)


def _kept_or_run(
    matrix: Matrix, out: Path, model: Path, variant: Variant, folder: Path, setting: Setting
) -> dict[str, Any]:
    """The numbers of a cell or its reason; from its file, where a run before this one wrote it."""
    request_of_cell = {
        "network": model_key(folder),
        "reference": model_key(model),
        "setting": setting.to_json(),
        "seconds": matrix.seconds,
        "images": matrix.images,
        "test": matrix.test,
        "seed": matrix.seed,
        "versions": _versions(setting.backend),
        "machine": processor_name(),
    }
    name = re.sub(r"[^\w.-]+", "_", f"{variant.name}-{setting.backend}-{setting.precision}")
    file = out / CELLS / f"{name}-{content_key(request_of_cell)}.json"
    if file.exists():
        stored: dict[str, Any] = read_json(file, "delete it, and the cell is measured again", ("found",))["found"]
        if stored["reason"] is None or stored["timeout_s"] >= matrix.timeout_s:
            return stored
    request = Request(
        model=str(folder),
        reference=str(model),
        setting=setting.to_json(),
        seconds=matrix.seconds,
        images=matrix.images,
        test=matrix.test,
        seed=matrix.seed,
    )
    try:
        outcome = {"reason": None, **run_attempt(request, matrix.timeout_s)}
    except ChildError as error:
        outcome = {"reason": str(error)}
    outcome["timeout_s"] = matrix.timeout_s
    write_json(file, {"asked": request_of_cell, "found": outcome})
    return outcome


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@functools.cache
def _versions(backend: str) -> dict[str, str]:
    """The versions of what a backend runs on; another version is another cell."""
    versions = {"torch": str(torch.__version__)}
    for package in backends.find(backend).packages:
        for distribution in _distributions().get(package.partition(".")[0], ()):
            versions[distribution] = importlib.metadata.version(distribution)
    return versions


def all_precisions(names: Sequence[str]) -> tuple[str, ...]:
    """The precisions that at least one of these backends has."""
    return tuple(
        precision for precision in PRECISIONS if any(precision in backends.find(name).precisions for name in names)
    )
