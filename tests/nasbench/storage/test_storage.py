"""The record in a database: SQLite always, PostgreSQL where NASBENCH_TEST_STORAGE has the URL of one."""

import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
import sqlalchemy
import yaml
from tests_support import begin, experiment_of

from controllers import SearchFinished
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.report import build_report
from nasbench.storage.optuna_storage import StorageLost, open_storage, patiently
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError

PASSWORD = "NASBENCH_TEST_PASSWORD"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'team.db'}"
    database_url = os.environ.get("NASBENCH_TEST_STORAGE")
    if not database_url:
        pytest.skip("NASBENCH_TEST_STORAGE is not set to the URL of a PostgreSQL database")
    return database_url


@pytest.fixture
def open_study(tmp_path, small):
    return lambda path, **changes: begin(tmp_path / path, small(**changes)).study


def metrics_of(candidate):
    for epoch in (1, 2, 3):
        candidate.report(epoch, {"val_acc_pct": 10.0 * epoch})
    return {"val_acc_pct": 50.0 + sum(candidate.arch.picks), "macs": 1000.0 * (1 + candidate.arch.picks[0])}


def score(study, trial):
    return evaluate(FunctionEvaluator(study.space, metrics_of), trial)


def drive(study, many=1000):
    for _ in range(many):
        try:
            trial = study.next_trial()
        except SearchFinished:
            return
        study.finish(trial.number, score(study, trial))


def results(study):
    return [(c.id, c.arch, c.status, c.metrics, c.scores, c.curve) for c in study.candidates]


def test_a_database_holds_what_a_journal_holds(open_study, url, tmp_path):
    controller = {"name": "regularized_evolution", "population": 4, "tournament": 2}
    options = {"controller": controller, "search": {"candidates": 12}}
    calm = open_study("journal", **options)
    drive(calm)
    first = open_study("database", storage=url, **options)
    drive(first, many=5)
    running = first.next_trial()
    again = open_study("database", storage=url, **options)
    assert again.next_trial() == running, "what was running is handed out again"
    again.finish(running.number, score(again, running))
    drive(again)
    assert results(again) == results(calm)
    folder = RunFolder(tmp_path / "database")
    assert not folder.journal.exists()
    report = build_report(folder)
    assert [candidate["architecture"] for candidate in report["candidates"]] == [
        calm.space.format(c.arch) for c in calm.candidates
    ]
    assert report["front"] == calm.front
    study = optuna.load_study(study_name=f"small-{folder.run_id}", storage=os.path.expandvars(url))
    assert [trial.values for trial in study.trials] == [
        [c.metrics["val_acc_pct"], c.metrics["macs"]] for c in calm.candidates
    ]


def test_two_runs_of_one_experiment_share_a_database_and_nothing_else(open_study, url):
    one, other = open_study("one", storage=url), open_study("other", storage=url, seed=1)
    for _ in range(3):
        for study in (one, other):
            trial = study.next_trial()
            assert trial.number == len(study.candidates) - 1
            study.finish(trial.number, score(study, trial))
    assert results(open_study("one", storage=url)) == results(one) != results(other)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_lost_connection_is_waited_for(open_study, url):
    study = open_study("run", storage=url)
    drive(study, many=2)
    engine = sqlalchemy.create_engine(os.path.expandvars(url), isolation_level="AUTOCOMMIT")
    kick = sqlalchemy.text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    for _ in range(3):
        trial = study.next_trial()
        with engine.connect() as connection:
            assert connection.execute(kick).all(), "nobody was connected"
        study.finish(trial.number, score(study, trial))
    drive(study)
    engine.dispose()
    assert study.count("done") == 6
    assert results(open_study("run", storage=url)) == results(study)


def test_a_call_is_repeated_until_the_storage_is_back(monkeypatch):
    calls = []

    def call(again):
        calls.append(again)
        if len(calls) < 3:
            raise optuna.exceptions.StorageInternalError("the server closed the connection")
        return "stored"

    assert patiently(call) == "stored"
    assert calls == [False, True, True]
    monkeypatch.setattr("nasbench.storage.optuna_storage.PATIENCE_S", 0.3)

    def never(again):
        raise sqlalchemy.exc.OperationalError("insert", {}, Exception("no route to postgresql://me:secret@host/db"))

    with pytest.raises(StorageLost, match="does not answer any more: .*no route") as lost:
        patiently(never)
    assert "secret" not in str(lost.value)


def test_mistakes_in_the_url(tmp_path, monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(UserError, match=f"environment variable {PASSWORD}, which is not set"):
        open_storage(f"postgresql+psycopg://me:${{{PASSWORD}}}@localhost/team", tmp_path / "journal")
    with pytest.raises(UserError, match="needs the driver of its database .*oracledb"):
        open_storage("oracle+oracledb://me@localhost/team", tmp_path / "journal")
    with pytest.raises(UserError, match="cannot be opened"):
        open_storage("no url at all", tmp_path / "journal")
    monkeypatch.setenv(PASSWORD, "hun{ter/2@")
    with pytest.raises(UserError, match="cannot be opened") as refused:
        open_storage(f"postgresql+psycopg://me:${{{PASSWORD}}}@127.0.0.1:9/team", tmp_path / "journal")
    assert "ter/2" not in str(refused.value) and "ter%2F" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_killed_search_goes_on_from_the_database(tmp_path, url):
    config = experiment_of(controller={"name": "random"}, storage=url, training={"epochs": 3}, search={"candidates": 8})
    (tmp_path / "team.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-c", "from nasbench.cli.app import main; main()"]
    run = tmp_path / "run"
    process = subprocess.Popen([*command, "search", str(tmp_path / "team.yaml"), "--run", str(run)])
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and finished(run) < 3:
        time.sleep(0.1)
    assert process.poll() is None, "the search ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = build_report(RunFolder(run))["candidates"]
    done = subprocess.run([*command, "resume", str(run)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    after = build_report(RunFolder(run))["candidates"]
    kept = [candidate for candidate in before if candidate["status"] == "done"]
    assert 3 <= len(kept) < 8
    assert [after[candidate["id"]]["finished_s"] for candidate in kept] == [
        candidate["finished_s"] for candidate in kept
    ]
    assert [candidate["status"] for candidate in after] == ["done"] * 8
    assert os.environ[PASSWORD] not in (run / "config.yaml").read_text(), "the password was written down"


def finished(run):
    folder = RunFolder(run)
    if not (folder.exists and folder.controller.exists()):
        return 0
    return sum(candidate["status"] == "done" for candidate in build_report(folder)["candidates"])
