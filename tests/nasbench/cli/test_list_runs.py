"""`nasbench list runs` finds runs wherever they lie below a folder, and says of a damaged one what is wrong."""

import json
import os

import pytest

import nasbench as nb


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    for age, name in enumerate(("old", "group/[b]new[/b]")):
        nb.search(
            "nasbench201",
            evaluate=lambda candidate: {"convolutions": float(candidate.architecture.count("conv"))},
            objectives={"convolutions": "max"},
            candidates=3 + age,
            folder=folder / name,
            name="listed",
            progress=False,
        )
        os.utime(folder / name / "config.yaml", (1e9 + age, 1e9 + age))
    (folder / "no run").mkdir()
    return folder


def test_runs_are_listed_the_latest_first(nasbench, runs):
    code, out, _ = nasbench("list", "runs", "--json")
    new, old = json.loads(out)
    assert (code, new["run"], old["run"]) == (0, "runs/group/[b]new[/b]", "runs/old")
    assert (new["asked"], new["finished"], new["status"], old["asked"]) == (4, 4, "complete", 3)
    status = json.loads(nasbench("status", new["run"], "--json")[1])
    assert (new["score"], new["best"]) == (status["best"]["scores"][0], status["best"]["architecture"])
    text = nasbench("list", "runs", runs)[1]
    assert "[b]new[/b]" in text and new["best"].split("|+|")[0] in text.replace("\n", "")


def test_a_run_inside_a_run_is_a_part_of_it(nasbench, runs):
    (runs / "old").rename(runs / "group/[b]new[/b]/baseline")
    assert [row["run"] for row in json.loads(nasbench("list", "runs", "--json")[1])] == ["runs/group/[b]new[/b]"]


def test_a_damaged_run_is_named_and_the_others_are_shown(nasbench, runs):
    (runs / "old/config.yaml").write_text("")
    code, out, _ = nasbench("list", "runs", "--json")
    rows = {row["run"]: row["status"] for row in json.loads(out)}
    assert code == 0 and rows["runs/group/[b]new[/b]"] == "complete"
    assert "config.yaml" in rows["runs/old"]


def test_no_runs_and_no_folder(nasbench, tmp_path):
    code, _, err = nasbench("list", "runs")
    assert code == 2 and "there is no folder runs" in err
    assert nasbench("list", "runs", tmp_path, "--json") == (0, "[]\n", "")
