"""``python -m benchmarks.chaos``: kill parts of a search at random moments, and compare it with an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.command import run_command
from nasbench.cli.options import Json, Override
from nasbench.cli.output import err, show, tell
from nasbench.experiment.loading import load_experiment
from nasbench.search.disk_record import RECORD
from nasbench.storage.checkpoints import LOG
from nasbench_registry import UserError

KINDS = ("worker", "driver", "node")
PAUSE_S = 1.5  # after the candidate that sets a fault off, the fault waits up to so long
COMMAND = (sys.executable, "-c", "from nasbench.cli.app import main; main()")


@dataclass
class Fault:
    """One kill.

    Attributes:
        kind: Kind of what is killed: worker, driver or node.
        after: Number of outcomes in the record when it was set off.
        at_s: Seconds since the beginning of the disturbed run.
        running: Candidates that were in training, with the epochs that they had finished.
        repeated_epochs: Number of these epochs that were trained again.
    """

    kind: str
    after: int
    at_s: float = 0.0
    running: dict[int, int] | None = None
    repeated_epochs: int = 0


@dataclass
class Chaos:
    """Result of the two runs.

    Attributes:
        faults: Faults in order.
        candidates: Number of candidates that each run was asked for.
        done: Number of candidates of the disturbed run that are done.
        missing: Numbers of the candidates without an outcome.
        running: Numbers of the candidates that are still running.
        twice: Numbers of the candidates with more than one outcome in the record.
        different: Numbers of the candidates whose architecture, scores or metrics are not those of the undisturbed run.
        epochs: Number of epochs of training that the candidates need.
        epochs_trained: Number of epochs that were finished, repetitions included.
        report: Whether the report is complete: every candidate, the survivors with all stages, the page.
        seconds: Duration of the disturbed run, in seconds.
        calm_seconds: Duration of the undisturbed run, in seconds.
    """

    faults: list[Fault]
    candidates: int
    done: int
    missing: list[int]
    running: list[int]
    twice: list[int]
    different: list[int]
    epochs: int
    epochs_trained: int
    report: bool
    seconds: float
    calm_seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, repeated or changed."""
        broken = self.missing or self.running or self.twice or self.different
        return self.report and not broken and self.done == self.candidates

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and `sound`."""
        return asdict(self) | {"sound": self.sound}


def chaos(
    experiment: Path,
    folder: Path,
    *,
    candidates: int,
    faults: int,
    seed: int,
    overrides: Sequence[str] = (),
    on_event: Callable[[str], None] = lambda text: None,
) -> Chaos:
    """Run an experiment twice: undisturbed with one worker, and on a cluster whose parts are killed.

    A search that looks its results up needs no cluster: of it the process is killed, again and again.

    Args:
        experiment: Experiment file; its controller must not depend on the order of results, unless it has one worker;
            its metrics not on measurement.
        folder: Folder for the two runs, `calm` and `rough`.
        candidates: Number of candidates of each run.
        faults: Number of kills, of each kind in turn in a random order, at random moments.
        seed: Random seed of the kinds and moments.
        overrides: ``key=value`` texts for both runs.
        on_event: Function that is called with a sentence for each event.

    Raises:
        UserError: A run ended with an error.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; give a new folder with --run.")
    folder.mkdir(parents=True)
    arguments = [str(experiment), *(word for text in overrides for word in ("-o", text))]
    arguments += ["-o", f"search.candidates={candidates}"]
    on_event("undisturbed run with one worker")
    started = time.monotonic()
    calm = _Driver(folder / "calm", [*arguments, "-o", "executor={name: inline}"])
    calm.start()
    calm.wait()
    calm_seconds = time.monotonic() - started
    rng = random.Random(seed)
    without_cluster = load_experiment(experiment, overrides).evaluator is not None
    planned = _plan(rng, candidates, faults, ("driver",) if without_cluster else KINDS)
    disturbed = _killed if without_cluster else _disturbed
    rough = disturbed(folder / "rough", arguments, planned, rng, on_event)
    return _compare(folder, planned, candidates, rough, calm_seconds)


def _plan(rng: random.Random, candidates: int, faults: int, of: Sequence[str]) -> list[Fault]:
    kinds = [of[index % len(of)] for index in range(faults)]
    rng.shuffle(kinds)
    moments = sorted(rng.sample(range(1, max(candidates - 1, faults + 1)), faults))
    return [Fault(kind, after) for kind, after in zip(kinds, moments, strict=True)]


def _killed(
    run: Path, arguments: Sequence[str], planned: Sequence[Fault], rng: random.Random, on_event: Callable[[str], None]
) -> float:
    """The run in one process, which is killed at each fault; its seconds."""
    on_event("disturbed run in one process")
    started = time.monotonic()
    driver = _Driver(run, [*arguments, "-o", "executor={name: inline}"])
    driver.start()
    for fault in planned:
        driver.wait_for(lambda after=fault.after: _count(run) >= after)  # type: ignore[misc]
        driver.kill()
        fault.running, fault.at_s = {}, time.monotonic() - started
        on_event(f"{fault.at_s:5.1f} s: killed the process after {_count(run)} outcomes")
        driver.start()
    driver.wait()
    return time.monotonic() - started


def _disturbed(
    run: Path, arguments: Sequence[str], planned: Sequence[Fault], rng: random.Random, on_event: Callable[[str], None]
) -> float:
    """The run with the faults; its seconds."""
    import ray
    from ray.cluster_utils import Cluster

    on_event("disturbed run on a cluster of a head and two nodes")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        started = time.monotonic()
        driver = _Driver(run, [*arguments, "-o", f"ray.address={cluster.address}"])
        driver.start()
        for fault in planned:
            driver.wait_for(lambda after=fault.after: len(outcomes(run)) >= after)  # type: ignore[misc]
            time.sleep(rng.uniform(0, PAUSE_S))
            fault.running = _in_training(run)
            fault.at_s = time.monotonic() - started
            if fault.kind == "worker":
                _kill_worker(driver, run, rng)
            elif fault.kind == "node":
                cluster.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1))
            else:
                driver.kill()
                driver.start()
            on_event(f"{fault.at_s:5.1f} s: killed a {fault.kind} after {len(outcomes(run))} outcomes")
        driver.wait()
        return time.monotonic() - started
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray does not annotate it
        ray.shutdown()


class _Driver:
    """The process of a search: started, killed, resumed."""

    def __init__(self, run: Path, arguments: Sequence[str]) -> None:
        self.run, self.arguments = run, arguments
        self.log = run.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the search, or go on with it."""
        begun = (self.run / "config.yaml").exists()
        command_words = ["resume", str(self.run)] if begun else ["search", *self.arguments, "--run", str(self.run)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*COMMAND, *command_words], stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """SIGKILL: no handler runs."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait for something that the search does."""
        assert self.process is not None
        while not reached():
            if self.process.poll() is not None:
                self._fail("ended before the faults were done")
            time.sleep(0.02)

    def wait(self) -> None:
        """Wait for the end of the search."""
        assert self.process is not None
        if self.process.wait():
            self._fail(f"ended with exit code {self.process.returncode}")

    def _fail(self, ending: str) -> None:
        last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise UserError(f"the search in {self.run} {ending}: {' | '.join(last)}")


def outcomes(run: Path) -> list[int]:
    """The number of the candidate of each outcome in the record of a run, in order."""
    record = run / RECORD
    lines = record.read_bytes().split(b"\n")[:-1] if record.exists() else []
    return [int(json.loads(line)["candidate"]) for line in lines if b'"outcome"' in line]


def _count(run: Path) -> int:
    """How many outcomes there are, for who asks again and again."""
    record = run / RECORD
    return record.read_bytes().count(b'"outcome"') if record.exists() else 0


def epochs_log(run: Path) -> list[dict[str, int]]:
    """The finished epochs of a run, in order; half a line at the end is left out."""
    log = run / "checkpoints" / LOG
    return [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]] if log.exists() else []


def _in_training(run: Path) -> dict[int, int]:
    """The candidates without an outcome that have begun, with the last epoch that they finished."""
    finished, reached = set(outcomes(run)), Counter[int]()
    for line in epochs_log(run):
        reached[line["candidate"]] = max(reached[line["candidate"]], line["epoch"])
    return {number: epoch for number, epoch in reached.items() if number not in finished}


def _kill_worker(driver: _Driver, run: Path, rng: random.Random) -> None:
    """Kill a process in the middle of a candidate's training; waits for one if there is none.

    It is held first, for it may have finished since it was looked at; then it is let go, and another one is waited for.
    """
    epochs = load_experiment(run / "config.yaml").training.epochs

    def hit() -> bool:
        training = sorted(_training(run, epochs))
        if not training:
            return False
        process = rng.choice(training)
        try:
            os.kill(process, signal.SIGSTOP)
            held = process in _training(run, epochs)
            os.kill(process, signal.SIGKILL if held else signal.SIGCONT)
        except ProcessLookupError:
            return False
        return held

    driver.wait_for(hit)


def _training(run: Path, epochs: int) -> set[int]:
    """The processes that have begun with a candidate and are not done with its last epoch."""
    latest = {line["candidate"]: line["process"] for line in epochs_log(run)}
    processes = {latest[number] for number, epoch in _in_training(run).items() if epoch < epochs}
    return {process for process in processes if Path(f"/proc/{process}").exists()}


def _compare(folder: Path, faults: list[Fault], candidates: int, seconds: float, calm_seconds: float) -> Chaos:
    calm, rough = (
        json.loads((folder / name / "report.json").read_text(encoding="utf-8")) for name in ("calm", "rough")
    )
    rough_by_id = {candidate["id"]: candidate for candidate in rough["candidates"]}
    compared_keys = ("architecture", "status", "metrics", "scores", "epochs")
    different = [
        candidate["id"]
        for candidate in calm["candidates"]
        if candidate["id"] in rough_by_id
        and any(candidate[key] != rough_by_id[candidate["id"]][key] for key in compared_keys)
    ]
    trained = Counter((line["candidate"], line["epoch"]) for line in epochs_log(folder / "rough"))
    for fault in faults:
        for number, epoch in (fault.running or {}).items():
            fault.repeated_epochs += sum(trained[number, trained_epoch] > 1 for trained_epoch in range(1, epoch + 1))
    stages = [stage["name"] for survivor in rough["survivors"] for stage in survivor["stages"]]
    complete = (
        rough["status"] == "complete"
        and len(rough_by_id) == candidates
        and stages == [stage["name"] for survivor in calm["survivors"] for stage in survivor["stages"]]
        and (folder / "rough" / "report.html").exists()
    )
    return Chaos(
        faults=faults,
        candidates=candidates,
        done=sum(candidate["status"] == "done" for candidate in rough_by_id.values()),
        missing=[number for number in range(candidates) if number not in rough_by_id],
        running=[number for number, candidate in rough_by_id.items() if candidate["status"] == "running"],
        twice=sorted(number for number, count in Counter(outcomes(folder / "rough")).items() if count > 1),
        different=different,
        epochs=len(trained),
        epochs_trained=trained.total(),
        report=complete,
        seconds=seconds,
        calm_seconds=calm_seconds,
    )


def command(
    experiment: Annotated[Path, typer.Argument(help="The experiment file, such as experiments/chaos.yaml.")],
    candidates: Annotated[int, typer.Option(min=4, help="Candidates of each of the two runs.")] = 60,
    faults: Annotated[int, typer.Option(min=1, help="How often something is killed.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of what is killed when.")] = 0,
    run: Annotated[Path | None, typer.Option(help="Folder for the runs [runs/chaos-TIME].", show_default=False)] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Kill workers, the driver and nodes of a search at random moments; compare it with an undisturbed run."""
    if faults > candidates - 2:
        raise typer.BadParameter(f"{faults} faults need at least {faults + 2} candidates, not {candidates}.")
    folder = run or Path("runs") / f"chaos-{time.strftime('%Y%m%d-%H%M%S')}"
    result = chaos(
        experiment,
        folder,
        candidates=candidates,
        faults=faults,
        seed=seed,
        overrides=override or [],
        on_event=tell,
    )
    table = Table(
        title=f"{faults} faults in a search of {candidates} candidates",
        caption=(
            f"{result.done} done, {len(result.missing)} missing, {len(result.running)} running, "
            f"{len(result.twice)} with two outcomes, {len(result.different)} different from the undisturbed run; "
            f"{result.epochs_trained} epochs were trained for {result.epochs} that were needed; "
            f"report {'complete' if result.report else 'incomplete'}; "
            f"{result.seconds:.0f} s, undisturbed with one worker {result.calm_seconds:.0f} s"
        ),
    )
    for column in ("fault", "killed", "at s", "outcomes by then", "in training (epochs)", "epochs trained again"):
        table.add_column(column, justify="left" if column == "killed" else "right")
    for number, fault in enumerate(result.faults, start=1):
        training = ", ".join(f"#{candidate} ({epoch})" for candidate, epoch in (fault.running or {}).items())
        table.add_row(
            str(number), fault.kind, f"{fault.at_s:.1f}", str(fault.after), training or "-", str(fault.repeated_epochs)
        )
    show(result.to_json(), table, as_json=json)
    if not result.sound:
        err.print("something was lost, repeated or changed")
        raise typer.Exit(1)


if __name__ == "__main__":
    run_command(command, "chaos")
