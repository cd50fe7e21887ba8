"""Compiled models timed in turn, whatever their batch: latencies, and ratios of the time for one image.

`race_in_child` does it in a process of its own, for artefacts on disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasbench.deploy.process import ask
from nasbench.devices.clock import clock
from nasbench.devices.device import processor_name
from nasbench.devices.measure import Latency, summarise
from nasbench_compression import CompiledModel
from nasbench_compression.timing import Ratio, ratio_of, time_in_turn
from nasbench_registry import UserError
from search_spaces import Task


@dataclass(frozen=True)
class Runner:
    """A compiled model with the number of images that it is given in one call."""

    compiled: CompiledModel
    batch: int

    def call(self, task: Task) -> Callable[[], object]:
        """One call on random images."""
        inputs = task.one_input(self.batch, seed=0).numpy()
        return lambda: self.compiled(inputs)


@dataclass(frozen=True)
class Race:
    """The result of timing models in turn.

    Attributes:
        latencies: Latency of one call, by name.
        ratios: Ratios of the time for one image, by the names of a model and of the one that it is compared with.
    """

    latencies: Mapping[str, Latency]
    ratios: Mapping[tuple[str, str], Ratio]

    def to_json(self) -> dict[str, Any]:
        """The JSON that `from_json` reads."""
        return {
            "latencies": {name: latency.to_json() for name, latency in self.latencies.items()},
            "ratios": [[*names, ratio.to_json()] for names, ratio in self.ratios.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Race:
        """The race that `to_json` wrote."""
        return cls(
            {name: Latency(**latency) for name, latency in data["latencies"].items()},
            {(name, reference): Ratio(**ratio) for name, reference, ratio in data["ratios"]},
        )


def race(runners: Mapping[str, Runner], task: Task, *, seconds: float, rounds: int = 1) -> Race:
    """Time models in turn by the protocol of `time_in_turn`.

    Args:
        runners: Runners by name.
        task: Task with the shape of their images.
        seconds: Seconds of timing for each model and round.
        rounds: Number of times that everything is measured, the first calls to warm up included.
    """
    calls = {name: runner.call(task) for name, runner in runners.items()}
    rounds_of_calls = [time_in_turn(calls, budget_s=seconds * len(calls)) for _ in range(rounds)]
    call_seconds = {name: np.concatenate([timings[name][0] for timings in rounds_of_calls]) for name in calls}
    latencies = {}
    for name, runner in runners.items():
        facts = runner.compiled.describe()
        latencies[name] = summarise(
            call_seconds[name],
            warmup=sum(timings[name][1] for timings in rounds_of_calls),
            batch=runner.batch,
            threads=int(facts["threads"]),
            runtime=f"{facts['backend']} {facts['version']}",
            precision=str(facts["precision"]),
            device=processor_name(),
            clock=clock(),
        )
    image_seconds = {name: call_seconds[name] / runner.batch for name, runner in runners.items()}
    pairs = itertools.permutations(runners, 2)
    return Race(
        latencies,
        {(name, reference): ratio_of(image_seconds[name], image_seconds[reference]) for name, reference in pairs},
    )


def race_in_child(
    entrants: Mapping[str, Mapping[str, Any]], *, seconds: float, rounds: int = 1, timeout_s: float
) -> Race:
    """`race` in a process of its own.

    Args:
        entrants: Entrants by name; `artefact` is a folder of `save_model`, and where that one does not load, `model` is
            compiled again as `setting` says.
        seconds: Seconds of timing for each model and round.
        rounds: Number of rounds, see `race`.
        timeout_s: Seconds for all of it.

    Raises:
        ChildError: the process crashed, hung or could not load a model; the message says why.
    """
    request = {
        "entrants": {name: dict(entrant) for name, entrant in entrants.items()},
        "seconds": seconds,
        "rounds": rounds,
    }
    return Race.from_json(ask("nasbench.deploy.race:timed_race", request, timeout_s))


def timed_race(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the request of `race_in_child`, in the child."""
    from nasbench.models import read_description

    runners, task = {}, None
    for name, entrant in request["entrants"].items():
        task = Task.from_json(read_description(Path(entrant["model"]))["task"])
        runners[name] = Runner(_load(entrant), entrant["setting"]["batch"])
    assert task is not None, "there is a model to be timed"
    return race(runners, task, seconds=request["seconds"], rounds=request["rounds"]).to_json()


def _load(entrant: Mapping[str, Any]) -> CompiledModel:
    from nasbench.deploy.attempt import compiled_again
    from nasbench.models import load_compiled

    if entrant.get("artefact"):
        try:
            return load_compiled(Path(entrant["artefact"]))
        except UserError:
            pass  # its artefact does not run by itself
    return compiled_again(entrant["model"], entrant["setting"])
