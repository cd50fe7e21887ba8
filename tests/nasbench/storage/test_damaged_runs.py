"""Files of a run that are damaged, gone, or folders: one sentence that says what to do, and never a traceback."""

import json
import shutil
import sys

import optuna
import pytest
import yaml
from tests_support import experiment_of

from nasbench.cli.app import main
from nasbench.search.settings import read_candidates, read_settings
from nasbench.storage.optuna_storage import open_storage
from nasbench.storage.run_folder import RunFolder

ASKED = experiment_of(
    controller={"name": "random"},
    objectives={"val_acc_pct": "max", "latency_ms": "min"},
    reward={"name": "pareto"},
    search={"candidates": 2},
    device={"samples": 10},
    survivors=1,
)
DAMAGES = {"empty": b"", "half": b'{"a": 1', "another object": b"{}", "no object": b"[1]", "no text": b"\xff\x00"}
READ = {  # file: which commands read it
    "config.yaml": ("status", "report", "resume"),
    "summary.json": ("status", "report"),
    "environment.json": ("report", "resume"),
    "space.json": ("report",),
    "remeasured.json": ("report", "resume"),
    "predictor.json": ("report", "resume"),
    "peak.json": ("report", "resume"),
    "controller.json": ("resume",),
    "survivors/1/survivor.json": ("report", "resume"),
}
HARMLESS = {("remeasured.json", "another object"), ("peak.json", "another object")}  # as if nothing were known yet


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that has everything a run may have; made by the command itself."""
    place = tmp_path_factory.mktemp("finished")
    (place / "small.yaml").write_text(yaml.safe_dump(ASKED))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sys, "argv", ["nasbench", "search", str(place / "small.yaml"), "--run", str(place / "run")])
        main()
    assert left.value.code == 0
    return place / "run"


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def refused(nasbench, command, run, *words):
    """The sentence of a command that cannot do its work."""
    code, out, err = nasbench(command, run)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code in (1, 2) and len(errors) == 1 and "Traceback" not in err and not out, err
    for word in words:
        assert word in errors[0]
    return errors[0]


@pytest.mark.parametrize(
    ("file", "damage"), [(file, damage) for file in READ for damage in DAMAGES if (file, damage) not in HARMLESS]
)
def test_a_damaged_file_is_named_with_what_to_do(nasbench, run, file, damage):
    (run / file).write_bytes(DAMAGES[damage])
    command = READ[file][len(damage) % len(READ[file])]
    refused(nasbench, command, run, str(run / file), "damaged")


@pytest.mark.parametrize("file", [*READ, "record.jsonl", ".lock"])
def test_a_folder_in_the_place_of_a_file_is_named(nasbench, run, file):
    (run / file).unlink(missing_ok=True)
    (run / file).mkdir()
    refused(nasbench, "resume" if file == ".lock" else READ.get(file, ("report",))[0], run, file, "it is a folder")


@pytest.mark.parametrize("file", ["record.jsonl", "study.journal"])
@pytest.mark.parametrize("tail", [b'{"op_code": 4, "wor', b"\0" * 300, b"\0" * 200 + b"\n" + b"\0" * 90 + b"\n"])
def test_a_file_with_a_broken_end_goes_on_where_it_is_whole(nasbench, run, file, tail):
    whole = (run / file).read_bytes()
    (run / file).write_bytes(whole + tail)
    assert nasbench("status", run)[0] == 0 or tail.count(b"\n") > 1
    assert nasbench("resume", run)[0] == 0
    assert (run / file).read_bytes() == whole


def test_a_record_with_a_broken_line_in_the_middle_is_named_with_its_line(nasbench, run):
    lines = (run / "record.jsonl").read_bytes().splitlines(keepends=True)
    for broken in (b"not an entry\n", b'{"candidate": 7, "outcome": {}}\n'):
        (run / "record.jsonl").write_bytes(b"".join([*lines[:3], broken, *lines[3:]]))
        for command in ("status", "report", "resume"):
            refused(nasbench, command, run, "record.jsonl is damaged", "line 4")


def test_a_record_that_is_gone_is_made_of_the_journal(nasbench, run):
    """As it is with a run of an earlier version, which has no other record than Optuna's journal."""
    before = json.loads(nasbench("report", run, "--json")[1])
    (run / "record.jsonl").unlink()
    assert json.loads(nasbench("report", run, "--json")[1]) == before
    assert nasbench("resume", run)[0] == 0
    (run / "study.journal").unlink()
    after = json.loads(nasbench("report", run, "--json")[1])
    assert after["candidates"] == before["candidates"]


def test_a_journal_that_is_gone_is_made_of_the_record(nasbench, run):
    def trials():
        study = optuna.load_study(study_name="small", storage=open_storage(None, run / "study.journal"))
        return [(trial.state.name, trial.params, trial.values, trial.user_attrs) for trial in study.trials]

    before = trials()
    (run / "study.journal").unlink()
    assert nasbench("resume", run)[0] == 0
    assert len(before) == 2 and trials() == before


def test_a_run_of_an_earlier_version_with_a_damaged_journal_is_named_with_the_line(nasbench, run):
    (run / "record.jsonl").unlink()
    lines = (run / "study.journal").read_bytes().splitlines(keepends=True)
    (run / "study.journal").write_bytes(b"".join([*lines[:3], b"not an entry\n", *lines[3:]]))
    for command in ("status", "report", "resume"):
        refused(nasbench, command, run, "study.journal is damaged", f"line 4 of {len(lines) + 1} is no entry")


def test_a_record_and_a_journal_that_are_gone_are_missed(nasbench, run):
    (run / "record.jsonl").unlink()
    (run / "study.journal").unlink()
    refused(nasbench, "resume", run, "controller.json knows 2 candidates, and the record lacks 2 of them")


def test_without_the_state_of_the_controller_the_record_is_enough(nasbench, run):
    """As the sentence about a damaged one promises."""
    (run / "controller.json").unlink()
    code, _, err = nasbench("resume", run, "-o", "search.candidates=3")
    assert code == 0, err
    folder = RunFolder(run)
    candidates = read_candidates(folder, read_settings(folder))
    assert [candidate.status for candidate in candidates] == ["done"] * 3
