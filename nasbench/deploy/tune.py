"""A search for the fastest way to run a model, under a limit on its accuracy.

Each trial compiles in a process of its own, is judged, and is then timed in turn with eager PyTorch and with the best
so far, so that what the machine does meanwhile cancels. At the end the best few and the best default are timed in turn
in several rounds, and the fastest of these is the winner.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from optuna.trial import Trial

from nasbench.deploy.attempt import Request, run_attempt
from nasbench.deploy.playoff import EAGER, ROUNDS, playoff
from nasbench.deploy.process import ChildError
from nasbench.deploy.proposals import Proposals, Record
from nasbench.deploy.race import race_in_child
from nasbench.deploy.setting import Setting
from nasbench.deploy.tuning import Tuning, offered_settings, same_request
from nasbench.models import load_model
from nasbench.problems.problem import Problem
from nasbench.storage.files import read_json, write_json
from nasbench.survivors.stored import workbench
from nasbench_compression import backends
from nasbench_registry import UserError

BEST, NEW = "best", "new"
UNKNOWN = 0.5  # multiple of eager's time that is assumed of a backend that was not tried yet
START_S = 10.0  # assumed seconds to start a process, before one was started
RESULT, REQUEST, JOURNAL = "tune.json", "request.json", "study.journal"


@dataclass(frozen=True)
class NetworkQuality:
    """The quality of the network that settings are compared with.

    Attributes:
        problem: Problem that judges.
        value: Quality of the network itself, on the same examples.
    """

    problem: Problem
    value: float

    def lost(self, drop_pct: float) -> str:
        """A loss of quality, in words."""
        if self.problem.quality == "val_acc_pct":
            return f"{drop_pct:.2f} points of validation accuracy"
        unit = "points" if self.problem.metrics[self.problem.quality].unit == "%" else "%"
        return f"{drop_pct:.2f} {unit} of {self.problem.quality}"


class Tune:
    """A search in a folder; the same request goes on where the one before it ended, however it ended.

    Use as a context manager, which keeps other processes out of the folder.

    Args:
        tuning: Request: the model, the backends and the limits.
        out: Folder of the search.
        command: Command that started the search.

    Raises:
        UserError: the folder belongs to another request or is in use, or no backend is installed.
    """

    proposals: Proposals

    def __init__(self, tuning: Tuning, out: Path, command: str = "") -> None:
        self.tuning, self.out, self.command = tuning, out, command
        self.reference = Setting.of("eager", "fp32", {}, tuning.batch)
        self.missing = {name: reason for name in tuning.backends if (reason := backends.find(name).why_unavailable())}
        self._offered, self._defaults, self._others = offered_settings(
            tuning, [name for name in tuning.backends if name not in self.missing]
        )
        if not self._offered:
            raise UserError(f"no backend can be tried here: {'; '.join(self.missing.values())}.")
        self._lock = FileLock(out / ".lock", timeout=0)

    def __enter__(self) -> Tune:
        """Take the folder, and read what was tried in it."""
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(f"another process searches in {self.out}; wait for it, or take another folder.") from None
        try:
            same_request(self.out / REQUEST, self.tuning.to_json())
            self.proposals = Proposals(
                self.out / JOURNAL, self._offered, self._defaults, self.tuning.seed, others=self._others
            )
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the folder to others."""
        self._lock.release()

    @property
    def spent_s(self) -> float:
        """Seconds of trials, in all processes."""
        return float(sum(record["seconds"] for record in self.proposals.records))

    def run(
        self,
        max_s: float,
        *,
        on_begin: Callable[[Setting], None] = lambda setting: None,
        on_trial: Callable[[Record], None] = lambda record: None,
    ) -> dict[str, Any]:
        """Try settings until time is over or none is left, then hold the play-off; what `tune.json` holds.

        Args:
            max_s: Seconds of all trials, those of earlier processes included, and of the play-off.
            on_begin: Function that is called with each setting before it is tried.
            on_trial: Function that is called with the record of each trial.
        """
        finished = self.finished(max_s)
        if finished is not None:
            return finished
        stored = load_model(self.tuning.model)
        bench = workbench(stored, self.tuning.model, self.tuning.seed)
        problem = bench.problem.fewer(self.tuning.images, self.tuning.seed)
        network_quality = NetworkQuality(problem, problem.score(stored.model, "val")[problem.quality])
        while True:
            left_s = max_s - self.spent_s - self._playoff_s()
            proposal = self.ask(left_s)
            if proposal is None:
                break
            trial, setting = proposal
            on_begin(setting)
            started = time.monotonic()
            timeout_s = min(self.tuning.timeout_s, left_s)
            outcome = self._try(trial.number, setting, network_quality, timeout_s)
            seconds = time.monotonic() - started
            if outcome["reason"] is not None and seconds >= left_s and timeout_s < self.tuning.timeout_s:
                self.proposals.give_up(trial)  # the time was over, which is not the setting's fault
                break
            violations = outcome.pop("violations")
            record = {"trial": trial.number, "setting": setting.to_json(), "seconds": seconds, **outcome}
            value = 0.0 if outcome["ratio"] is None else math.log(outcome["ratio"]["ratio"])
            self.proposals.tell(trial, record, value, violations)
            on_trial(record)
            self._write(network_quality, max_s)
        return self._write(network_quality, max_s, self._play(), done=True)

    def ask(self, left_s: float) -> tuple[Trial, Setting] | None:
        """The next setting, of those for which there is time: cheap and promising ones first, see `Proposals`.

        What a setting costs is the time of its trial, times what the best of its backend takes of eager's time: half
        where that is not known.

        Args:
            left_s: Seconds that are left for the trial.
        """
        expected = self._expected_seconds()
        ratios: dict[str, float] = {self.reference.backend: 1.0}
        for record in self.proposals.records:
            backend, ratio = record["setting"]["backend"], record.get("ratio")
            if ratio is not None:
                ratios[backend] = min(ratios.get(backend, math.inf), float(ratio["ratio"]))
        return self.proposals.ask(
            lambda setting: expected[setting.backend] < left_s,
            lambda setting: expected[setting.backend] * ratios.get(setting.backend, UNKNOWN),
        )

    def finished(self, max_s: float) -> dict[str, Any] | None:
        """The result, if this search was brought to its end before, and had as much time."""
        file = self.out / RESULT
        if not file.exists():
            return None
        stored = read_json(file, "delete it, and the search is finished again", ("done", "max_minutes"))
        return stored if stored["done"] and stored["max_minutes"] * 60 >= max_s - 1e-6 else None

    def _try(self, number: int, setting: Setting, network_quality: NetworkQuality, timeout_s: float) -> Record:
        """Compile, judge, and time in turn with eager and the best so far."""
        folder = self.out / "trials" / str(number)
        outcome: Record = {
            "reason": None,
            "violations": {"runs": 1.0, "accuracy": 0.0, "latency": 0.0},
            "ratio": None,
            "of_best": None,
            "latency_ms": None,
        }
        end = time.monotonic() + timeout_s
        try:
            request = Request(
                model=str(self.tuning.model),
                setting=self._with_records(setting).to_json(),
                seconds=0,
                images=self.tuning.images,
                artefact=str(folder),
                seed=self.tuning.seed,
            )
            attempt = run_attempt(request, timeout_s)
            quality = network_quality.problem.quality
            outcome |= {key: attempt[key] for key in ("conversion_s", "size_bytes", quality, "max_logit_diff")}
            lost = network_quality.problem.drop_pct(attempt[quality], network_quality.value)
            drop = round(lost - self.tuning.max_acc_drop_pct, 6)
            outcome["violations"] |= {"runs": 0.0, "accuracy": drop}
            if drop > 0:
                outcome["reason"] = f"it loses {network_quality.lost(lost)}"
                return outcome
            best = self.best
            entrants = {EAGER: self._entrant(self.reference, None)}
            entrants |= {} if best is None else {BEST: self.entrant(best)}
            entrants |= {NEW: self._entrant(setting, folder)}
            race = race_in_child(entrants, seconds=self.tuning.seconds, timeout_s=max(1.0, end - time.monotonic()))
        except ChildError as error:
            outcome["reason"] = str(error)
            outcome["violations"]["runs"] = 1.0
            return outcome
        latency = race.latencies[NEW]
        outcome |= {"latency_ms": latency.to_json(), "ratio": race.ratios[NEW, EAGER].to_json()}
        outcome["throughput_per_s"] = latency.throughput_per_s
        if best is not None:
            outcome["of_best"] = {"trial": best["trial"], **race.ratios[NEW, BEST].to_json()}
        limit = self.tuning.max_latency_ms
        if limit is not None and latency.median > limit:
            outcome["violations"]["latency"] = math.log(latency.median / limit)
            outcome["reason"] = f"a call takes {latency.median:.3g} ms, which is more than {limit:g}"
        return outcome

    @property
    def able(self) -> list[Record]:
        """The trials that keep the limits, the fastest first, by their ratios to eager."""
        records = [record for record in self.proposals.records if record["reason"] is None]
        return sorted(records, key=lambda record: float(record["ratio"]["ratio"]))

    @property
    def best(self) -> Record | None:
        """The best so far."""
        return self.able[0] if self.able else None

    def entrant(self, record: Record) -> dict[str, Any]:
        """A trial as `race_in_child` takes it."""
        return self._entrant(Setting.from_json(record["setting"]), self.out / "trials" / str(record["trial"]))

    def _entrant(self, setting: Setting, folder: Path | None) -> dict[str, Any]:
        return {
            "model": str(self.tuning.model),
            "artefact": None if folder is None else str(folder),
            "setting": self._with_records(setting).to_json(),
        }

    def _with_records(self, setting: Setting) -> Setting:
        """Records of a compiler's own tuning lie beside the trials, and the next trial goes on with them."""
        kind = backends.find(setting.backend)
        if not any(field.name == "records" for field in dataclasses.fields(kind)):
            return setting
        options = {**dict(setting.options), "records": str(self.out / "records")}
        return dataclasses.replace(setting, options=tuple(sorted(options.items())))

    def _expected_seconds(self) -> dict[str, float]:
        """Expected seconds of a trial of each backend: the mean of its own trials, or a guess from those of others."""
        spent: dict[str, list[float]] = {}
        overheads_s = [START_S]  # seconds of a trial besides compiling, where they are known
        for record in self.proposals.records:
            spent.setdefault(record["setting"]["backend"], []).append(record["seconds"])
            if record.get("conversion_s") is not None:
                overheads_s.append(record["seconds"] - record["conversion_s"])
        guess = mean(overheads_s[1:] or overheads_s)
        names = dict.fromkeys(setting.backend for setting in self.proposals.offered)
        return {name: mean(spent[name]) if name in spent else guess + backends.find(name).compile_s for name in names}

    def _playoff_s(self) -> float:
        """Seconds of the play-off: a start, every contender compiled again, and eager beside them."""
        contenders = self._contenders()
        compiling = sum(float(record["conversion_s"]) for record in contenders)
        return START_S + compiling + (1 + len(contenders)) * ROUNDS * self.tuning.seconds

    def _contenders(self) -> list[Record]:
        """The best few, and the best few of the defaults."""
        able = self.able
        defaults = [record for record in able if self._is_default(record)]
        return [*able[:3], *(record for record in defaults[:2] if record not in able[:3])]

    def _is_default(self, record: Record) -> bool:
        return Setting.from_json(record["setting"]) in self.proposals.defaults

    def _play(self) -> dict[str, Any] | None:
        contenders = {str(record["trial"]): self.entrant(record) for record in self._contenders()}
        if not contenders:
            return None
        reference = self._entrant(self.reference, None)
        return playoff(reference, contenders, seconds=self.tuning.seconds, timeout_s=self.tuning.timeout_s)

    def _write(
        self,
        network_quality: NetworkQuality,
        max_s: float,
        playoff_result: dict[str, Any] | None = None,
        *,
        done: bool = False,
    ) -> dict[str, Any]:
        records = self.proposals.records
        result: dict[str, Any] = {
            "command": self.command,
            "done": done,
            "request": self.tuning.to_json(),
            "max_minutes": max_s / 60,
            "spent_s": self.spent_s,
            "quality": network_quality.problem.quality,
            network_quality.problem.quality: network_quality.value,
            "settings": len(self.proposals.offered),
            "winner": None,
            "runner_up": None,
            "best_default": None,
            "trials": records,
            "failed": [
                {"setting": record["setting"], "reason": record["reason"]} for record in records if record["reason"]
            ],
            "not_installed": self.missing,
        }
        if playoff_result is not None:
            result |= {"eager_latency_ms": playoff_result["eager_latency_ms"], "left_out": playoff_result["left_out"]}
        if playoff_result is not None and playoff_result["order"]:
            by_trial = {str(record["trial"]): record for record in records}
            order: list[str] = playoff_result["order"]
            default = [number for number in order if self._is_default(by_trial[number])]
            for place, trials in (("winner", order[:1]), ("runner_up", order[1:2]), ("best_default", default[:1])):
                for number in trials:
                    result[place] = _placed(
                        by_trial[number], playoff_result["race"][number], network_quality.problem.quality
                    )
            _copy(self.out / "trials" / order[0], self.out / "best")
            result["winner"]["artefact"] = "best"
        write_json(self.out / RESULT, result)
        return result


def _placed(record: Record, raced: Mapping[str, Any], quality: str) -> dict[str, Any]:
    keys = ("trial", "setting", quality, "size_bytes", "conversion_s")
    return {"label": Setting.from_json(record["setting"]).label(), **{key: record[key] for key in keys}, **raced}


def _copy(source: Path, target: Path) -> None:
    aside = target.with_name(f".{target.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
