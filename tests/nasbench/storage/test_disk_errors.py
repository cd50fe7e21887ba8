"""Full disks, missing rights and wrong paths: a sentence with the path and what to do, and a run that goes on later."""

import os
import resource
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests_support import experiment_of

from nasbench.storage.disk_errors import disk_error
from nasbench.storage.files import read_json, write_json
from nasbench.storage.tensor_files import save_tensors

NOBODY = 65534
ON_PAPER = {"controller": {"name": "random"}, "search": {"candidates": 2}}


@contextmanager
def files_up_to(size):
    """Writing fails at so many bytes a file, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def unprivileged():
    """A context in which nobody overrides the rights of files, and a folder that is reached in it."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)

    @contextmanager
    def lowered():
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    yield place, lowered
    for path in [place, *place.rglob("*")]:
        path.chmod(stat.S_IRWXU)
    shutil.rmtree(place)


def sentence(called, code, *words):
    """What a command said that ended with this code, in one line."""
    exit_code, out, err = called
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert exit_code == code and len(errors) == 1 and "Traceback" not in err and not out, err
    for word in words:
        assert word in errors[0]


@pytest.mark.fixed_seeds  # else the record of who reads seeds would be too large a file, too
@pytest.mark.parametrize("size", [200, 3_000, 9_000, 16_000], ids=lambda size: f"{size} bytes a file")
def test_a_search_that_meets_a_full_disk_says_so_and_goes_on_when_there_is_room(nasbench, write, tmp_path, size):
    experiment = write(**ON_PAPER)
    with files_up_to(size):
        called = nasbench("search", experiment, "--run", "run")
    sentence(called, 1, "run/", "the file would be larger than is allowed")
    if (tmp_path / "run/config.yaml").exists():
        code, _, err = nasbench("resume", "run", "--json")
    else:
        code, _, err = nasbench("search", experiment, "--run", "run", "--json")
    assert code == 0, err
    report = read_json(tmp_path / "run/report.json", "")
    assert [(candidate["id"], candidate["status"]) for candidate in report["candidates"]] == [(0, "done"), (1, "done")]


def test_what_cannot_be_written_whole_leaves_the_old_file(tmp_path):
    json_file, weights = tmp_path / "a.json", tmp_path / "a.safetensors"
    write_json(json_file, {"a": 1})
    save_tensors({"a": torch.ones(2)}, weights)
    with files_up_to(5_000):
        for file, write_it in (
            (json_file, lambda: write_json(json_file, {"a": "long" * 5_000})),
            (weights, lambda: save_tensors({"a": torch.ones(5_000)}, weights)),
        ):
            with pytest.raises(OSError, match="File too large") as error:
                write_it()
            assert error.value.filename == str(file) and disk_error(error.value).startswith(f"{file}: ")
    assert read_json(json_file, "") == {"a": 1} and load_file(weights)["a"].tolist() == [1, 1]
    assert sorted(tmp_path.iterdir()) == [json_file, weights]


def test_without_the_right_to_write_a_run_is_shown_and_the_rest_refused(nasbench, unprivileged, monkeypatch):
    place, lowered = unprivileged
    monkeypatch.chdir(place)
    (place / "small.yaml").write_text(yaml.safe_dump(experiment_of(**ON_PAPER)))
    run = place / "run"
    assert nasbench("search", place / "small.yaml", "--run", run)[0] == 0
    for path in [run, *run.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with lowered():
        code, _, err = nasbench("status", run, "--json")
        assert (code, err) == (0, "")
        sentence(nasbench("report", run), 2, str(run), "this user has no right to it")
        sentence(nasbench("resume", run), 2, str(run), "this user has no right to it")
        sentence(nasbench("search", place / "small.yaml", "--run", run / "inner"), 2, str(run), "no right")
    assert files == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    run.chmod(0)
    with lowered():
        sentence(nasbench("status", run), 2, str(run), "this user has no right to it")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("small.yaml", ("small.yaml is a file, and a run needs a folder",)),
        ("small.yaml/run", ("small.yaml", "a part of the path is a file")),
        ("x" * 300, ("the name is too long",)),
        ("circle/run", ("its links lead in a circle",)),
    ],
    ids=["a file", "below a file", "a long name", "a circle of links"],
)
def test_a_run_that_cannot_be_there(nasbench, write, tmp_path, run, words):
    (tmp_path / "circle").symlink_to("circle")
    sentence(nasbench("search", write(**ON_PAPER), "--run", run), 2, *words)
    if "small.yaml" in run:
        sentence(nasbench("status", run), 2, "is no run folder, for there is no such folder")
    else:
        sentence(nasbench("status", run), 2)


def test_an_error_that_no_disk_explains_is_no_sentence():
    """A bug of ours keeps its traceback."""
    assert disk_error(OSError("something else")) is None
    assert disk_error(FileNotFoundError(2, "No such file or directory")) is None, "no path is known"
    assert disk_error(ConnectionResetError(104, "Connection reset by peer")) is None


def test_a_run_folder_that_is_deleted_while_its_search_goes_on_is_missed(nasbench, user_folder):
    """What is written into a deleted file is lost in silence, so somebody has to look."""
    (user_folder / "deletes.py").write_text(
        "import shutil\n\n\n"
        "def evaluate(candidate):\n"
        "    if candidate.number == 5:\n"
        "        shutil.rmtree('run')\n"
        "    return {'score': float(sum(candidate.arch.picks))}\n"
    )
    config = {
        "space": "nasbench201",
        "evaluator": "deletes:evaluate",
        "controller": {"name": "random"},
        "objectives": {"score": "max"},
        "search": {"candidates": 5000},
        "survivors": 0,
    }
    (user_folder / "deletes.yaml").write_text(yaml.safe_dump(config))
    called = nasbench("search", user_folder / "deletes.yaml", "--run", "run")
    sentence(called, 2, "run/record.jsonl", "it is not there any more")
    assert not Path("run").exists(), "nothing of it is made again"
