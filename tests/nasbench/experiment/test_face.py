"""A search from Python leaves the caller's process as it was, and says in a sentence what cannot be."""

import subprocess
import sys
import threading

import pandas as pd
import pytest
import torch

import nasbench as nb


class Numbers(nb.SearchSpace):
    name = "numbers"
    decisions = (nb.Decision("a", (1, 2, 3)), nb.Decision("b", (1, 2)))

    def build(self, arch, task):
        return torch.nn.Linear(self.choices(arch)["a"], 1)


def product(candidate):
    return {"value": candidate.choices["a"] * candidate.choices["b"], "cost": candidate.choices["b"]}


def run(folder, **changes):
    options = {"evaluate": product, "objectives": {"value": "max"}, "candidates": 6, "progress": False}
    return nb.search(Numbers(), folder=folder, **options | changes)


FIRST_SEARCH = """
import logging, os, signal, sys
import optuna, torch
import nasbench as nb

def state():
    return {
        "environment": dict(os.environ),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "threads": torch.get_num_threads(),
        "optuna": optuna.logging.get_verbosity(),
        "logging": logging.getLogger().handlers[:],
        "random": torch.get_rng_state().tolist(),
    }

torch.set_num_threads(2)
before = state()
nb.search(
    "nasbench201",
    evaluate=lambda candidate: {"convolutions": candidate.architecture.count("conv")},
    objectives={"convolutions": "max"},
    candidates=3,
    folder=sys.argv[1],
    progress=False,
)
after = state()
print({name: (before[name], after[name]) for name in before if before[name] != after[name]})
"""


def test_the_first_search_of_a_process_changes_nothing_of_it(tmp_path):
    """The first one, for it imports everything."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_SEARCH, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{}"


def test_the_face_imports_nothing_heavy():
    code = "import sys, nasbench; print([m for m in ('torch', 'numpy', 'ray', 'optuna', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_search_is_a_package_and_a_function():
    for name in nb.__all__:
        assert getattr(nb, name) is not None
    import nasbench.search.study

    assert callable(nb.search) and nb.search.study is nasbench.search.study
    assert "objectives" in str(__import__("inspect").signature(nb.search))
    with pytest.raises(AttributeError, match="serach"):
        _ = nb.serach


def test_a_result_has_its_tables_and_its_best(tmp_path):
    result = run(tmp_path / "run", objectives={"value": "max", "cost": nb.minimize(limit=1)}, controller="nsga2")
    assert isinstance(result.candidates, pd.DataFrame)
    assert {"a", "b", "value", "cost", "on_front", "status"} <= set(result.candidates.columns)
    assert set(result.front["cost"]) == {1.0}
    assert set(result.candidates[result.candidates["b"] == 2]["status"]) == {"infeasible"}
    assert result.best.choices == {"a": 3, "b": 1}
    assert result.best.network().in_features == 3
    assert result.best.predict([[1.0, 2.0, 3.0]]).shape == (1, 1)
    assert "on the front" in result._repr_html_()
    again = nb.resume(tmp_path / "run", space=Numbers(), evaluate=product, progress=False)
    assert len(again.candidates) == len(result.candidates)


def test_a_space_of_a_notebook_is_asked_for_when_it_is_needed(tmp_path):
    class Local(Numbers):
        name = "local"

    nb.search(
        Local(), evaluate=product, objectives={"value": "max"}, candidates=2, folder=tmp_path / "run", progress=False
    )
    with pytest.raises(nb.UserError, match=r"resume\(folder, space=\.\.\.\)"):
        nb.resume(tmp_path / "run", evaluate=product, progress=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"controller": "evolutoin"}, "Did you mean"),
        ({"objectives": {"value": "maximal"}}, "write 'max', 'min'"),
        ({"survivors": 1}, "set survivors: 0"),
        ({"stop_at": {"value": 3}, "start_with": ["a=9"]}, "a"),
        ({"stop_at": ["value"]}, "stop_at is .*; write it as keys"),
        ({"start_with": 3}, "start_with is 3; write it as a list"),
        ({"callbacks": "mlflow"}, "callbacks is 'mlflow'; write it as a list"),
        ({"callbacks": [nb.Callback]}, "give an object of a class derived from nasbench.Callback"),
        ({"recipe": "prune"}, "recipe is 'prune'; write it as a list"),
        ({"survivors": "all"}, "survivors is 'all'"),
        ({"evaluate": 3}, "evaluate is 3; give a function"),
        ({"evaluate": nb.Evaluator}, "give a function of a candidate, an object of a class derived"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, changes, words):
    with pytest.raises(nb.UserError, match=words):
        run(tmp_path / "run", **changes)


class Unfinished(nb.SearchSpace):
    name = "unfinished"
    decisions = (nb.Decision("a", (1, 2)),)


class Sized(Numbers):
    def __init__(self, size):
        self.size = size


class Nothing(Numbers):
    decisions = ()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Unfinished, "space 'Unfinished' does not define build"),
        (Sized, "space 'Sized' needs the option 'size'"),
        (Nothing, "space 'Nothing' has no 'decisions'"),
        (Nothing(), "space 'Nothing' has no 'decisions'"),
        (Numbers.decisions, "the space is .*; give a name"),
    ],
)
def test_a_space_that_is_none_is_one_sentence(tmp_path, space, words):
    with pytest.raises(nb.UserError, match=words):
        nb.search(space, evaluate=product, objectives={"value": "max"}, candidates=2, folder=tmp_path / "run")


def test_a_function_that_cannot_travel_is_refused_before_the_search(tmp_path):
    lock = threading.Lock()

    def locked(candidate):
        with lock:
            return product(candidate)

    with pytest.raises(nb.UserError, match="cannot travel to Ray's workers"):
        run(tmp_path / "run", evaluate=locked, workers=2)
    mended = run(tmp_path / "mended", workers=2, candidates=2)  # Ray keeps nothing of what it could not take
    assert set(mended.candidates["status"]) == {"done"}


def test_models_are_saved_by_what_builds_them(tmp_path):
    digits = nb.image_classification("digits", epochs=1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(nb.UserError, match="build='module:function'"):
        nb.save(tmp_path / "model", network, problem=digits)
    nb.save(tmp_path / "model", network, build="tests_support:flat_network", problem=digits)
    loaded = nb.load(tmp_path / "model")
    inputs = digits.examples(5)
    assert (loaded.predict(inputs) == network(inputs).detach().numpy()).all()
    with pytest.raises(nb.UserError, match="unknown function 'flat_netwrok'"):
        nb.save(tmp_path / "other", network, build="tests_support:flat_netwrok", problem=digits)
        nb.load(tmp_path / "other")
