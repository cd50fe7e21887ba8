"""What TensorBoard shows of a search, read back by TensorBoard itself."""

import json
import resource
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tests_support import begin, experiment_of

from nasbench.objectives.reward import pareto_front
from nasbench.search.tensorboard import Scalars


def scalars(folder):
    """{run: {tag: {step: value}}} of all event files; a step that is there twice fails."""
    read = EventMultiplexer(size_guidance={"scalars": 0}).AddRunsFromDirectory(str(folder)).Reload()
    runs = {}
    for run, about in read.Runs().items():
        runs[run] = {}
        for tag in about["scalars"]:
            events = read.Scalars(run, tag)
            steps = [event.step for event in events]
            assert len(steps) == len(set(steps)), f"{tag} of {run} has a step twice: {steps}"
            assert steps == sorted(steps)
            runs[run][tag] = {event.step: event.value for event in events}
    return runs


def expected(experiment, report):
    """The scalars of the search, from its report alone."""
    series, ended = {}, sorted(report["candidates"], key=lambda row: (row["finished_s"], row["id"]))
    for step, candidate in enumerate(ended, start=1):
        so_far = ended[:step]
        values = {
            f"outcomes/{kind}": sum(row["status"] == kind for row in so_far)
            for kind in {row["status"] for row in so_far}
        }
        done = {row["id"]: row for row in so_far if row["status"] == "done"}
        if candidate["status"] == "done":
            values |= {f"candidate/{name}": value for name, value in candidate["metrics"].items()}
            values["candidate/score"] = candidate["scores"][0]
            values["candidate/training_seconds"] = candidate["training_seconds"]
        if done:
            values["search/best_score"] = max(row["scores"][0] for row in done.values())
        front = pareto_front(experiment.objectives, {number: row["metrics"] for number, row in done.items()})
        values["search/front_size"] = len(front)
        values["search/utilization"] = sum(row["training_seconds"] for row in so_far) / candidate["finished_s"]
        for tag, value in values.items():
            series.setdefault(tag, {})[step] = pytest.approx(value, rel=1e-6)  # TensorBoard keeps 32 bits
    return series


def test_the_scalars_are_the_record_also_after_a_resume(nasbench, tmp_path, small):
    """Every tag at every step, from real event files: of a whole run, and of one that was resumed."""
    objectives = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "macs", "goal": "min", "limit": 60_000}]
    changes = {
        "objectives": objectives,
        "training": {"epochs": 2, "validate_every": 1, "learning_rate": 0.01},
        "search": {"candidates": 3},
    }
    experiment = small(**changes)
    Path("small.yaml").write_text(yaml.safe_dump(experiment_of(**changes)))
    code, out, err = nasbench("search", "small.yaml", "--run", "run", "--json")
    for words in ((), ("-o", "search.candidates=5")):
        if words:
            code, out, err = nasbench("resume", "run", *words, "--json")
        assert code == 0, err
        report = json.loads(out)
        assert {candidate["status"] for candidate in report["candidates"]} == {"done", "infeasible"}
        runs = scalars("run/tensorboard")
        assert runs.pop("search") == expected(experiment, report)
        curves = {
            f"curves/{candidate['id']:05d}": candidate["curve"]
            for candidate in report["candidates"]
            if candidate["curve"]
        }
        assert len(curves) == experiment.search.candidates + 2 * bool(words)
        assert runs == {
            run: {"val_acc_pct": {int(epoch): pytest.approx(value, abs=1e-3) for epoch, value in curve.items()}}
            for run, curve in curves.items()
        }
        assert all(len(curve) == 2 for curve in curves.values())
    utilization = report["compute"]["utilization"]
    last = len(report["candidates"])
    assert expected(experiment, report)["search/utilization"][last] == utilization


def test_no_event_files_if_the_experiment_wants_none(nasbench):
    Path("small.yaml").write_text(yaml.safe_dump(experiment_of(tensorboard=False, search={"candidates": 1})))
    assert nasbench("search", "small.yaml", "--run", "run")[0] == 0
    assert not Path("run/tensorboard").exists()


def test_a_disk_that_takes_no_more_does_not_stop_the_search(small, tmp_path, caplog):
    """Files may have a thousand bytes, which the scalars of three candidates have."""
    run, heard = begin(tmp_path / "run", small(controller="random", search={"candidates": 40})), []
    run.evaluate_all(lambda candidate: {"val_acc_pct": 50.0 + sum(candidate.arch.picks), "macs": 1000.0}, heard.append)
    folder = run.folder
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        written = Scalars(run.study, folder.tensorboard)
        for candidate in heard:
            written.candidate(candidate)
        written.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (message,) = caplog.messages
    assert message.startswith(f"no more scalars for TensorBoard are written into {folder.tensorboard}")
    assert [file.stat().st_size for file in folder.tensorboard.rglob("events*")] == [1000]
