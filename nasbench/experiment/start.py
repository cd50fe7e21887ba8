"""The architectures with which a search begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench.evaluators.proxies.registry import PROXIES
from nasbench.experiment.experiment import StartWith
from nasbench.search.callbacks import Callback
from nasbench.search.settings import read_candidates, read_settings
from nasbench.storage.files import read_json, write_json
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError, one_of
from nasbench_registry.files import user_path
from search_spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from nasbench.experiment.build import Prepared

STORED = "start_with.json"  # in the run folder: the notations


def start_architectures(prepared: Prepared, folder: RunFolder, callback: Callback) -> list[Architecture]:
    """The architectures that are evaluated first, as the experiment names them.

    Those of another run and those that proxies choose are kept in the run folder, and read from it by a resume.

    Args:
        prepared: Parts of the experiment.
        folder: Folder of the run.
        callback: Callback that hears how the proxies go on.

    Raises:
        UserError: A notation does not read, the other run has no candidate of this space, or a proxy does not exist or
            cannot look at these networks.
    """
    start_with, space = prepared.experiment.start_with, prepared.space
    if isinstance(start_with, tuple):
        return [space.parse(text) for text in start_with]
    source = start_with.model_dump(mode="json")
    file = folder.path / STORED
    if file.exists():
        stored = read_json(file, "delete it, and they are chosen again", ("source", "architectures"))
        if stored["source"] == source:
            return [space.parse(text) for text in stored["architectures"]]
    if start_with.run is not None:
        chosen = _best_of_run(space, start_with.run, start_with.best)
    else:
        chosen = _best_by_proxies(prepared, start_with, callback)
    write_json(file, {"source": source, "architectures": [space.format(arch) for arch in chosen]})
    return chosen


def check_start(prepared: Prepared) -> None:
    """Raise UserError where a search cannot begin as the experiment says."""
    start_with = prepared.experiment.start_with
    if isinstance(start_with, tuple):
        for text in start_with:
            prepared.space.parse(text)
    elif start_with.run is not None:
        _best_of_run(prepared.space, start_with.run, start_with.best)
    else:
        for name in start_with.proxies:
            one_of("zero-cost proxy", name, PROXIES)
        if prepared.problem is None:
            raise UserError("start_with names proxies, which look at training inputs; add the section data.")


def _best_of_run(space: SearchSpace, run: str, best: int) -> list[Architecture]:
    folder = RunFolder(user_path(run)).require()
    done = [
        candidate
        for candidate in read_candidates(folder, read_settings(folder))
        if candidate.status == "done" and candidate.scores
    ]
    done.sort(key=lambda candidate: (candidate.scores or (), -candidate.id), reverse=True)
    try:
        start = [space.parse(candidate.architecture) for candidate in done[:best]]
    except ValueError as error:
        raise UserError(f"start_with names {run}, whose candidates are not of space {space.name!r}: {error}") from None
    if not start:
        raise UserError(f"start_with names {run}, which has no candidate that is done; name another run.")
    return start


def _best_by_proxies(prepared: Prepared, start_with: StartWith, callback: Callback) -> list[Architecture]:
    """Networks of a sample; where recipes are searched, too, each with the first option of every choice."""
    from nasbench.evaluators.proxies.warm_start import best_by_proxies  # it needs scipy.stats, two seconds

    assert prepared.problem is not None, "check_start refused it"
    callback.phase("zero-cost proxies", start_with.sample)
    networks = best_by_proxies(
        prepared.network_space,
        prepared.problem,
        start_with.proxies,
        sample=start_with.sample,
        best=start_with.best,
        images=start_with.images,
        seed=prepared.experiment.seed,
        on_progress=callback.advance,
    )
    joint = prepared.joint
    if joint is None:
        return networks
    plain = joint.recipes.canonical(Architecture(joint.recipes.name, (0,) * len(joint.recipes.decisions)))
    return [joint.canonical(joint.join([network, plain])) for network in networks]
