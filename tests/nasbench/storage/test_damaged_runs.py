"""Files of a run that are damaged, gone, or folders: one sentence that says what to do, and never a traceback."""

import shutil
import sys

import pytest
import yaml
from tests_support import experiment_of

from nasbench.cli.app import main
from nasbench.search.record import Record
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


@pytest.mark.parametrize("file", [*READ, "study.journal", ".lock"])
def test_a_folder_in_the_place_of_a_file_is_named(nasbench, run, file):
    (run / file).unlink(missing_ok=True)
    (run / file).mkdir()
    refused(nasbench, "resume" if file == ".lock" else READ.get(file, ("report",))[0], run, file, "it is a folder")


@pytest.mark.parametrize("tail", [b'{"op_code": 4, "wor', b"\0" * 300, b"\0" * 200 + b"\n" + b"\0" * 90 + b"\n"])
def test_a_journal_with_a_broken_end_goes_on_where_it_is_whole(nasbench, run, tail):
    whole = (run / "study.journal").read_bytes()
    (run / "study.journal").write_bytes(whole + tail)
    assert nasbench("status", run)[0] == 0 or tail.count(b"\n") > 1
    assert nasbench("resume", run)[0] == 0
    assert (run / "study.journal").read_bytes() == whole


def test_a_journal_with_a_broken_line_in_the_middle_is_named_with_its_line(nasbench, run):
    lines = (run / "study.journal").read_bytes().splitlines(keepends=True)
    (run / "study.journal").write_bytes(b"".join([*lines[:3], b"not an entry\n", *lines[3:]]))
    for command in ("status", "report", "resume"):
        refused(nasbench, command, run, "study.journal is damaged", f"line 4 of {len(lines) + 1} is no entry")


def test_a_journal_that_is_gone_is_missed(nasbench, run):
    (run / "study.journal").unlink()
    refused(nasbench, "resume", run, "controller.json knows 2 candidates, and the record lacks 2 of them")


def test_without_the_state_of_the_controller_the_record_is_enough(nasbench, run):
    """As the sentence about a damaged one promises."""
    (run / "controller.json").unlink()
    code, _, err = nasbench("resume", run, "-o", "search.candidates=3")
    assert code == 0, err
    asked = yaml.safe_load((run / "config.yaml").read_text())
    folder = RunFolder(run)
    record = Record(folder.journal, None, (), name=asked["name"], mend=False)
    assert [candidate.status for candidate in record.candidates.values()] == ["done"] * 3
