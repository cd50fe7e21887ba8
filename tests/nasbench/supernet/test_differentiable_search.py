"""Searches of digits: what is learned, what is kept, what is refused, and runs that are made of them."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import nasbench as nb
from nasbench.data.split import Split
from nasbench.supernet.differentiable import METHODS, DifferentiableSearch
from nasbench.supernet.differentiable.search import STATE
from nasbench_registry import UserError
from search_spaces import Decision, EdgeSpace, get_space

FAST = {"epochs": 4, "batch_size": 32, "train_examples": 512, "learning_rate": 0.1, "architecture_rate": 0.05}
# What draws one operation at a time sees pictures in one step of nine at first, and needs more of them.
DRAWS = {"epochs": 8, "batch_size": 16, "train_examples": 1024, "learning_rate": 0.02, "architecture_rate": 0.02}
TOY = {
    "darts": FAST,
    "gdas": DRAWS | {"hottest": 5.0, "coldest": 0.5},
    "drnas": FAST,
    "beta_darts": FAST | {"strength": 2.0},
    # Of 20 seeds: 0.997 +- 0.013 with pictures, 0.379 +- 0.029 by chance. With FAST a third of the seeds collapsed.
    "enas": DRAWS | {"policy_rate": 0.005, "samples": 8, "entropy": 0.05},
}


class Erased(nn.Module):
    """The mean of each channel at every place: what a picture shows is gone."""

    def forward(self, x):
        return x.mean((2, 3), keepdim=True).expand_as(x)


class Paths(EdgeSpace):
    """Two edges in a row; one of the three operations of each lets a picture through."""

    name = "paths"
    decisions = (Decision("first", ("erase", "keep", "none")), Decision("second", ("none", "erase", "keep")))

    def assemble(self, task, edge):
        def operation(option):
            return {"erase": Erased, "keep": nn.Identity, "none": Dark}[option]()

        channels, height, width = task.input_shape
        stem = nn.Sequential(nn.Conv2d(channels, 4, 1), nn.BatchNorm2d(4))
        head = nn.Sequential(nn.Flatten(), nn.Linear(4 * height * width, task.classes))
        return nn.Sequential(stem, edge("first", operation), edge("second", operation), head)


class Dark(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


@pytest.fixture(scope="module")
def digits():
    return nb.image_classification("digits", epochs=1)


def preference(search):
    strengths = search.method.strengths()
    return float(strengths["first"][1] + strengths["second"][2]) / 2


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_the_operation_that_lets_pictures_through(digits, method):
    """The control has the same pictures with labels by chance, of which nothing can be learned."""
    train = digits.data.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    by_chance = Split(train.inputs, train.targets[order], train.scales)
    control = dataclasses.replace(digits, data=dataclasses.replace(digits.data, train=by_chance))
    search, chance = (DifferentiableSearch(Paths(), problem, method, **TOY[method]) for problem in (digits, control))
    search.run()
    chance.run()
    assert preference(search) > preference(chance)
    assert search.history[-1].val_quality > chance.history[-1].val_quality
    last = search.history[-1]
    assert list(last.chosen) == list(last.strengths) == ["erase", "keep", "none"]
    assert last.chosen["keep"] == sum(word == "keep" for word in Paths().choices(search.architecture).values())
    assert sum(last.strengths.values()) == pytest.approx(1)


def kept(search):
    """All that the next epoch depends on."""
    tensors = dict(search._training.state_dict())
    tensors |= {f"alpha.{index}": alpha.detach() for index, alpha in enumerate(search.method.alphas)}
    history = [dataclasses.asdict(entry) | {"seconds": None} for entry in search.history]
    return tensors, history, json.dumps(search.method.state())


def same(first, second):
    assert first[1:] == second[1:]
    assert first[0].keys() == second[0].keys()
    return all(torch.equal(value, second[0][name]) for name, value in first[0].items())


SHORT = {"epochs": 3, "batch_size": 16, "train_examples": 96}


@pytest.mark.parametrize(
    ("method", "options"), [*((name, {}) for name in METHODS), ("darts", {"order": 2})], ids=[*METHODS, "second order"]
)
def test_a_search_that_was_killed_goes_on_to_the_same_bits(digits, method, options, tmp_path):
    space = get_space("nasbench201", channels=2, cells=1)
    options = SHORT | options | ({"samples": 3} if method == "enas" else {})
    before = torch.get_rng_state()
    whole = DifferentiableSearch(space, digits, method, seed=4, **options)
    whole.run()
    assert torch.equal(before, torch.get_rng_state())
    DifferentiableSearch(space, digits, method, seed=4, folder=tmp_path, **options).run_epoch()
    later = DifferentiableSearch(space, digits, method, seed=4, folder=tmp_path, **options)
    assert later.epoch == 1
    later.run()
    assert same(kept(whole), kept(later))
    another_seed = DifferentiableSearch(space, digits, method, seed=5, **options)
    assert another_seed.run_epoch().train_loss != whole.history[0].train_loss


def test_weights_come_first_where_they_shall(digits, tmp_path):
    space = get_space("nasbench201", channels=2, cells=1)
    options = SHORT | {"weights_first": 1, "folder": tmp_path}
    search = DifferentiableSearch(space, digits, "darts", **options)
    start = [alpha.detach().clone() for alpha in search.method.alphas]
    weights = [weight.detach().clone() for weight in search._network.parameters()]
    search.run_epoch()
    assert all(torch.equal(*pair) for pair in zip(start, search.method.alphas, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(weights, search._network.parameters(), strict=True))
    later = DifferentiableSearch(space, digits, "darts", **options)
    later.run_epoch()
    assert not any(torch.equal(*pair) for pair in zip(start, later.method.alphas, strict=True))


def test_schedules_of_a_method_begin_when_its_parameters_move(digits):
    space = get_space("nasbench201", channels=2, cells=1)
    search = DifferentiableSearch(space, digits, "gdas", **SHORT | {"epochs": 5, "weights_first": 2})
    shares: list[float] = []
    begin = search.method.begin_epoch
    search.method.begin_epoch = lambda progress: (shares.append(progress), begin(progress))
    search.run()
    assert shares == [0, 0, 0, 0.5, 1]


def test_what_is_there_of_another_search_or_damaged_is_begun_anew(digits, tmp_path):
    space = get_space("nasbench201", channels=2, cells=1)
    first = DifferentiableSearch(space, digits, "gdas", folder=tmp_path, **SHORT)
    first.run_epoch()
    assert DifferentiableSearch(space, digits, "gdas", folder=tmp_path, **SHORT).epoch == 1
    assert DifferentiableSearch(space, digits, "gdas", seed=1, folder=tmp_path, **SHORT).epoch == 0
    assert DifferentiableSearch(space, digits, "gdas", folder=tmp_path, **SHORT, coldest=0.2).epoch == 0
    file = tmp_path / STATE
    file.write_bytes(file.read_bytes()[:-100])
    assert DifferentiableSearch(space, digits, "gdas", folder=tmp_path, **SHORT).epoch == 0


class Own(nb.Problem):
    task, metrics = None, {"val_acc_pct": None}

    def fit(self, network, **options): ...
    def score(self, model, part="val"): ...
    def examples(self, count): ...


class Wide(Paths):
    decisions = (*Paths.decisions, Decision("width", (1, 2)))


@pytest.mark.parametrize(
    ("space", "problem", "options", "words"),
    [
        (get_space("resnet"), "digits", {}, "space 'resnet' has none"),
        (Paths(), None, {}, "give the section data"),
        (Paths(), Own, {}, "divides the training examples"),
        (Paths(), "digits", {"ordr": 2}, "Did you mean 'order'"),
        (Paths(), "digits", {"epochs": 0}, "epochs=0"),
        (Paths(), "digits", {"weights_first": -1}, "weights_first=-1"),
        (Paths(), "digits", {"weights_first": 3, "epochs": 3}, "weights_first=3 .* none of the 3 epochs"),
        (Paths(), "digits", {"batch_size": 900}, "batch_size is 900"),
        (Paths(), "digits", {"learning_rate": "fast"}, "learning_rate='fast'"),
        (Paths(), "digits", {"learning_rate": float("nan")}, "learning_rate=nan"),
        (Wide(), "digits", {}, "decision 'width'"),
    ],
)
def test_what_cannot_be_is_one_sentence(digits, space, problem, options, words):
    resolved = Own() if problem is Own else digits if problem == "digits" else None
    with pytest.raises(UserError, match=words):
        DifferentiableSearch(space, resolved, "darts", **options)


@pytest.mark.parametrize(
    ("method", "option", "value", "kind"),
    [
        ("darts", "order", True, "whole number"),
        ("beta_darts", "strength", "much", "number"),
        ("drnas", "anchor", float("nan"), "number"),
        ("gdas", "hottest", None, "number"),
        ("enas", "samples", 2.5, "whole number"),
    ],
)
def test_an_option_of_a_method_that_is_no_number_is_one_sentence(digits, method, option, value, kind):
    with pytest.raises(UserError, match=f"{option}={value!r} of controller {method!r} must be a {kind}"):
        DifferentiableSearch(Paths(), digits, method, **{option: value})


def test_a_search_that_diverges_says_so(digits):
    search = DifferentiableSearch(
        get_space("nasbench201", channels=2, cells=1), digits, "darts", **SHORT | {"learning_rate": 1e30}
    )
    with pytest.raises(nb.UserError, match="lower learning_rate of the controller"):
        search.run()


# ---- runs


def accuracy(candidate):
    return {"val_acc_pct": 10.0 + sum(candidate.arch.picks)}


ASKED = {"name": "darts", "epochs": 5, "batch_size": 32, "train_examples": 128, "architecture_rate": 0.05}


def searched(folder, problem, **changes):
    options = {"evaluate": accuracy, "objectives": {"val_acc_pct": "max"}, "candidates": 3, "progress": False}
    return nb.search(Paths(), folder=folder, problem=problem, controller=ASKED, **options | changes)


def test_a_run_has_record_and_report_and_goes_on_where_it_was_interrupted(digits, tmp_path, monkeypatch):
    whole = searched(tmp_path / "whole", digits)
    assert whole.status == "complete"
    record = whole.json["differentiable"]
    assert [entry["epoch"] for entry in record["history"]] == [1, 2, 3, 4, 5]
    assert record["method"] == "darts" and record["edges"] == 2
    asked_for = [record["history"][epoch - 1]["architecture"] for epoch in (2, 3, 5)]
    assert list(whole.candidates["architecture"]) == list(dict.fromkeys(asked_for))
    assert "Operations over the epochs" in whole.report().read_text()

    run_epoch = DifferentiableSearch.run_epoch

    def killed(self):
        if self.epoch == 3:
            raise KeyboardInterrupt
        return run_epoch(self)

    monkeypatch.setattr(DifferentiableSearch, "run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "killed", digits)
    monkeypatch.setattr(DifferentiableSearch, "run_epoch", run_epoch)
    again = nb.resume(tmp_path / "killed", space=Paths, evaluate=accuracy, problem=digits, progress=False)
    assert list(again.candidates["architecture"]) == list(whole.candidates["architecture"])
    strip = [{**entry, "seconds": 0} for entry in again.json["differentiable"]["history"]]
    assert strip == [{**entry, "seconds": 0} for entry in record["history"]]


def test_an_experiment_file_names_a_method(nasbench, tmp_path):
    settings = {
        "name": "gdas",
        "space": {"name": "nasbench201", "channels": 2, "cells": 1},
        "data": "digits",
        "controller": {"name": "gdas", "epochs": 2, "batch_size": 16, "train_examples": 64},
        "evaluator": "shared_weights",
        "training": {"epochs": 1},
        "search": {"candidates": 1},
        "survivors": 0,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    code, out, err = nasbench("search", tmp_path / "mine.yaml", "--run", tmp_path / "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert [candidate["status"] for candidate in report["candidates"]] == ["done"]
    last, candidate = report["differentiable"]["history"][-1], report["candidates"][0]
    assert (candidate["architecture"], candidate["metrics"]) == (
        last["architecture"],
        {"val_acc_pct": last["val_quality"]},
    )

    for changed, words in (
        ({"space": "resnet"}, "has none; take nasbench201, darts"),
        ({"controller": {"name": "gdas", "epohs": 2}}, "Did you mean 'epochs'"),
        ({"controller": "random"}, "needs a controller that trains them"),
        (
            {"evaluator": "trained", "recipe": [{"prune": {"ratio": {"choice": [0, 0.5]}}}]},
            "searches architectures alone",
        ),
    ):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(settings | changed))
        code, _, err = nasbench("search", tmp_path / "bad.yaml", "--run", tmp_path / "bad")
        assert code == 2
        assert words in " ".join(err.split())


def test_methods_are_listed_with_the_controllers(nasbench):
    rows = {row["name"]: row for row in json.loads(nasbench("list", "controllers", "--json")[1])}
    assert set(METHODS) < set(rows)
    assert all(rows[name]["summary"] and "arXiv" in rows[name]["source"] for name in METHODS)
    assert np.all([METHODS[name].name == name for name in METHODS])


def test_the_space_and_the_search_of_the_documentation(capsys):
    page = (Path(__file__).parents[3] / "docs" / "differentiable.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block.replace("epochs=3", "epochs=1"), names)
    assert names["arch"].space == "graph"
    assert capsys.readouterr().out.startswith("1 0->1=")
