"""The latency of an artefact, predicted from those that were measured before it in the search."""

from __future__ import annotations

import functools

import numpy as np

from nasbench.costs.work import work
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.trial import History
from nasbench.latency.predictors import PREDICTORS, LatencyPredictor, Networks
from search_spaces import Architecture, Task
from search_spaces.fresh_model import fresh_model

LEAST = 12  # measured artefacts before a prediction is made
REFIT = 4  # it learns from so many further ones at a time


def predict_artefact(space: JointSpace, arch: Architecture, task: Task, earlier: History) -> tuple[float, float] | None:
    """Mean and standard deviation of the latency in milliseconds; None while too few artefacts were measured.

    A Gaussian process over the choices of architecture and recipe corrects what the work of the uncompressed network
    says, see `nasbench.latency.predictors`. It is fitted again with every few artefacts.

    Args:
        space: Search space of architectures with recipes.
        arch: Architecture with its recipe.
        task: Task that networks are built for.
        earlier: Metrics of the candidates before it, by notation.
    """
    measured = [(text, dict(metrics)["latency_ms"]) for text, metrics in earlier if "latency_ms" in dict(metrics)]
    if len(measured) < LEAST:
        return None
    measured = measured[: len(measured) // REFIT * REFIT]
    mean, deviation = _fitted(space, task, tuple(measured)).predict(_networks(space, [arch], task))
    return float(mean[0]), float(deviation[0])


@functools.lru_cache(maxsize=2)  # the same for a few candidates
def _fitted(space: JointSpace, task: Task, measured: tuple[tuple[str, float], ...]) -> LatencyPredictor:
    texts, latencies = zip(*measured, strict=True)
    return PREDICTORS["gp"]().fit(_networks(space, [space.parse(text) for text in texts], task), np.array(latencies))


def _networks(space: JointSpace, archs: list[Architecture], task: Task) -> Networks:
    rows = np.array([_work(space, space.halves(arch)[0], task) for arch in archs])
    return Networks.of(space, archs, rows, np.zeros((len(archs), 0)))


@functools.lru_cache(maxsize=4096)
def _work(space: JointSpace, network: Architecture, task: Task) -> tuple[float, ...]:
    model = fresh_model(space.network, network, task, 0).eval()
    return tuple(work(model, task).tolist())
