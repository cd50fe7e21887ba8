"""Whether a run goes on with the code and the images that it began with, so that a notation stays one network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nasbench.experiment.build import BUILD, Prepared
from nasbench.models.reference import difference, reference
from nasbench.storage.code_digest import (
    accepts_changed_code,
    changed_code,
    changes,
    code_digests,
    moved_versions,
    versions,
)
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError
from search_spaces import Architecture
from search_spaces.fresh_model import fresh_model

NETWORKS = 2  # number of networks of the space that are built to see whether they still compute the same


def begin_or_check(
    prepared: Prepared, folder: RunFolder, *, accept_code: bool | None = None, accept_data: bool = False
) -> None:
    """Keep what code and images a run begins with; if it began before, check that they are the same.

    Args:
        prepared: Parts of the experiment.
        folder: Folder of the run, which is held.
        accept_code: Whether the run goes on with other code; None asks the environment (`accept.ACCEPT`).
        accept_data: Whether it goes on with other images.

    Raises:
        UserError: they are not the same, with what changed.
    """
    recorded: dict[str, Any] = {}
    if folder.code.exists():
        recorded = json.loads(folder.code.read_text(encoding="utf-8"))
        edited = _edited(prepared, recorded)
        if edited and not accepts_changed_code(accept_code):
            raise changed_code(folder.name, edited)
        digest = _data_digest(prepared)
        if recorded["data"] not in (digest, None) and not accept_data:
            raise UserError(
                f"{folder.name} trained on other images than data set {_data_name(prepared)!r} holds now; put its "
                f"files back, or go on with --accept-changed-data (accept_changed_data=True in Python), and candidates "
                f"before and after are not comparable."
            )
        if not edited and recorded["data"] == digest:
            return
        recorded["accepted"] = [*recorded["accepted"], edited or ["the images"]]
    write_json(
        folder.code,
        {
            "sha256": _modules(prepared),
            "versions": versions(*BUILD),
            "data": _data_digest(prepared),
            "networks": _networks(prepared),
            "accepted": recorded.get("accepted", []),
        },
    )


def check_code(prepared: Prepared, folder: RunFolder) -> None:
    """Raise UserError if a run whose weights are to be loaded was made with other code than there is now."""
    if folder.code.exists() and not accepts_changed_code():
        edited = _edited(prepared, json.loads(folder.code.read_text(encoding="utf-8")))
        if edited:
            raise changed_code(folder.name, edited)


def _edited(prepared: Prepared, recorded: dict[str, Any]) -> list[str]:
    """Changes of the code since a run began, in sentences; none if it did not change."""
    edited = changes(recorded["sha256"], _modules(prepared))
    if edited:
        return edited
    space = prepared.network_space
    for stored in recorded["networks"]:
        arch = space.architecture(stored["picks"])
        try:
            model = fresh_model(space, arch, prepared.required.task, 0)
        except Exception as error:  # whatever a space of a user's own raises
            deviation: str | None = f"it cannot be built any more ({type(error).__name__}: {error})"
        else:
            deviation = difference(model, prepared.required.task, stored["reference"])
        if deviation is not None:
            return [f"{space.format(arch)}: {deviation}", *moved_versions(recorded["versions"], versions(*BUILD))]
    return []


def _modules(prepared: Prepared) -> dict[str, str]:
    return code_digests(*prepared.code())


def _data_name(prepared: Prepared) -> str:
    data = prepared.experiment.data
    return prepared.experiment.problem.name if data is None else data.name


def _data_digest(prepared: Prepared) -> str | None:
    return None if prepared.problem is None else prepared.problem.digest


def _networks(prepared: Prepared) -> list[dict[str, Any]]:
    """Some architectures, and what their networks with fresh weights answer to a reference input."""
    if prepared.problem is None:  # then a space may build nothing, or what only its evaluator can run
        return []
    space, rng = prepared.network_space, np.random.default_rng(0)
    references = []
    for arch in {space.sample(rng) for _ in range(NETWORKS)}:
        references.append({"picks": list(arch.picks), "reference": _answer(prepared, arch)})
    return sorted(references, key=lambda entry: entry["picks"])


def _answer(prepared: Prepared, arch: Architecture) -> dict[str, Any]:
    task = prepared.required.task
    try:
        model = fresh_model(prepared.network_space, arch, task, 0)
    except Exception as error:  # an architecture that cannot be built is an outcome of the search
        return {"none": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return reference(model, task)
