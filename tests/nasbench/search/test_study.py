"""The study: nothing that finished is lost or done twice, whenever the process dies."""

import json

import numpy as np
import optuna
import pytest
from tests_support import begin

from controllers import Proposal, SearchFinished
from controllers.random import Random
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.evaluators.trial import Evaluated
from nasbench.experiment.stored import start_run
from nasbench.objectives.reward import scores
from nasbench.report import figures
from nasbench.report.build import build_report
from nasbench.search.select import choose_survivors
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError
from search_spaces import get_space

CONTROLLERS = {
    "random": {"name": "random"},
    "regularized_evolution": {"name": "regularized_evolution", "population": 4, "tournament": 2},
    "reinforce": {"name": "reinforce"},
    "hyperband": {"name": "hyperband", "max_epochs": 9},
    "optuna_nsga2": {"name": "optuna_nsga2", "population_size": 4},
    "optuna_nsga3": {"name": "optuna_nsga3", "population_size": 4},
}


def metrics_of(trial):
    """Metrics that depend on the architecture alone, so that a search is a pure function of its seed."""
    return {"val_acc_pct": 50.0 + sum(trial.arch.picks), "macs": 1000.0 * (1 + trial.arch.picks[0])}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and clean up."""


@pytest.fixture
def open_study(tmp_path, small):
    return lambda path="run", **changes: begin(tmp_path / path, small(**changes)).study


@pytest.fixture
def folder(tmp_path):
    """Where `open_study` opens a study, if it is told nothing else."""
    return RunFolder(tmp_path / "run")


def drive(study, evaluator=lambda trial: metrics_of(trial)):
    order = []
    while True:
        try:
            trial = study.next_trial()
        except SearchFinished:
            return order
        order.append(trial)
        study.finish(trial.number, evaluate(FunctionEvaluator(study.space, evaluator), trial))


def results(study):
    return [(c.id, c.arch, c.status, c.metrics, c.scores, c.error) for c in study.candidates]


def test_ends_with_the_number_of_candidates_that_was_asked(open_study):
    study = open_study()
    drive(study)
    assert study.stop_reason == "complete"
    assert study.count("done") == 6
    assert len({study.space.canonical(c.arch) for c in study.candidates}) == 6, "an architecture was evaluated twice"


@pytest.mark.parametrize("controller", CONTROLLERS.values(), ids=CONTROLLERS)
@pytest.mark.parametrize("moment", ["controller.json", "create", "close", "finish", "told"])
@pytest.mark.parametrize("when", [1, 4, 9])
def test_killed_at_any_moment_ends_like_an_undisturbed_run(open_study, monkeypatch, controller, moment, when):
    """Die at the n-th write of one kind, before or after it, and go on with a new Study: same results, none twice."""
    changes = {"controller": controller, "search": {"candidates": 12}}
    calm = open_study("calm", **changes)
    drive(calm)
    study, evaluated = open_study("rough", **changes), []
    count = 0

    def dying(method, after):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            returned = method(*args, **kwargs) if after else None
            if count == when:
                raise Killed
            return returned if after else method(*args, **kwargs)

        return call

    if moment == "controller.json":
        monkeypatch.setattr(study, "_save", dying(study._save, after=True))
    elif moment == "create":
        monkeypatch.setattr(study.record, "create", dying(study.record.create, after=False))
    elif moment == "close":  # the outcome is in the journal, the state of the trial is not
        monkeypatch.setattr(study.record, "_close", dying(study.record._close, after=False))
    elif moment == "finish":
        monkeypatch.setattr(study.record, "finish", dying(study.record.finish, after=True))
    else:
        monkeypatch.setattr(study, "_tell", dying(study._tell, after=True))

    def evaluator(trial):
        evaluated.append(trial.number)
        return metrics_of(trial)

    with pytest.raises(Killed):
        drive(study, evaluator)
    finished = [c.id for c in study.candidates if c.status == "done"]
    monkeypatch.undo()
    again = open_study("rough", **changes)
    before = len(evaluated)
    drive(again, evaluator)
    assert not set(finished) & set(evaluated[before:]), "a finished candidate was evaluated again"
    if moment == "close":
        assert len(evaluated) == len(set(evaluated)), "a candidate whose outcome was in the journal was evaluated again"
    assert results(again) == results(calm)
    assert again.count("running") == 0


def test_half_a_line_in_the_journal_is_forgotten(open_study, folder):
    study = open_study()
    trial = study.next_trial()
    study.finish(trial.number, Evaluated("done", metrics_of(trial), None, 1.0))
    with folder.journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "half a li')
    again = open_study()
    assert again.candidates[0].metrics == metrics_of(trial)
    drive(again)
    assert open_study().count("done") == 6


def test_works_without_the_controllers_state(open_study, folder):
    """controller.json is lost: what is recorded stays, and the search goes on."""
    study = open_study()
    for _ in range(3):
        trial = study.next_trial()
        study.finish(trial.number, Evaluated("done", metrics_of(trial), None, 1.0))
    folder.controller.unlink()
    again = open_study()
    drive(again)
    assert results(again)[:3] == results(study)
    assert again.count("done") == 6


@pytest.mark.parametrize("controller", CONTROLLERS.values(), ids=CONTROLLERS)
@pytest.mark.parametrize("age", [0, 1, 3])
def test_a_controllers_state_that_is_older_than_the_record_loses_nothing(open_study, folder, controller, age):
    """The two files of a run may be copied one after the other, or controller.json may be of last week's backup."""
    changes = {"controller": controller, "search": {"candidates": 12}}
    study = open_study(**changes)
    old = None
    for number in range(4):
        if number == age and folder.controller.exists():
            old = folder.controller.read_bytes()
        trial = study.next_trial()
        study.finish(trial.number, Evaluated("done", metrics_of(trial), None, 1.0))
    left = study.next_trial()
    before = results(study)
    folder.controller.unlink()
    if old is not None:
        folder.controller.write_bytes(old)
    again = open_study(**changes)
    handed_out = drive(again)
    assert results(again)[: left.number] == before[: left.number], "what had finished was changed"
    assert handed_out[0] == left, "the one that was running comes first"
    assert (again.count("done"), again.count("running")) == (12, 0)
    assert len({(c.arch, c.epochs) for c in again.candidates}) == 12, "an architecture was evaluated twice"


def test_running_candidates_are_handed_out_again_under_their_numbers(open_study):
    study = open_study()
    first, second = study.next_trial(), study.next_trial()
    study.finish(second.number, Evaluated("done", metrics_of(second), None, 1.0))
    again = open_study()
    assert again.next_trial() == first
    assert again.next_trial().number == 2


def test_several_running_never_exceed_what_was_asked(open_study):
    study = open_study(controller={"name": "random"})
    running = [study.next_trial() for _ in range(6)]
    assert study.next_trial() is None
    for trial in reversed(running):
        study.finish(trial.number, Evaluated("done", metrics_of(trial), None, 1.0))
    with pytest.raises(SearchFinished):
        study.next_trial()
    assert study.count("done") == 6


def test_failures_are_recorded_told_and_limited(open_study):
    def failing(trial):
        raise ValueError("the   network\nexploded")

    study = open_study(search={"candidates": 6, "max_failures": 3})
    drive(study, failing)
    assert study.count("failed") == 4
    assert study.stop_reason == "4 candidates failed, more than search.max_failures=3"
    assert study.candidates[0].error == "ValueError: the network exploded"
    assert study.candidates[0].scores is None


def test_not_a_number_is_a_failure_with_its_reason(open_study):
    study = open_study(search={"candidates": 2, "max_failures": 0})
    drive(study, lambda trial: {"val_acc_pct": float("nan"), "macs": 1.0})
    assert study.candidates[0].status == "diverged"
    assert study.candidates[0].error == "Diverged: val_acc_pct is not a finite number"


def test_a_limit_that_nothing_meets_ends_the_search(open_study):
    study = open_study()
    for _ in range(10_000):
        try:
            trial = study.next_trial()
        except SearchFinished:
            break
        study.finish(trial.number, Evaluated("infeasible", {}, "macs 5 is over the limit 1", 0.0))
    assert "broke a hard limit" in study.stop_reason


def test_known_networks_do_not_count_among_those_that_break_a_limit(open_study):
    study = open_study()
    for _ in range(250):
        study.finish(study.next_trial().number, Evaluated("infeasible", {}, "why", 0.0, cached=True))
    assert study.stop_reason is None


def test_the_controller_hears_how_far_beyond_the_limits_a_candidate_is(open_study, folder):
    """And hears it again when the run is taken up, from the record alone."""
    study = open_study(controller={"name": "nsga2", "population": 2})
    trial = study.next_trial()
    study.finish(trial.number, Evaluated("infeasible", {}, "macs 5 is over the limit 1", 0.0, violation=4.0))
    assert [beyond for *_, beyond in study._controller.children] == [4.0]
    folder.controller.unlink()
    again = open_study(controller={"name": "nsga2", "population": 2})
    assert [beyond for *_, beyond in again._controller.children] == [4.0]


def test_a_small_space_ends_when_everything_is_known(open_study):
    study = open_study(
        space={"name": "mobile", "widths": [8], "layers": 1, "blocks": ["convolution"], "width_factors": [1.0]},
        controller={"name": "random"},
    )
    drive(study)
    assert study.count("done") == 2
    assert study.stop_reason == (
        "controller random found 2 of 6 candidates, and its last 1,000 proposals were all known already"
    )


def test_the_epochs_that_were_trained_are_not_taken_for_those_that_were_asked_for(open_study):
    study = open_study(training={"epochs": 9})
    trial = study.next_trial()
    metrics = metrics_of(trial) | {"epochs": 4.0}
    study.finish(trial.number, Evaluated("stopped", metrics, "stopped by the scheduler after epoch 4", 1.0))
    again = open_study(training={"epochs": 9})
    (candidate,) = again.candidates
    assert (candidate.epochs, candidate.metrics["epochs"]) == (None, 4.0)
    assert again._place(Proposal(trial.arch), None) is None, "the same proposal is answered from the record"


def test_results_of_unknown_candidates_are_ignored(open_study):
    study = open_study()
    trial = study.next_trial()
    evaluated = Evaluated("done", metrics_of(trial), None, 1.0)
    assert study.finish(trial.number, evaluated) is not None
    assert study.finish(trial.number, evaluated) is None
    assert study.finish(77, evaluated) is None


def test_optuna_reads_the_journal(open_study, folder):
    study = open_study()
    drive(study)
    backend = optuna.storages.journal.JournalFileBackend(str(folder.journal))
    loaded = optuna.load_study(study_name="small", storage=optuna.storages.JournalStorage(backend))
    assert len(loaded.trials) == 6
    assert [direction.name for direction in loaded.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial, candidate in zip(loaded.trials, study.candidates, strict=True):
        assert trial.values == [candidate.metrics["val_acc_pct"], candidate.metrics["macs"]]
        assert trial.user_attrs["architecture"] == study.space.format(candidate.arch)
        assert trial.params == study.space.choices(candidate.arch)
    front = {trial.number for trial in loaded.best_trials}
    assert front == set(study.front)


def fewer_epochs_look_better(trial):
    """What no experiment wants to be misled by."""
    return {"val_acc_pct": 90.0 - trial.epochs + 0.1 * sum(trial.arch.picks), "macs": 1000.0 + trial.epochs}


def test_candidates_of_fewer_epochs_are_no_survivors_and_not_on_the_front(open_study, folder):
    study = open_study(
        controller={"name": "hyperband"}, training={"epochs": 9}, search={"candidates": 13}, reward={"name": "scalar"}
    )
    assert drive(study, fewer_epochs_look_better)[-1].epochs == 9, "an experiment fills in max_epochs"
    assert [c.epochs for c in study.candidates] == [1] * 9 + [3] * 3 + [9]
    last = study.candidates[-1]
    assert study.comparable == [last]
    assert study.front == [last.id]
    assert study.best == last
    assert choose_survivors(study, 3) == [last]
    report = build_report(folder)
    assert report["front"] == [last.id]
    assert [candidate["compared"] for candidate in report["candidates"]] == [False] * 12 + [True]
    traces = {trace.name: list(trace.y) for trace in figures.best_so_far(report).data}
    assert traces["best so far"] == [last.scores[0]] * 2
    assert len(traces[figures.SHORTER]) == 12
    traces = {trace.name: list(trace.y) for trace in figures.pareto_front(report).data}
    assert traces["Pareto front"] == [last.metrics["val_acc_pct"]]
    assert len(traces[figures.SHORTER]) == 12


def test_before_anything_was_trained_in_full_the_longest_trained_are_compared(open_study):
    study = open_study(controller={"name": "hyperband"}, training={"epochs": 9}, search={"candidates": 11})
    drive(study, fewer_epochs_look_better)
    assert {c.epochs for c in study.comparable} == {3}
    assert len(study.comparable) == 2


def test_the_epochs_of_the_training_are_the_full_budget(open_study):
    """Asking for all of them and for no number is the same evaluation."""
    study = open_study(training={"epochs": 9})
    arch = study.space.sample(np.random.default_rng(0))
    study._controller = Script([Proposal(arch), Proposal(arch, 9), Proposal(arch, 3)])
    trial = study.next_trial()
    study.finish(trial.number, Evaluated("done", metrics_of(trial), None, 1.0))
    assert study.next_trial().epochs == 3
    assert [outcome.proposal.epochs for outcome in study._controller.outcomes] == [None, 9]


class Script(Random):
    """Proposes what it was given, and keeps what it is told."""

    def __init__(self, proposals):
        super().__init__(get_space("nasbench201"), seed=0)
        self.proposals, self.outcomes = list(proposals), []

    def ask(self):
        return self.proposals.pop(0)

    def tell(self, outcome):
        self.outcomes.append(outcome)


def test_every_proposal_of_a_network_gets_an_outcome_of_its_own(open_study):
    """Two notations of one network: one evaluation, two outcomes, each with the notation that was proposed."""
    study = open_study(space={"name": "nasbench201"})
    first, second = (study.space.architecture(picks) for picks in ((0, 0, 0, 3, 0, 0), (0, 0, 0, 3, 1, 0)))
    assert study.space.canonical(first) == study.space.canonical(second)
    unequal = study.space.architecture((2, 2, 2, 2, 2, 2))
    study._controller = Script([Proposal(first), Proposal(second), Proposal(unequal)])
    trial = study.next_trial()
    assert study.next_trial().arch == unequal
    study.finish(trial.number, Evaluated("done", metrics_of(trial), None, 1.0))
    assert [outcome.proposal.arch for outcome in study._controller.outcomes] == [first, second]
    assert study._controller.outcomes[0].scores == study._controller.outcomes[1].scores


def test_best_and_scores_agree_with_the_reward(open_study):
    study = open_study()
    drive(study)
    values = {c.id: scores(study.objectives, study.reward, c.metrics) for c in study.candidates}
    assert all(c.scores == values[c.id] for c in study.candidates)
    assert values[study.best.id] == max(values.values())


def test_another_experiment_is_refused_with_the_difference(open_study, folder, small, tmp_path):
    open_study()
    with pytest.raises(UserError, match=r"(?s)another experiment.*-  epochs: 1.*\+  epochs: 2"):
        start_run(folder, small(training={"epochs": 2}), tmp_path, "test")


def test_two_processes_cannot_hold_one_run(open_study, folder):
    open_study()
    with folder.locked():
        assert folder.is_locked()
        with (
            pytest.raises(UserError, match="another process works"),
            RunFolder(folder.path).locked(),
        ):
            pass
    assert not folder.is_locked()


def test_controller_state_is_on_disk_before_the_candidate_runs(open_study, folder):
    study = open_study()
    trial = study.next_trial()
    saved = json.loads(folder.controller.read_text())
    assert saved["running"] == {str(trial.number): [list(trial.arch.picks), None]}


def test_inline_executor_runs_a_study(tmp_path, small):
    run, heard = begin(tmp_path / "run", small()), []
    run.evaluate_all(metrics_of, heard.append)
    assert [candidate.id for candidate in heard] == list(range(6))
    assert run.study.stop_reason == "complete"
