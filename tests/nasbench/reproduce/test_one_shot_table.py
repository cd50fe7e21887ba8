"""A table of weight-sharing searches: each row trains, its last cell is looked up, and what is finished is kept."""

import dataclasses
import json

import pytest
import yaml

import nasbench as nb
from controllers import get_controller
from nasbench.reproduce import trained_rows
from nasbench.reproduce.reproduce import reproduce
from nasbench.supernet.differentiable import METHODS, DifferentiableSearch
from nasbench.supernet.store import load_supernet
from nasbench.supernet.supernet import DESCRIPTION
from nasbench.tables.paper_table import load_paper_table
from nasbench.tables.registry import load_table
from nasbench_registry import UserError
from search_spaces import get_space

TABLE = "nasbench201/nasbench201.csv.gz"
COLUMNS = [
    {"name": "cifar10_test_acc_pct", "shows": "test_acc_pct", "read": "cifar10"},
    {"name": "cifar100_test_acc_pct", "shows": "test_acc_pct", "read": "cifar100"},
    {"name": "skip_edges", "shows": "skip_edges"},
    {"name": "shared_acc_pct", "shows": "shared_acc_pct"},
    {"name": "search_s", "shows": "seconds"},
]


def written(tmp_path, **changes):
    data = {
        "title": "small",
        "paper": "a test",
        "table": "of its own",
        "benchmark": "nasbench201",
        "seeds": 2,
        "protocol": {
            "kind": "one_shot",
            "data": {"name": "digits"},
            "judged": 50,
            "space": {"name": "nasbench201", "channels": 2, "cells": 1},
            "search": {"epochs": 2, "batch_size": 16, "train_examples": 64},
            "text": "small networks on digits",
        },
        "columns": COLUMNS,
        "rows": [{"name": "GDAS", "method": {"name": "gdas"}}, {"name": "none", "reason": "it is not run"}],
    } | changes
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_paper_table(str(path))


@pytest.fixture
def nasbench201(data_file):
    data_file(TABLE)
    return load_table("nasbench201")


def test_the_last_cell_is_looked_up_and_each_search_goes_on(nasbench201, tmp_path, monkeypatch):
    table, keep = written(tmp_path), tmp_path / "kept"
    run_epoch, epochs = DifferentiableSearch.run_epoch, []

    def counted(self):
        if len(epochs) == 3:
            epochs.append("killed")
            raise KeyboardInterrupt
        epochs.append(self._seed)
        return run_epoch(self)

    monkeypatch.setattr(DifferentiableSearch, "run_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(table, keep=keep)
    result = reproduce(table, keep=keep)
    assert epochs == [0, 0, 1, "killed", 1]  # two epochs for each of two seeds, none twice
    cells = {(cell.row, cell.column): cell for cell in result.entries}
    assert cells["none", "skip_edges"].measured is None
    space = get_space("nasbench201", channels=2, cells=1)
    last = [json.loads(file.read_text())["history"][-1] for file in keep.glob("*/epochs.json")]
    for column, dataset in (("cifar10_test_acc_pct", "cifar10"), ("cifar100_test_acc_pct", "cifar100")):
        looked_up = [
            nasbench201.query(space.parse(epoch["architecture"]), dataset=dataset, split="test", epochs=200)
            for epoch in last
        ]
        assert cells["GDAS", column].measured == pytest.approx(sum(looked_up) / 2)
    skips = [epoch["architecture"].count("skip_connect") for epoch in last]
    assert cells["GDAS", "skip_edges"].measured == sum(skips) / 2
    monkeypatch.setattr(trained_rows, "_measure", lambda *args: pytest.fail("it was kept"))
    again = reproduce(table, keep=keep)
    assert [cell.measured for cell in again.entries] == [cell.measured for cell in result.entries]


def test_networks_that_share_weights_of_single_paths_are_compared_and_the_best_is_looked_up(nasbench201, tmp_path):
    options = {"epochs": 1, "candidates": 5, "calibration_inputs": 32, "controller": {"name": "random"}}
    rows = [{"name": "SPOS", "method": {"name": "single_path", **options, "training": {"batch_size": 256}}}]
    table, keep = written(tmp_path, rows=rows, seeds=1), tmp_path / "kept"
    result = reproduce(table, keep=keep)
    entries = {cell.column: cell.measured for cell in result.entries}
    (folder,) = (path.parent for path in keep.rglob(DESCRIPTION))
    space = get_space("nasbench201", channels=2, cells=1)
    problem = nb.image_classification("digits")
    judged = dataclasses.replace(problem, data=problem.data.fewer(50, 0))
    supernet = load_supernet(folder, judged, space)
    controller = get_controller("random", space, seed=0)
    archs = [space.canonical(controller.ask().arch) for _ in range(5)]
    accuracies = [supernet.score(arch)["val_acc_pct"] for arch in archs]
    best = archs[accuracies.index(max(accuracies))]
    assert entries["shared_acc_pct"] == max(accuracies)
    for column, dataset in (("cifar10_test_acc_pct", "cifar10"), ("cifar100_test_acc_pct", "cifar100")):
        assert entries[column] == pytest.approx(nasbench201.query(best, dataset=dataset, split="test", epochs=200))
    assert entries["skip_edges"] == space.format(best).count("skip_connect")
    assert entries["search_s"] > json.loads((folder / "seconds.json").read_text())["seconds"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"name": "a", "method": {"name": "gdsa"}}]}, "Did you mean 'gdas'"),
        ({"rows": [{"name": "a", "method": {"name": "gdas", "hotest": 3}}]}, "Did you mean 'hottest'"),
        ({"rows": [{"name": "a", "method": {"name": "single_path", "epoch": 3}}]}, "Did you mean 'epochs'"),
        ({"rows": [{"name": "a", "method": {"name": "single_path"}}]}, "epochs: Field required"),
        (
            {"rows": [{"name": "a", "method": {"name": "single_path", "epochs": 1, "sampling": "fare"}}]},
            "Did you mean 'fair'",
        ),
        (
            {"rows": [{"name": "a", "method": {"name": "single_path", "epochs": 1, "controller": {"name": "randm"}}}]},
            "Did you mean 'random'",
        ),
        ({"columns": [{"name": "a", "shows": "test_acc_pct"}]}, "show test_acc_pct read a data set"),
        ({"columns": [{"name": "a", "shows": "skip_edge"}]}, "Did you mean 'skip_edges'"),
        ({"columns": [{"name": "a", "shows": "skip_edges", "devices": ["fpga"]}]}, "have shows and read"),
        ({"benchmark": "nasbench2O1"}, "Did you mean 'nasbench201'"),
    ],
)
def test_a_wrong_file_costs_one_sentence(nasbench201, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        reproduce(written(tmp_path, **changes))


def test_the_table_of_the_project_runs_every_method_and_has_published_numbers():
    table = load_paper_table("oneshot-nasbench201")
    run = [row for row in table.rows if row.method is not None]
    assert {row.method["name"] for row in run} == {*METHODS, "single_path"}
    assert {row.method.get("order", 1) for row in run if row.method["name"] == "darts"} == {1, 2}
    assert all(row.published["cifar10_test_acc_pct"].mean > 50 for row in run if row.name != "SPOS")
