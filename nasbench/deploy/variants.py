"""Named ways to make a model smaller, each applied to it once and kept as a model folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench.models import load_model, read_description
from nasbench.models.store import DESCRIPTION, WEIGHTS
from nasbench.storage.files import content_key
from nasbench.survivors.gate import NO_GATE
from nasbench.survivors.recipe_file import read_recipe
from nasbench.survivors.stages import run_recipe
from nasbench.survivors.stored import save_made, workbench
from nasbench_compression import CompiledModel, Recipe
from nasbench_registry import UserError, unknown
from nasbench_registry.files import user_path

DENSE = "dense"

_HALF = {"importance": "l2", "macs_ratio": 0.5, "round_to": 8}
_STATIC: Mapping[str, Any] = {"quantize": {"precision": "int8", "method": "static"}}
_QAT: Mapping[str, Any] = {"quantize": {"precision": "int8", "method": "qat"}}

VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    DENSE: (),
    "pruned": ({"prune": _HALF},),
    "decomposed": ({"decompose": {"method": "svd", "macs_ratio": 0.5}},),
    "quantized": (_STATIC,),
    "qat": (_QAT,),
    "pruned_int8": ({"prune": _HALF}, _STATIC),
    "pruned_qat": ({"prune": _HALF}, _QAT),
    "weight_only": ({"quantize": {"precision": "int8", "method": "weight_only"}},),
}
"""The steps of each variant, as in a recipe; prune, decompose and qat train for the epochs of the matrix."""

USUAL = (DENSE, "pruned", "decomposed", "quantized", "qat", "pruned_int8")


@dataclass(frozen=True)
class Variant:
    """A way to make a model smaller.

    Attributes:
        name: Name as users type it; the stem of the file for a recipe of their own.
        recipe: Steps of the variant.
    """

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class VariantResult:
    """The result of making a variant of a model.

    Attributes:
        folder: Folder of the model; None if a step failed.
        reason: Reason for which it failed; None if it did not.
    """

    folder: Path | None
    reason: str | None


def read_variant(text: str, epochs: int) -> Variant:
    """The variant that a user names.

    Args:
        text: One of `VARIANTS`, or a YAML file with a list of steps or with a key `recipe`.
        epochs: Epochs of fine-tuning, for the named variants; a file states them itself.

    Raises:
        UserError: there is no such name or file, its steps are wrong, or one of them is `compile`.
    """
    if text in VARIANTS:
        return Variant(text, Recipe.parse([_trained(step, epochs) for step in VARIANTS[text]]))
    if Path(text).suffix not in (".yaml", ".yml"):
        raise unknown("variant", text, [*VARIANTS, "RECIPE.yaml"])
    recipe = read_recipe(user_path(text))
    if any(step.name == "compile" for step in recipe.steps):
        raise UserError(f"{text} has the step 'compile'; leave it out, for each cell of the matrix compiles by itself.")
    return Variant(Path(text).stem, recipe)


def _trained(step: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    (name, options), *_ = step.items()
    trains = name in ("prune", "decompose") or options.get("method") == "qat"
    # Quantization-aware training without an epoch would be static quantization under another name.
    return {name: {**options, "epochs": max(1, epochs) if name == "quantize" else epochs} if trains else dict(options)}


def make_variant(
    model: Path, variant: Variant, place: Path, *, seed: int, on_stage: Callable[[str], None] = lambda name: None
) -> VariantResult:
    """The folder of a variant of a model; made if it is not there, else the one that was made from the same before.

    Args:
        model: Folder of `save_model` with a network.
        variant: Variant that is made; if it has no step, `model` itself is returned.
        place: Folder in which the folders of variants lie.
        seed: Random seed of every random choice.
        on_stage: Function that is called with the name of each stage before it begins.

    Raises:
        UserError: `model` is no such folder, or its data are not here.
    """
    stored = load_model(model)
    bench = workbench(stored, model, seed)
    if not variant.recipe.steps:
        return VariantResult(model, None)
    try:
        Recipe((*(step for step, _ in stored.steps), *variant.recipe.steps))
    except UserError as error:
        return VariantResult(None, str(error))
    key = content_key({"model": model_key(model), "recipe": variant.recipe.to_json(), "seed": seed})
    folder = place / f"{variant.name}-{key}"
    if (folder / DESCRIPTION).exists():
        return VariantResult(folder, None)
    stages = run_recipe(stored.model, variant.recipe, bench, NO_GATE, before=stored.steps, on_stage=on_stage)
    failed = [stage for stage in stages if not stage.accepted]
    if failed:
        return VariantResult(None, f"the step to {failed[0].name} fails: {failed[0].reason}")
    last = stages[-1]
    assert last.model is not None and not isinstance(last.model, CompiledModel), "no stage failed, and none compiles"
    aside = place / f".{folder.name}.{os.getpid()}"
    save_made(aside, last.model, stored, model, last.steps)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return VariantResult(folder, None)


def model_key(folder: Path) -> str:
    """Sixteen characters for a model folder: others for other weights, or another description."""
    read_description(folder)
    parts: Sequence[Path] = [folder / DESCRIPTION, folder / WEIGHTS]
    return content_key([hashlib.sha256(part.read_bytes()).hexdigest() for part in parts if part.exists()])
