"""Supernets on disk."""

from __future__ import annotations

import json
from pathlib import Path

from nasbench.models.origin import problem_of
from nasbench.models.store import read_description, read_origin
from nasbench.problems.problem import Problem
from nasbench.supernet.elastic import BASE, load_elastic
from nasbench.supernet.shared import SharedSupernet, load_shared
from nasbench.supernet.supernet import DESCRIPTION, Supernet
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import SearchSpace, Task


def load_supernet(folder: str | Path, problem: Problem | None = None, space: SearchSpace | None = None) -> Supernet:
    """Read what `Supernet.save` wrote.

    Args:
        folder: Folder of the supernet.
        problem: Problem of its networks; None is that which was stored.
        space: Search space of shared weights; None makes it again by the name that was stored.

    Raises:
        UserError: It holds no supernet, or a damaged one, or its data are gone or changed.
    """
    place = user_path(folder)
    try:
        about = json.loads((place / DESCRIPTION).read_text(encoding="utf-8"))
        kind, data = about["kind"], about["data"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{place} holds no supernet that can be read ({DESCRIPTION} is missing, damaged or of another version); "
            f"make one with nasbench elastic MODEL --out {place}."
        ) from None
    supernet: Supernet
    if kind == SharedSupernet.kind:
        supernet = load_shared(place, about, space, problem)
    else:
        base = place / BASE
        origin = read_description(base)
        if problem is None:
            problem = problem_of(read_origin(origin), Task.from_json(origin["task"]), base)
        supernet = load_elastic(place, about, problem)
    if supernet.problem.digest != data:
        raise UserError(
            f"the supernet in {place} was trained on other data than these, or on such as are normalised in another "
            f"way; use the data that it was trained on."
        )
    supernet.load_weights(place, about)
    return supernet
