"""Build a table: networks of an experiment, and recipes on them, each evaluated once."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from controllers import Controller, Outcome, Proposal, SearchFinished
from nasbench.devices.device import processor_name
from nasbench.evaluators.compressed.compressed import Compressed
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.latency import LatencyEstimator, anchors_of
from nasbench.evaluators.trial import Trial
from nasbench.experiment.build import Brought, Prepared, prepare
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.run import calibration_of, search_run
from nasbench.experiment.stored import start_run
from nasbench.experiment.unchanged import begin_or_check
from nasbench.objectives.metrics import METRICS
from nasbench.search.callbacks import Callback
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.storage.files import read_json, write_json
from nasbench.storage.run_folder import ARTEFACTS, RunFolder, environment
from nasbench.tables.built import (
    ABOUT,
    FORMAT,
    SECONDS,
    BuiltTable,
    counted,
    described,
    read_table,
    require_parquet,
    write_table,
)
from nasbench_registry import UserError
from search_spaces import Architecture, DecisionSpace, NoValidArchitecture
from search_spaces.product import ProductSpace

ALL = 100_000  # most combinations of a space that are listed
TRIES = 200  # draws for each requested architecture of a larger space
ROUGH_S = 0.01  # seconds of timing for an artefact before that
TIMED_S = 0.15  # seconds of timing for each artefact of a network, in turn with the others and the anchors
ORDER = 7  # seed of the generator that puts networks in order, beside the experiment's seed
LATENCIES = "latencies"  # in the run folder: latencies of the artefacts, a file for each network
IN_TURN = "all artefacts of a network timed in turn, in one run"
BESIDE = "beside three networks of the calibration, whose slowdown is taken out; the median in the quietest turns"
ALONE = "the median of all timed calls"
ENDING = ".run"
WRITE_EVERY = 10  # times what the last one took pass between two writes of the table
NOISE = "noise.json"  # in the run folder: differences of rows that were measured twice
OF_ONE_NETWORK = 4  # number of these rows of each network that has so many
MADE_WITH = ("machine", "system", "cores", "python", "torch", "onnxruntime", "nasbench-framework")


class Listed(Controller):
    """Proposes given architectures: of each prefix the first one, and when that is known its others.

    So what the others share with the first is there when they are evaluated, with several workers, too. Where the
    first one fails before that is there, nothing of its prefix can be evaluated, and its others are left out.

    Args:
        space: Space of the architectures.
        prefixes: Lists of architectures that share the part that is expensive to compute.
        seed: Not used.
    """

    name = "listed"
    summary = "given architectures, one after the other"
    source = "none"
    multi_objective = True
    ends_by_itself = True

    def __init__(self, space: Any, prefixes: Sequence[Sequence[Architecture]], *, seed: int = 0) -> None:
        super().__init__(space, seed=seed)
        self.prefixes = prefixes
        self.next = 0  # prefix that was not begun
        self.waiting: dict[tuple[int, ...], int] = {}  # prefixes whose first architecture is running
        self.ready: deque[tuple[int, int]] = deque()  # prefix, and which of its architectures comes next

    def _propose(self) -> Proposal | None:
        while self.ready:
            prefix, place = self.ready[0]
            if place >= len(self.prefixes[prefix]):
                self.ready.popleft()
                continue
            self.ready[0] = (prefix, place + 1)
            return Proposal(self.prefixes[prefix][place])
        if self.next < len(self.prefixes):
            first = self.prefixes[self.next][0]
            self.waiting[first.picks] = self.next
            self.next += 1
            return Proposal(first)
        if self.waiting:
            return None
        raise SearchFinished

    def _observe(self, outcome: Outcome) -> None:
        prefix = self.waiting.pop(outcome.proposal.arch.picks, None)
        if prefix is not None and (outcome.scores is not None or outcome.shared_seconds):
            self.ready.append((prefix, 1))

    def _state(self) -> dict[str, Any]:
        return {
            "next": self.next,
            "waiting": [[list(picks), prefix] for picks, prefix in self.waiting.items()],
            "ready": [list(entry) for entry in self.ready],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.next = state["next"]
        self.waiting = {tuple(picks): prefix for picks, prefix in state["waiting"]}
        self.ready = deque((prefix, place) for prefix, place in state["ready"])


def build_table(
    experiment: Experiment,
    out: Path,
    *,
    networks: int,
    recipes: int | None = None,
    first: int = 0,
    repeat: int = 0,
    code_folder: Path,
    command: str = "",
    callback: Callback | None = None,
    brought: Brought | None = None,
) -> BuiltTable:
    """Evaluate networks of an experiment, and recipes on them, and write the result of each; goes on if it was killed.

    Networks are drawn without replacement in an order that the seed of the experiment decides, so a call that asks for
    more goes on behind those of the last one, and several machines each build a part.

    Args:
        experiment: Experiment whose space, data, training, device and recipe count; its limits, controller and budget
            do not.
        out: Parquet file of the table; what is needed to go on lies beside it, in a folder ending in .run.
        networks: Number of networks.
        recipes: Number of recipes of each network, drawn once for all, of which the first changes nothing if the first
            options do; None takes all. Without choices in the recipe there is one row a network.
        first: Number of networks that are left out at the beginning, for another part.
        repeat: Number of rows that are measured a second time, from another seed, or a few more; the card says how far
            they differ.
        code_folder: Folder of a user's own code.
        command: Command by which it was called.
        callback: Callback that hears how the building goes.
        brought: Parts that were given as objects.

    Raises:
        UserError: the experiment cannot run, or another table is built in the folder.
    """
    require_parquet(out)
    unlimited = measuring(experiment)
    prepared = prepare(unlimited, brought)
    points = recipe_points(prepared, recipes, experiment.seed)
    chosen = in_order(prepared.network_space, first + networks, experiment.seed)[first:]
    prefixes = [[_joined(prepared, network, point) for point in points] for network in chosen]
    plan = {"recipes": [None if point is None else list(point.picks) for point in points], "first": first}
    call = _Call(code_folder, command, callback or Callback())
    built = _measure(prepared, out, prefixes, plan, call)
    if repeat:
        folder = RunFolder(out.with_suffix(ENDING))
        repeated_prefixes = _repeated(prepared, built, repeat)
        reseeded = unlimited.model_copy(update={"seed": unlimited.seed + 1})
        reseeded_parts = dataclasses.replace(prepared, experiment=reseeded)
        # The rows follow from the table, and more of them go on behind those that are there.
        plan = {"recipes": [], "first": 0}
        repeated = _measure(reseeded_parts, folder.path / "repeats.parquet", repeated_prefixes, plan, call)
        write_json(folder.path / NOISE, noise_between(built, repeated))
        built = write_table(out, built.rows, {**built.card, "noise": read_json(folder.path / NOISE, "delete it")})
    return built


@dataclass(frozen=True)
class _Call:
    """The folder of a user's own code, the command, and the callback that hears how the building goes."""

    code_folder: Path
    command: str
    callback: Callback


def _measure(
    prepared: Prepared,
    out: Path,
    prefixes: Sequence[Sequence[Architecture]],
    plan: Mapping[str, Any],
    call: _Call,
) -> BuiltTable:
    """Evaluate these architectures, those that share a network together, and write them."""
    experiment, callback = prepared.experiment, call.callback
    budget = experiment.search.model_copy(update={"candidates": max(1, sum(map(len, prefixes)))})
    experiment = experiment.model_copy(update={"search": budget})

    def listed(space: Any) -> Controller:
        return Listed(space, prefixes)

    prepared = dataclasses.replace(
        prepared, experiment=experiment, brought=dataclasses.replace(prepared.brought, controller=listed)
    )
    folder = RunFolder(out.with_suffix(ENDING))
    start_run(folder, experiment, call.code_folder, call.command, may_change=True)
    with folder.locked():
        _same_plan(folder, plan)
        begin_or_check(prepared, folder)
        calibration = None if prepared.problem is None else calibration_of(prepared, folder, callback)
        evaluator = prepared.evaluator(folder, calibration)
        estimator = prepared.latency_estimator(calibration) if isinstance(evaluator, Compressed) else None
        if isinstance(evaluator, Compressed):
            evaluator.estimator = None  # latencies are measured when all artefacts of a network are there
            evaluator.latency_budget_s = ROUGH_S
        study = prepared.study(folder, evaluator)
        left = {evaluator.parts(archs[0]).get("network", ""): len(archs) for archs in prefixes}
        writer = _Writer(prepared, folder, out, study, evaluator, estimator, callback, left)
        writer.catch_up()
        evaluator.begin(callback)
        try:
            search_run(prepared, folder, study, evaluator, writer)
        finally:
            writer.write()
    return read_table(out)


def _repeated(prepared: Prepared, built: BuiltTable, count: int) -> list[list[Architecture]]:
    """Rows of a table that are measured again, so many or up to three more: four of each of its first networks.

    Networks are in random order, and a longer table begins with the same ones, so that it repeats the same rows.
    """
    done = built.rows[built.rows["status"] == "done"]
    space, architectures = prepared.space, list[list[Architecture]]()
    remaining = count
    for number, name in enumerate(done["network"].drop_duplicates()):
        if remaining <= 0:
            break
        rng = np.random.default_rng([prepared.experiment.seed, ORDER, 2, number])
        picks_of_network = [tuple(map(int, picks)) for picks in done["picks"][done["network"] == name]]
        places = rng.permutation(len(picks_of_network))[:OF_ONE_NETWORK].tolist()
        architectures.append([Architecture(space.name, picks_of_network[place]) for place in places])
        remaining -= len(places)
    return architectures


def noise_between(built: BuiltTable, repeated: BuiltTable) -> dict[str, Any]:
    """The differences of metrics where a row is measured again from another seed, in another run.

    Returns:
        `rows`, and by metric `std`, the standard deviation of one measurement, and `relative`, that of its logarithm
        where all values are above 0.
    """
    merged = built.rows.merge(repeated.rows, on=["network", "recipe"], suffixes=("", "_again"))
    merged = merged[(merged["status"] == "done") & (merged["status_again"] == "done")]
    noise: dict[str, Any] = {}
    names = [*built.metrics, *(name for name in SECONDS if name in built.rows)]
    for name in names:
        if f"{name}_again" not in merged:
            continue
        pairs = merged[[name, f"{name}_again"]].dropna().to_numpy(float)
        if not len(pairs):
            continue
        positive = bool((pairs > 0).all())
        noise[name] = {
            "std": float(np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) / 2)),
            "relative": float(np.sqrt(np.mean(np.log(pairs[:, 0] / pairs[:, 1]) ** 2) / 2)) if positive else None,
        }
    return {"rows": len(merged), "what": "another seed of weights and training, another run", "metrics": noise}


def measuring(experiment: Experiment) -> Experiment:
    """The experiment without what ends a candidate or a search early, for every row is to be measured."""
    return Experiment.model_validate(
        experiment.model_dump()
        | {
            "controller": {"name": "random"},
            "objectives": {objective.metric: objective.goal for objective in experiment.objectives},
            "reward": {"name": "pareto"},
            "search": experiment.search.model_dump()
            | {"max_hours": None, "max_failures": 10**9, "repeats": "answered", "max_disk_gb": None},
            "checkpoints": experiment.checkpoints.model_dump() | {"keep": 1},
            "joint": {"predict": False},
            "scheduler": None,
            "baseline": None,
            "survivors": 0,
            "start_with": (),
            "stop_at": {},
            "callbacks": (),
            "storage": None,
            "tensorboard": False,
        }
    )


def recipe_points(prepared: Prepared, count: int | None, seed: int) -> list[Architecture | None]:
    """The recipes of a table; None stands for the one of an experiment without choices."""
    if prepared.joint is None:
        if count is not None:
            raise UserError(f"--recipes is {count}, and the recipe leaves nothing to choose; leave it out.")
        return [None]
    space = prepared.joint.recipes
    plain = space.canonical(Architecture(space.name, (0,) * len(space.decisions)))
    every = distinct(space, count, np.random.default_rng([seed, ORDER, 1]))
    begin = [plain] if space.is_valid(plain) else []
    chosen: list[Architecture | None] = [*begin, *(point for point in every if point not in begin)]
    return chosen[: count or None]


def in_order(space: DecisionSpace, count: int, seed: int) -> list[Architecture]:
    """The first networks of a table, each once; more begin with the same."""
    networks = distinct(space, count, np.random.default_rng([seed, ORDER, 0]))
    if len(networks) < count:
        raise UserError(f"space {space.name!r} has {len(networks)} networks that differ, and {count} are asked for.")
    return networks


def distinct(space: DecisionSpace, count: int | None, rng: np.random.Generator) -> list[Architecture]:
    """Architectures that differ, in random order: all of a small space that are requested, draws from a large one.

    Args:
        space: Space of the architectures.
        count: Largest number of architectures; None is all, in the order of their picks.
        rng: Generator of the order.

    Raises:
        UserError: All are requested, and the space is too large to list them.
    """
    sizes = space.layout.sizes
    if math.prod(sizes) <= ALL:
        every = (Architecture(space.name, picks) for picks in itertools.product(*map(range, sizes)))
        archs = list(dict.fromkeys(space.canonical(arch) for arch in every if space.is_valid(arch)))
        return archs if count is None else [archs[place] for place in rng.permutation(len(archs)).tolist()][:count]
    if count is None:
        raise UserError(f"space {space.name!r} has {space.size:,} points, too many for all of them; give a number.")
    drawn: dict[Architecture, None] = {}
    for _ in range(TRIES * count):
        if len(drawn) == count:
            break
        try:
            drawn[space.canonical(space.sample(rng))] = None
        except NoValidArchitecture:
            break
    return list(drawn)


def _joined(prepared: Prepared, network: Architecture, point: Architecture | None) -> Architecture:
    joint = prepared.joint
    return network if joint is None or point is None else joint.canonical(joint.join([network, point]))


def _same_plan(folder: RunFolder, plan: Mapping[str, Any]) -> None:
    """Keep which rows a table has, or refuse others: those that were measured would stand in another order."""
    file = folder.path / "table.json"
    if file.exists():
        before = read_json(file, f"delete {folder.name} to begin again", ("recipes", "first"))
        if before != plan:
            raise UserError(
                f"{folder.name} builds a table of {len(before['recipes'])} recipes from network {before['first']} on, "
                f"and now {len(plan['recipes'])} from network {plan['first']} are asked for; take another --out, and "
                f"--merge the parts."
            )
    else:
        write_json(file, plan)


class _Writer(Callback):
    """Times the artefacts of each network when its recipes are done, and writes the table."""

    def __init__(
        self,
        prepared: Prepared,
        folder: RunFolder,
        out: Path,
        study: Study,
        evaluator: Evaluator,
        estimator: LatencyEstimator | None,
        callback: Callback,
        left: dict[str, int],
    ) -> None:
        self.prepared, self.folder, self.out, self.study = prepared, folder, out, study
        self.evaluator, self.estimator, self.callback = evaluator, estimator, callback
        self.times = isinstance(evaluator, Compressed)
        self.left = left  # number of recipes that are not done, by network
        self.due = 0.0  # time of the next write
        self.latencies: dict[int, dict[str, Any]] = {}  # by number of the candidate

    def catch_up(self) -> None:
        """Take over the latencies and candidates that an earlier process left."""
        for file in sorted((self.folder.path / LATENCIES).glob("*.json")):
            stored = read_json(file, "delete it, and its network is left without")
            self.latencies |= {int(number): latency for number, latency in stored.items()}
        for candidate in self.study.candidates:
            if candidate.status != "running" and self._completes(candidate):
                self._time(candidate.network)
        self.write()

    def candidate_done(self, candidate: RecordedCandidate, study: Study) -> None:
        """See `Callback`."""
        self.callback.candidate_done(candidate, study)
        if self._completes(candidate):
            self._time(candidate.network)
            if time.monotonic() >= self.due:  # the record has the rows; a long table takes a while to write
                began = time.monotonic()
                self.write()
                self.due = time.monotonic() + WRITE_EVERY * (time.monotonic() - began)

    def phase(self, name: str, total: int) -> None:
        """See `Callback`."""
        self.callback.phase(name, total)

    def advance(self, done: int, text: str = "") -> None:
        """See `Callback`."""
        self.callback.advance(done, text)

    def retry(self, number: int, status: str, error: str | None) -> None:
        """See `Callback`."""
        self.callback.retry(number, status, error)

    def stopping(self) -> None:
        """See `Callback`."""
        self.callback.stopping()

    def _completes(self, candidate: RecordedCandidate) -> bool:
        """Count a candidate; whether it is the last one of its network."""
        if candidate.network not in self.left:
            return False
        self.left[candidate.network] -= 1
        return self.left[candidate.network] == 0

    def _time(self, network: str) -> None:
        """Measure the latencies of the artefacts of a network, once, in one run; they are not needed any more then."""
        members = [
            candidate
            for candidate in self.study.candidates
            if candidate.network == network and candidate.status == "done"
        ]
        if not self.times or not members or members[0].id in self.latencies:
            return
        compiled = {}
        for candidate in members:
            artefact = self.evaluator.artefact(candidate.id, candidate.arch, 0)
            if artefact is not None:
                compiled[str(candidate.id)] = artefact
        if not compiled:
            return
        task, anchors = self.prepared.required.task, anchors_of(self.estimator)
        timed = self.prepared.device.measure_beside(compiled, task, anchors, TIMED_S)
        latencies = {name: latency.to_json() for name, latency in timed.latencies.items()}
        write_json(self.folder.path / LATENCIES / f"{members[0].id:06d}.json", latencies)
        self.latencies |= {int(name): latency for name, latency in latencies.items()}
        for candidate in members:
            shutil.rmtree(self.folder.path / ARTEFACTS / f"{candidate.id:05d}", ignore_errors=True)

    def write(self) -> None:
        """Write all rows that are done."""
        ended = [candidate for candidate in self.study.candidates if candidate.status != "running"]
        if not ended:
            return
        rows = pd.DataFrame(list(self._rows(ended)))
        metrics = [name for name in rows.columns if name not in (*ABOUT, *SECONDS)]
        rows = rows[[*ABOUT, *(name for name in SECONDS if name in rows), *sorted(metrics)]]
        write_table(self.out, rows, self._card(rows, sorted(metrics)))

    def _rows(self, ended: Sequence[RecordedCandidate]) -> Iterator[dict[str, Any]]:
        """A row for each candidate; the seconds of training are on all rows of its network."""
        space = self.prepared.space
        trained: dict[str, dict[str, float]] = {}
        for candidate in ended:
            if not candidate.cached and candidate.training_seconds:
                seconds = {"training_seconds": candidate.training_seconds}
                if "training_cpu_seconds" in candidate.metrics:
                    seconds["training_cpu_seconds"] = candidate.metrics["training_cpu_seconds"]
                trained[candidate.network or candidate.architecture] = seconds
        for candidate in ended:
            network = candidate.network or candidate.architecture
            if candidate.cached and network not in trained:  # it was trained before this table, or before a kill
                trained[network] = self._spent_before(candidate)
            recipe = (
                "" if not isinstance(space, ProductSpace) else space.factors[1].format(space.split(candidate.arch)[1])
            )
            row: dict[str, Any] = {
                "network": network,
                "recipe": recipe,
                "picks": list(candidate.arch.picks),
                "status": candidate.status,
                "error": candidate.error or "",
                "training_seconds": 0.0,
                "recipe_seconds": candidate.seconds - (0.0 if candidate.cached else candidate.training_seconds),
                **candidate.metrics,
                **trained.get(network, {}),
            }
            latency = self.latencies.get(candidate.id)
            if latency is not None:
                row["latency_ms"] = latency["median"]
                row["throughput_per_s"] = 1000 * latency["batch"] / latency["median"]
                row["latency_low_ms"], row["latency_high_ms"] = latency["low"], latency["high"]
            elif self.times:
                row.pop("latency_ms", None)  # until all artefacts of the network are timed together
                row.pop("throughput_per_s", None)
            yield row

    def _spent_before(self, candidate: RecordedCandidate) -> dict[str, float]:
        """The seconds of a training whose own candidate is not in the record."""
        if not isinstance(self.evaluator, Compressed):
            return {}
        study = self.study
        seed = study.seed_of(candidate.arch)
        trial = Trial(candidate.id, candidate.arch, candidate.epochs, seed, full_epochs=study.full_epochs)
        return self.evaluator.training_spent(trial)

    def _card(self, rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
        experiment = self.prepared.experiment.model_dump(mode="json")
        noise = self.folder.path / NOISE
        facts = environment(self.prepared.experiment.seed, self.folder.code_folder(), "", processor_name())
        return {
            "format": FORMAT,
            "name": experiment["name"],
            "space": experiment["space"]
            | {"name": self.prepared.space.name, "network": self.prepared.network_space.name},
            "decisions": described(self.prepared.space),
            "recipe": experiment["recipe"],
            **counted(rows),
            "metrics": {name: self._about_metric(name) for name in metrics},
            "seconds": {
                "training_seconds": "of the network, once for all its rows; wall clock",
                "recipe_seconds": "from the trained network to the measured artefact, whole for each row; wall clock",
                "training_cpu_seconds": "the same in seconds of the processor, in all threads",
                "recipe_cpu_seconds": "the same in seconds of the processor, in all threads",
            },
            "seed": experiment["seed"],
            "problem": experiment["problem"],
            "data": experiment["data"],
            "training": experiment["training"],
            "device": experiment["device"],
            "experiment": experiment,
            **({"noise": read_json(noise, "delete it")} if noise.exists() else {}),
            "built": [{key: facts[key] for key in MADE_WITH}],
        }

    def _about_metric(self, name: str) -> dict[str, Any]:
        common_metric = METRICS.get(name.removeprefix("trained_"))
        problem = self.prepared.problem
        problem_metric = None if problem is None else problem.metrics.get(name.removeprefix("trained_"))
        metric = common_metric or problem_metric
        device = self.prepared.experiment.device
        where = f"{device.name}, {device.threads} thread(s), batch {device.batch}"
        protocol = "as `nasbench search` gives it"
        if name in ("latency_ms", "throughput_per_s", "latency_low_ms", "latency_high_ms"):
            beside = BESIDE if self.estimator is not None else ALONE
            protocol = f"{where}; {IN_TURN}; {beside}" if self.times else where
        elif name.startswith("trained_"):
            protocol = "of the network before its recipe"
        elif name == "size_bytes":
            protocol = "of the files of the artefact"
        unit = "ms" if name.endswith("_ms") and metric is None else (metric.unit if metric else "")
        return {
            "unit": unit,
            "goal": metric.goal if metric else None,
            "summary": metric.summary if metric else "",
            "protocol": protocol,
        }
