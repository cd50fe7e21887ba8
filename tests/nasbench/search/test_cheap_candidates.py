"""Thousands of candidates that cost nothing: in blocks, killed anywhere, the controller brought to where it stood."""

import itertools
import json
import logging
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from controllers import SearchFinished, get_controller
from controllers.random import Random
from nasbench.evaluators.evaluate import evaluate_many
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.evaluators.trial import Evaluated
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Pareto, Scalar
from nasbench.search import disk_record, study
from nasbench.search.config import ExecutorConfig, SearchConfig
from nasbench.search.disk_record import DiskRecord
from nasbench.search.executors.executor import ExecutorOptions
from nasbench.search.executors.inline import Inline
from nasbench.search.standing import read_standing
from nasbench.search.study import Study
from nasbench.search.tally import Tally
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.line_file import LineFile
from nasbench.storage.pace import Pace
from nasbench.storage.run_folder import RunFolder
from search_spaces import Decision, SearchSpace

OBJECTIVES = (Objective(metric="score", goal="max"), Objective(metric="cost", goal="min"))
CONTROLLERS = {
    "random": {},
    "regularized_evolution": {"population": 10, "tournament": 3},
    "nsga2": {"population": 8},
    "local_search": {"initial": 3},
    "optuna_nsga3": {"population_size": 4},
}


class Small(SearchSpace):
    """Few enough networks that controllers meet the same ones again and again; some decisions do not always matter."""

    name = "small"
    decisions = (
        Decision("a", (0, 1, 2)),
        Decision("b", (0, 1, 2, 3)),
        Decision("c", (0, 1), when={"a": (1, 2)}),
        Decision("d", (0, 1, 2)),
    )

    def build(self, arch, task):
        raise NotImplementedError


SPACE = Small()


class Sums(Evaluator):
    """Takes several at once; every seventh network fails."""

    def __init__(self):
        super().__init__(SPACE)
        self.blocks = []

    def __call__(self, candidate):
        self.blocks.append(1)
        return self._of(candidate)

    def evaluate_many(self, candidates):
        self.blocks.append(len(candidates))
        return [ValueError("seven") if sum(c.arch.picks) == 7 else self._of(c) for c in candidates]

    def _of(self, candidate):
        if sum(candidate.arch.picks) == 7:
            raise ValueError("seven")
        a, b, c, d = candidate.arch.picks
        return {"score": 3.0 * a - b + d, "cost": float(b + 2 * c + d)}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and clean up."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """No machine loses its power here."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture
def begin(tmp_path):
    """Begin a study in a folder, or go on with the one that is there."""

    def opened(name="run", controller="regularized_evolution", candidates=40, repeats="answered", seed=1):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Study(
            get_controller(controller, SPACE, seed=seed, **CONTROLLERS.get(controller, {})),
            OBJECTIVES,
            Pareto(name="pareto") if controller == "nsga2" else Scalar(name="scalar"),
            SearchConfig(candidates=candidates, max_failures=100, repeats=repeats),
            DiskRecord(folder / "study.journal", SPACE, OBJECTIVES, name="cheap"),
            state=folder / "controller.json",
        )

    return opened


def drive(study, count, evaluator=None):
    """Search in blocks of up to so many."""
    evaluator = evaluator or Sums()
    while True:
        try:
            trials = study.next_trials(count)
        except SearchFinished:
            return evaluator
        for trial, evaluated in zip(trials, evaluate_many(evaluator, trials), strict=True):
            study.finish(trial.number, evaluated)


@pytest.mark.parametrize("metrics", [{"score": 1.0, "cost": 1.0}, {"score": 1.0}], ids=["done", "a metric is missing"])
@pytest.mark.parametrize("simulated", [False, True])
def test_a_simulated_training_is_not_waited_for_at_the_disk(begin, monkeypatch, simulated, metrics):
    """The seconds of such a candidate are those that its training would have taken: to look it up is cheap."""
    study, waited, append = begin(controller="random"), [], LineFile.append
    monkeypatch.setattr(
        LineFile, "append", lambda file, entry, *, now: (waited.append(now), append(file, entry, now=now))[1]
    )
    for _ in range(20):
        number = study.next_trial().number
        seconds = {"seconds": 900.0, "simulated_s": 900.0 if simulated else 0.0}
        study.finish(number, Evaluated("done", metrics, None, **seconds))
    assert {candidate.status for candidate in study.candidates} == {"done" if len(metrics) == 2 else "failed"}
    assert waited == ([True] + [False] * 39 if simulated else [True] * 40)


def results(study):
    return [(c.id, c.arch, c.status, c.metrics, c.scores, dict(c.choices)) for c in study.candidates]


@pytest.mark.parametrize("repeats", ["answered", "evaluated"])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_in_blocks_a_search_is_that_of_one_candidate_after_the_other(begin, controller, repeats):
    alone, blocks = begin("alone", controller, repeats=repeats), begin("blocks", controller, repeats=repeats)
    drive(alone, 1)
    evaluator = drive(blocks, 7)
    assert results(blocks) == results(alone)
    if len(alone.candidates) == 40:  # else it ended because nothing new came, after asking in vain so many times
        assert blocks._controller.state_dict() == alone._controller.state_dict()
    assert max(evaluator.blocks) <= 7 and (max(evaluator.blocks) > 1) == (controller != "optuna_nsga3")


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("often", [False, True], ids=["a state at the beginning", "a state after every event"])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_killed_at_any_line_of_the_record_it_ends_like_an_undisturbed_run(begin, monkeypatch, controller, often, count):
    if often:
        monkeypatch.setattr(study, "STATE_EVERY", 0)
        monkeypatch.setattr(study, "STATE_EVERY_S", 0.0)
    calm = begin("calm", controller, 24)
    drive(calm, count)
    append, total = LineFile.append, calm.record.lines - 1  # the first line is there before
    moments = itertools.count()

    def dying(self, entry, *, now):
        if next(moments) == moment:
            raise Killed
        append(self, entry, now=now)
        if next(moments) == moment:
            raise Killed

    moment = None
    for moment in range(0, 2 * total, 19 if often else 13):
        name = f"rough{moment}"
        begin(name, controller, 24)
        moments = itertools.count()
        monkeypatch.setattr(LineFile, "append", dying)
        with pytest.raises(Killed):
            drive(begin(name, controller, 24), count)
        monkeypatch.setattr(LineFile, "append", append)
        again = begin(name, controller, 24)
        kept = [candidate.id for candidate in again.candidates if candidate.status != "running"]
        evaluator = drive(again, count)
        assert results(again) == results(calm), moment
        assert again._controller.state_dict() == calm._controller.state_dict()
        assert sum(evaluator.blocks) == len(calm.candidates) - len(kept), "what had ended was evaluated again"


def test_a_state_that_was_written_in_the_middle_of_a_block_leads_to_the_same_proposals(begin, monkeypatch):
    """A repeated proposal waits for those before it in its block, also where the block began before the state."""
    append = LineFile.append

    def dying(self, entry, *, now):
        append(self, entry, now=now)
        if entry.get("candidate") == 4:
            raise Killed

    for seed in range(40):  # in one of some 17 such a repeat comes early enough to matter
        calm = begin(f"calm{seed}", candidates=24, seed=seed)
        drive(calm, 5)
        monkeypatch.setattr(LineFile, "append", dying)
        with pytest.raises(Killed):
            drive(begin(f"rough{seed}", candidates=24, seed=seed), 5)
        monkeypatch.setattr(LineFile, "append", append)
        again = begin(f"rough{seed}", candidates=24, seed=seed)
        drive(again, 5)
        assert results(again) == results(calm), seed


def test_an_older_state_of_the_controller_leads_to_the_same_proposals(begin, tmp_path):
    """And so does none at all: what it was asked and told is in the record."""
    calm = begin("calm", "regularized_evolution", 30)
    drive(calm, 4)
    for number, keep in enumerate((True, False)):
        name = f"rough{number}"
        first = begin(name, "regularized_evolution", 30)
        for _ in range(17):
            (trial,) = first.next_trials(1)
            first.finish(trial.number, evaluate_many(Sums(), [trial])[0])
        state = tmp_path / name / "controller.json"
        assert json.loads(state.read_bytes())["lines"] < first.record.lines, "the state is as old as its first moment"
        if not keep:
            state.unlink()
        again = begin(name, "regularized_evolution", 30)
        assert again._controller.state_dict() == first._controller.state_dict()
        drive(again, 4)
        assert results(again) == results(calm)


def test_a_controller_that_does_not_repeat_itself_is_told_of_everything(begin, caplog, monkeypatch):
    first = begin("run", "regularized_evolution", 30)
    for _ in range(12):
        (trial,) = first.next_trials(1)
        first.finish(trial.number, evaluate_many(Sums(), [trial])[0])
    (running,) = first.next_trials(1)
    begin_again = Random._propose
    monkeypatch.setattr(
        "controllers.regularized_evolution.RegularizedEvolution._propose",
        lambda self: begin_again(type("", (), {"space": SPACE, "rng": np.random.default_rng()})()),
    )
    with caplog.at_level(logging.WARNING):
        again = begin("run", "regularized_evolution", 30)
    assert "does not propose again what it proposed before" in caplog.text
    scored = [c.arch for c in again.candidates if c.scores]
    assert [arch for arch, _ in again._controller.members] == scored[-10:]
    assert again.next_trials(1) == [running]


def test_of_cheap_candidates_a_person_hears_in_blocks(begin, tmp_path, monkeypatch):
    """Optuna hears at once as long as candidates are slow, and of all of them in the end, whole and in order."""
    monkeypatch.setattr(disk_record, "BURST", 1)
    slow = begin("slow", "random", 30)
    (trial,) = slow.next_trials(1)
    assert states(tmp_path / "slow") == ["RUNNING"]
    slow.record._pace = slow.record._cheap_pace = never()
    for _ in range(5):
        slow.finish(trial.number, Evaluated("done", {"score": 1.0, "cost": 2.0}, None, 0.0))
        (trial,) = slow.next_trials(1)
    assert states(tmp_path / "slow") == ["RUNNING"], "these wait for the next block"
    slow.record.flush()
    assert states(tmp_path / "slow") == ["COMPLETE"] * 5 + ["RUNNING"]
    again = begin("slow", "random", 30)
    drive(again, 4)
    expected = {"done": "COMPLETE", "failed": "FAIL"}
    assert states(tmp_path / "slow") == [expected[candidate.status] for candidate in again.candidates]
    trials = optuna.load_study(study_name="cheap", storage=storage(tmp_path / "slow")).trials
    assert [dict(trial.params) for trial in trials] == [dict(candidate.choices) for candidate in again.candidates]


def test_of_a_few_candidates_a_second_a_person_hears_at_once(begin, tmp_path, monkeypatch):
    """Each runs for half a second, and is seen while it runs, and when it has ended."""
    clock = [0.0]
    monkeypatch.setattr("nasbench.storage.pace.time", SimpleNamespace(monotonic=lambda: clock[0]))
    run = begin("run", "random", 30)
    for done in range(12):
        (trial,) = run.next_trials(1)
        assert states(tmp_path / "run") == ["COMPLETE"] * done + ["RUNNING"]
        clock[0] += 0.5
        run.finish(trial.number, Evaluated("done", {"score": 1.0, "cost": 2.0}, None, 0.5))
        assert states(tmp_path / "run") == ["COMPLETE"] * (done + 1)


def never():
    pace = Pace(1, 1e9)
    pace.allows()
    return pace


def storage(folder):
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.journal")))


def states(folder):
    return [trial.state.name for trial in optuna.load_study(study_name="cheap", storage=storage(folder)).trials]


def test_slow_outcomes_are_on_the_disk_before_the_controller_hears_of_them(begin, monkeypatch):
    """Cheap ones wait for the disk together."""
    synced, heard = [], []
    run = begin("run", "random", 30)
    monkeypatch.setattr(run.record._file, "sync", lambda: synced.append(run.record.lines))
    monkeypatch.setattr(run._controller, "tell", lambda outcome: heard.append(len(synced)))
    run.record._pace, run.record._cheap_pace, run._state_due = never(), never(), float("inf")
    for seconds in (2.0, 0.001, 0.001, 2.0):
        (trial,) = run.next_trials(1)
        before = len(synced)
        run.finish(trial.number, Evaluated("done", {"score": 1.0, "cost": 1.0}, None, seconds))
        assert (heard[-1] > before) == (seconds > 1), seconds


def test_an_executor_gives_a_cheap_evaluator_several_at_once(begin, tmp_path):
    run, evaluator, ended = begin("run", "random", 200, "evaluated"), Sums(), []
    options = ExecutorOptions(ExecutorConfig(), Checkpoints(tmp_path), tmp_path)
    Inline(options).run(run, evaluator, ended.append)
    assert [candidate.id for candidate in ended] == list(range(len(run.candidates)))
    assert max(evaluator.blocks) > 16 and sum(evaluator.blocks) == len(ended)


def test_a_block_that_fails_as_a_whole_is_evaluated_one_by_one(begin):
    class Fails(Sums):
        def evaluate_many(self, candidates):
            raise RuntimeError("no memory for so many")

    run = begin("run", "random", 20)
    assert set(drive(run, 6, Fails()).blocks) == {1}
    calm = begin("calm", "random", 20)
    drive(calm, 6)
    assert results(run) == results(calm)


def test_a_function_may_offer_to_take_several():
    class Function:
        def __call__(self, candidate):
            return {"score": 1.0}

        def evaluate_many(self, candidates):
            return [{"score": float(candidate.number)} for candidate in candidates]

    assert FunctionEvaluator(SPACE, Function()).at_once > 1
    assert FunctionEvaluator(SPACE, lambda candidate: {}).at_once == 1


ANOTHERS = b'{"record": "another", "bytes": 0, "tally": 0, "running": 0}'


@pytest.mark.parametrize("damage", [None, b"{}", b"no JSON", ANOTHERS])
def test_how_far_a_search_is_takes_no_look_at_all_candidates(begin, tmp_path, damage):
    run = begin("run", "nsga2", 60)
    for _ in range(4):
        trials = run.next_trials(7)
        for trial, evaluated in zip(trials, evaluate_many(Sums(), trials), strict=True):
            run.finish(trial.number, evaluated)
    left = [trial.number for trial in run.next_trials(5)]
    standing = tmp_path / "run/standing.json"
    covered = json.loads(standing.read_bytes())["bytes"]
    assert 0 < covered < (tmp_path / "run/record.jsonl").stat().st_size / 2, "most of the lines came later"
    if damage is not None:
        standing.write_bytes(damage)
    settings = SimpleNamespace(objectives=OBJECTIVES, full_epochs=1, asked={"storage": None}, name="cheap")
    state = read_standing(RunFolder(tmp_path / "run"), settings)
    tally = Tally(OBJECTIVES, 1, run.candidates)
    assert state.tally.counts == tally.counts and tally.counts["failed"]
    assert (state.tally.front, state.tally.best, state.tally.finished_s) == (tally.front, tally.best, tally.finished_s)
    assert list(state.running) == left and [candidate.architecture for candidate in state.running.values()] == [
        run.candidates[number].architecture for number in left
    ]
