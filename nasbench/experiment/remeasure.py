"""Measure the front when the search is over: what was chosen by a prediction is not believed until it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasbench.devices.measure import Latency
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.latency import LatencyEstimator, anchors_of
from nasbench.experiment.build import Prepared
from nasbench.objectives.reward import pareto_front
from nasbench.search.remeasured import overlay
from nasbench.search.select import choose_survivors
from nasbench.search.study import Study
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder
from nasbench_compression import CompiledModel

SECONDS_EACH = 0.4


def remeasure(
    study: Study,
    evaluator: Evaluator,
    prepared: Prepared,
    folder: RunFolder,
    on_progress: Callable[[int, int], None],
    estimator: LatencyEstimator | None = None,
) -> dict[int, Any]:
    """Measure the members of the front and the survivors, until all of them are measured.

    A measured latency may push a candidate off the front and another one, so far predicted, onto it, which is
    measured then, too. In the end all of them are timed in turn once more, in one run, so that they compare with each
    other, and beside the anchors, so that they compare with the limits and latencies of the search. The result is kept
    in the run folder.

    Args:
        study: Study whose search is over.
        evaluator: Evaluator that gives its candidates as the device runs them.
        prepared: Parts of the experiment: the device, the problem, and the number of survivors.
        folder: Folder of the run.
        on_progress: Function that is called with the number of compiled candidates and of those to be measured so far.
        estimator: Estimator of the search; None where it predicted nothing, and so measured without anchors, too.

    Returns:
        {number of a candidate: its latency as JSON}; without those of which a table of latencies has none, or whose
        artefact does not load by itself, such as eager PyTorch's: they keep what the search knew.
    """
    if folder.remeasured.exists():
        stored = {int(number): latency for number, latency in folder.read(folder.remeasured).items()}
        if to_be_measured(study, prepared.experiment.survivors, stored) <= stored.keys():
            return stored
    compiled: dict[int, CompiledModel] = {}
    measured: dict[int, Latency] = {}
    unknown: set[int] = set()
    while (
        missing := to_be_measured(study, prepared.experiment.survivors, _to_json(measured)) - compiled.keys() - unknown
    ):
        for number in sorted(missing):
            arch = study.record.candidates[number].arch
            artefact = evaluator.artefact(number, arch, study.seed_of(arch))
            if artefact is None:
                unknown.add(number)
                continue
            compiled[number] = artefact
            on_progress(len(compiled), len(compiled.keys() | missing))
        named = {str(number): model for number, model in compiled.items()}
        timed = prepared.device.measure_beside(named, prepared.required.task, anchors_of(estimator), SECONDS_EACH)
        measured = {int(name): latency for name, latency in timed.latencies.items()}
    result = _to_json(measured)
    write_json(folder.remeasured, {str(number): latency for number, latency in result.items()})
    return result


def to_be_measured(study: Study, survivors: int | Sequence[int], measured: Mapping[int, Mapping[str, Any]]) -> set[int]:
    """The candidates whose latency has to be known for certain, given what is known: the front and the survivors."""
    candidates = overlay(study.comparable, measured, study.objectives, study.reward)
    front = pareto_front(study.objectives, {candidate.id: candidate.metrics for candidate in candidates})
    chosen = choose_survivors(study, survivors, measured)
    return {*front, *(survivor.id for survivor in chosen)}


def _to_json(measured: Mapping[int, Latency]) -> dict[int, Any]:
    return {number: latency.to_json() for number, latency in measured.items()}
