"""A user's own space is found by every command, from whatever folder it is called, and wherever a model went."""

import shutil
import sys

import pytest
import yaml
from tests_support import experiment_of

from nasbench.models import load_model

RECIPE = [{"decompose": {"ratio": 0.9, "epochs": 0}}]
MODEL = "run/survivors/1/searched"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of a space that lies beside its experiment file, and a model that went through a recipe of the user's."""
    from tests_support import TINY_SPACE

    from nasbench.cli.app import main

    code, place = tmp_path_factory.mktemp("code"), tmp_path_factory.mktemp("place")
    (code / "space_beside.py").write_text(TINY_SPACE)
    experiment = experiment_of(space="space_beside:Tiny", controller="random", search={"candidates": 2}, survivors=1)
    experiment["start_with"] = [f"depth=2,width={width},kernel=3" for width in (8, 16)]  # 1x1 ones do not decompose
    (code / "mine.yaml").write_text(yaml.safe_dump(experiment))
    (place / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    for words in (
        ["search", code / "mine.yaml", "--run", place / "run"],
        ["compress", place / MODEL, place / "recipe.yaml", "--out", place / "small"],
    ):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
            patch.setattr(sys, "argv", ["nasbench", *map(str, words)])
            patch.setattr(sys, "path", list(sys.path))
            main()
        assert left.value.code == 0
        sys.modules.pop("space_beside", None)
    return code, place


@pytest.fixture
def elsewhere(nasbench):
    """Call a command from an empty folder, in a process that does not know the space yet."""

    def call(*words):
        sys.modules.pop("space_beside", None)
        try:
            return nasbench(*words)
        finally:
            sys.modules.pop("space_beside", None)

    return call


@pytest.mark.parametrize(
    "words",
    [
        ["status", "run"],
        ["report", "run"],
        ["compare", "run"],
        ["resume", "run"],
        ["train", "run", "0", "--out", "trained"],
        ["compress", MODEL, "recipe.yaml", "--out", "again"],
        ["export", MODEL, "--backend", "eager", "--out", "exported"],
        ["benchmark", MODEL, "--backend", "eager", "--seconds", "0.05"],
        ["sensitivity", MODEL, "--technique", "quantize", "--bits", "8", "--images", "20"],
        ["matrix", MODEL, "--variant", "dense", "--backend", "eager", "--seconds", "0.05", "--out", "matrix"],
        ["benchmark", "small/decomposed", "--backend", "eager", "--seconds", "0.05"],
    ],
    ids=lambda words: f"{words[0]} {words[1]}",
)
def test_every_command_finds_it(elsewhere, folders, words):
    _, place = folders
    known = ("run", "small", "recipe.yaml")
    code, _, err = elsewhere(*(place / word if word.partition("/")[0] in known else word for word in words), "--json")
    assert code == 0, err


@pytest.mark.parametrize("where", ["code", "working folder"])
def test_a_model_that_was_moved_is_found_where_its_code_is_now(elsewhere, folders, tmp_path, where):
    code, place = folders
    shutil.copytree(place / "small/decomposed", tmp_path / "moved")
    if where == "working folder":  # the code was moved, too
        shutil.copy(code / "space_beside.py", tmp_path / "space_beside.py")
        about = (tmp_path / "moved/model.json").read_text()
        (tmp_path / "moved/model.json").write_text(about.replace(str(code), str(tmp_path / "gone")))
    assert elsewhere("benchmark", "moved", "--backend", "eager", "--seconds", "0.05")[0] == 0


def test_loading_a_model_leaves_the_path_of_the_process_as_it_was(folders, monkeypatch):
    """As nasbench.load promises a caller from Python."""
    _, place = folders
    sys.modules.pop("space_beside", None)
    before = list(sys.path)
    assert load_model(place / MODEL).build.space == "space_beside:Tiny"
    assert sys.path == before
    sys.modules.pop("space_beside", None)


def test_without_its_code_a_model_says_which_module_is_missing(elsewhere, folders, tmp_path):
    code, place = folders
    shutil.copytree(place / "small/decomposed", tmp_path / "moved")
    about = (tmp_path / "moved/model.json").read_text()
    (tmp_path / "moved/model.json").write_text(about.replace(str(code), str(tmp_path / "gone")))
    code, _, err = elsewhere("export", "moved", "--backend", "eager", "--out", "x")
    assert code == 2 and "there is no module 'space_beside'" in err
