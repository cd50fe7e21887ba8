"""An artefact that computes something else is a failure with its number, wherever it is made."""

import json
import re
from pathlib import Path

import pytest
from stored_digits import store_trained, write_backends

from nasbench.deploy.attempt import Request, run_attempt
from nasbench.deploy.process import ChildError
from nasbench.deploy.setting import Setting

NUMBERS = r"does not compute what the network computes: on 8 image\(s\) its output is off by 2 of its size, where fp32"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    write_backends(folder)
    store_trained(folder / "model", epochs=1)
    return folder


def test_an_export_ends_with_1_and_writes_nothing(place, nasbench, monkeypatch):
    monkeypatch.syspath_prepend(place)
    code, out, err = nasbench("export", place / "model", "--backend", "mine:Wrong", "--out", "x", "--json")
    assert (code, out) == (1, "")
    assert re.search(NUMBERS, err) and len(err.strip().splitlines()) == 1
    code, out, err = nasbench("export", place / "model", "--backend", "mine:Good", "--out", "x", "--json")
    assert code == 0, err


def test_a_cell_of_a_matrix_and_a_trial_of_a_search_fail_with_the_reason(place, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(place)
    request = Request(
        model=str(place / "model"),
        setting=Setting("mine:Wrong", "fp32").to_json(),
        seconds=0,
        images=50,
        artefact=str(tmp_path / "artefact"),
    )
    with pytest.raises(ChildError, match=NUMBERS):
        run_attempt(request, 120)
    assert not (tmp_path / "artefact").exists()


def test_a_recipe_rolls_the_step_back(place, nasbench, monkeypatch):
    monkeypatch.syspath_prepend(place)
    Path("recipe.yaml").write_text("- compile: {backend: mine:Wrong}\n")
    code, out, _ = nasbench("compress", place / "model", "recipe.yaml", "--out", "smaller", "--json")
    stage = json.loads(out)["stages"][-1]
    assert code == 1 and stage["name"] == "compiled" and not stage["accepted"]
    assert re.search(NUMBERS, stage["reason"])
