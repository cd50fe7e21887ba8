"""What the engine costs where evaluating costs nothing: candidates a second, memory, seconds to open a run again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasbench_registry import one_of

WINDOW = 1000  # candidates at the beginning and at the end whose speed is shown
SPACES: dict[str, dict[str, Any]] = {
    "nasbench201": {"name": "nasbench201"},
    "mobile": {"name": "mobile", "layers": 4},  # 36 decisions
}
CONTROLLERS = ("random", "regularized_evolution", "nsga2", "local_search")
WAYS = ("inline", "ray", "optuna_memory", "optuna_journal", "ray_tune")
TUNE_MOST = 1000  # candidates for which Ray Tune's own loop is run


@dataclass(frozen=True)
class Cell:
    """One search of the table.

    Attributes:
        way: Way in which it runs: our engine inline or under Ray, Optuna with one of its storages, or Ray Tune.
        space: Name of the space that is searched.
        controller: Name of a controller of ours; Optuna and Ray Tune search at random.
        candidates: Number of candidates to evaluate.
        workers: Number of workers of those under Ray.
        minutes: Minutes after which it is ended where it stands.
    """

    way: str
    space: str
    controller: str
    candidates: int
    workers: int
    minutes: float


@dataclass(frozen=True)
class Measured:
    """Measurements of a cell.

    Attributes:
        cell: Cell that was measured.
        done: Number of candidates that were evaluated.
        seconds: Seconds from the first outcome to the last.
        first_per_s: Candidates a second among the first `WINDOW`; None if there were fewer than two windows.
        last_per_s: Candidates a second among the last `WINDOW`.
        last_to_first: Ratio of the two, for each second of processor time of the process.
        per_s: Candidates a second, of all.
        per_cpu_s: Candidates for each second of processor time of the process, of all.
        peak_mib: Largest memory of the process.
        open_s: Seconds until another process has the run open again, all candidates and the controller; None but for
            ours.
        open_cpu_s: Seconds of processor time of that.
        open_mib: Largest memory of that process.
        disk_mb: Size of the record and of Optuna's journal, in units of 1e6 bytes.
    """

    cell: Cell
    done: int
    seconds: float
    first_per_s: float | None
    last_per_s: float | None
    last_to_first: float | None
    per_s: float
    per_cpu_s: float
    peak_mib: float
    open_s: float | None = None
    open_cpu_s: float | None = None
    open_mib: float | None = None
    disk_mb: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def cells(
    candidates: Sequence[int], spaces: Sequence[str], controllers: Sequence[str], ways: Sequence[str], **limits: Any
) -> list[Cell]:
    """The cells of the table, each once; those of Optuna and Ray Tune have no controller of ours.

    Raises:
        UserError: A name is unknown.
    """
    for kind, names, known_names in (
        ("space of this benchmark", spaces, SPACES),
        ("controller of this benchmark", controllers, CONTROLLERS),
        ("way", ways, WAYS),
    ):
        for name in names:
            one_of(kind, name, known_names)
    table_cells = [
        Cell(way, space, controller if way in ("inline", "ray") else "random", count, **limits)
        for count in candidates
        for space in spaces
        for way in ways
        for controller in controllers
        if way != "ray_tune" or count <= TUNE_MOST
    ]
    return list(dict.fromkeys(table_cells))


def measure(cell: Cell) -> Measured:
    """Run a cell in a process of its own, and open what it left in another one."""
    with tempfile.TemporaryDirectory(prefix="nasbench-engine-") as work_folder:
        measured = _elsewhere(RUN[cell.way], cell, work_folder)
        if cell.way not in ("inline", "ray"):
            return Measured(cell, **measured)
        opened = _elsewhere(_open, cell, work_folder)
        files = [Path(work_folder) / "run" / name for name in ("record.jsonl", "study.journal", "controller.json")]
        size = sum(file.stat().st_size for file in files if file.exists())
        return Measured(cell, **measured, **opened, disk_mb=size / 1e6)


def _elsewhere(work: Callable[[Cell, str], dict[str, Any]], cell: Cell, work_folder: str) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, cell, work_folder, sender))
    process.start()
    sender.close()
    try:
        result: dict[str, Any] = receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process of {cell} ended without a result") from None
    finally:
        process.join()
    return result


def _child(work: Callable[[Cell, str], dict[str, Any]], cell: Cell, work_folder: str, sender: Any) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        result = work(cell, work_folder)
    sender.send(result)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Moments:
    """Moments at which outcomes arrived.

    Args:
        cell: Cell that is measured.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.began = cell, time.monotonic()
        self.times: list[float] = []  # of each outcome
        self.spent: list[float] = []  # processor time by then

    def outcome(self) -> bool:
        """Another outcome; whether there is still time."""
        self.times.append(time.monotonic())
        self.spent.append(time.process_time())
        return self.times[-1] - self.began < 60 * self.cell.minutes

    def measured(self) -> dict[str, Any]:
        """The measurements as fields of `Measured`."""
        times, spent = self.times, self.spent
        first = last = ratio = None
        if len(times) >= 2 * WINDOW:
            first, last = (WINDOW - 1) / (times[WINDOW - 1] - times[0]), (WINDOW - 1) / (times[-1] - times[-WINDOW])
            ratio = (spent[WINDOW - 1] - spent[0]) / (spent[-1] - spent[-WINDOW])
        seconds = times[-1] - times[0]
        return {
            "done": len(times),
            "seconds": seconds,
            "first_per_s": first,
            "last_per_s": last,
            "last_to_first": ratio,
            "per_s": (len(times) - 1) / seconds,
            "per_cpu_s": (len(times) - 1) / (spent[-1] - spent[0]),
            "peak_mib": _peak_mib(),
        }


def _prepared(cell: Cell, work_folder: str) -> Any:
    from benchmarks.constant import Constant
    from nasbench.experiment.build import Brought, prepare
    from nasbench.experiment.loading import parse_experiment
    from nasbench.experiment.stored import start_run
    from nasbench.storage.run_folder import RunFolder
    from search_spaces import get_space

    options = dict(SPACES[cell.space])
    multi_objective = cell.controller == "nsga2"
    experiment = parse_experiment(
        {
            "name": "constant",
            "space": options,
            "evaluator": {"name": "benchmarks.constant:Constant"},
            "controller": {"name": cell.controller},
            "objectives": {"score": "max", "cost": "min"},
            "reward": {"name": "pareto" if multi_objective else "scalar"},
            # A small space has fewer networks than the table asks for.
            "search": {"candidates": cell.candidates, "repeats": "evaluated"},
            "executor": {"name": "ray", "workers": cell.workers} if cell.way == "ray" else {"name": "inline"},
            "survivors": 0,
            "tensorboard": False,
        }
    )
    evaluator = Constant(get_space(**options))
    prepared, folder = prepare(experiment, Brought(evaluate=evaluator)), RunFolder(Path(work_folder) / "run")
    start_run(folder, experiment, Path.cwd(), "benchmark")
    return prepared, folder, evaluator


def _engine(cell: Cell, work_folder: str) -> dict[str, Any]:
    from nasbench.experiment.run import search_run
    from nasbench.search.callbacks import Callback

    moments = Moments(cell)

    class Watch(Callback):
        def candidate_done(self, candidate: Any, study: Any) -> None:
            if not moments.outcome():
                study.stop("the time of this cell is over")

    prepared, folder, evaluator = _prepared(cell, work_folder)
    search_run(prepared, folder, prepared.study(folder, evaluator), evaluator, Watch(), handle_signals=False)
    return moments.measured()


def _open(cell: Cell, work_folder: str) -> dict[str, Any]:
    prepared, folder, evaluator = _prepared(cell, work_folder)
    began, spent = time.monotonic(), time.process_time()
    study = prepared.study(folder, evaluator)
    seconds, spent = time.monotonic() - began, time.process_time() - spent
    if study.count("running") or not study.finished:
        raise RuntimeError("what was opened is not what was measured")
    return {"open_s": seconds, "open_cpu_s": spent, "open_mib": _peak_mib()}


def _optuna(cell: Cell, work_folder: str) -> dict[str, Any]:
    import optuna

    from benchmarks.constant import cost, score
    from search_spaces import get_space

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = get_space(**SPACES[cell.space])
    moments = Moments(cell)
    if cell.way == "optuna_journal":
        backend = optuna.storages.journal.JournalFileBackend(str(Path(work_folder) / "optuna.journal"))
        storage: Any = optuna.storages.JournalStorage(backend)
    else:
        storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(
        storage=storage, directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )

    def objective(trial: Any) -> tuple[float, float]:
        picks = [
            trial.suggest_categorical(decision.name, list(range(len(decision.options)))) for decision in space.decisions
        ]
        return score(picks), cost(picks)

    def ended(study: Any, trial: Any) -> None:
        if not moments.outcome():
            study.stop()

    study.optimize(objective, n_trials=cell.candidates, callbacks=[ended])
    return moments.measured()


def _ray_tune(cell: Cell, work_folder: str) -> dict[str, Any]:
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cell.workers)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    import ray
    from ray import tune

    from search_spaces import get_space

    space = get_space(**SPACES[cell.space])
    moments = Moments(cell)

    class Watch(tune.Callback):
        def on_trial_complete(self, *arguments: Any, **names: Any) -> None:
            moments.outcome()

    ray.init(address="local", num_cpus=cell.workers, include_dashboard=False, log_to_driver=False)
    options = {decision.name: tune.choice(list(range(len(decision.options)))) for decision in space.decisions}
    tune.Tuner(
        tune.with_resources(_tuned, {"cpu": 1}),
        param_space=options,
        tune_config=tune.TuneConfig(num_samples=cell.candidates, reuse_actors=True, time_budget_s=60 * cell.minutes),
        run_config=tune.RunConfig(storage_path=work_folder, verbose=0, callbacks=[Watch()]),
    ).fit()
    ray.shutdown()
    return moments.measured()


def _tuned(config: dict[str, int]) -> dict[str, float]:
    from benchmarks.constant import cost, score

    picks = list(config.values())
    return {"score": score(picks), "cost": cost(picks)}


RUN: dict[str, Callable[[Cell, str], dict[str, Any]]] = {
    "inline": _engine,
    "ray": _engine,
    "optuna_memory": _optuna,
    "optuna_journal": _optuna,
    "ray_tune": _ray_tune,
}
