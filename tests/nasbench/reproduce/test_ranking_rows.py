"""A table of rank correlations: networks with shared weights, and trained alone or looked up."""

import json

import numpy as np
import pytest
import yaml
from scipy import stats

from nasbench.reproduce import trained_rows
from nasbench.reproduce.ranking_rows import correlations
from nasbench.reproduce.reproduce import reproduce
from nasbench.supernet.supernet import Supernet
from nasbench.tables.paper_table import load_paper_table
from nasbench.tables.registry import load_table
from nasbench_registry import UserError
from search_spaces import get_space

COLUMNS = ("spearman", "spearman_low", "spearman_high", "kendall", "shared_acc_pct", "alone_acc_pct", "seconds")
SPACE = {"name": "resnet", "blocks": ["basic"], "depths": [1], "widths": [[4, 8], [8, 16]], "shortcut": "projection"}
SHARED = {"name": "shared", "space": SPACE, "epochs": 2, "alone_epochs": 1, "networks": 4}
ELASTIC = {
    "name": "elastic", "space": SPACE, "network": "basic-1,1-8,16", "tuning_images": 300, "epochs": 1,
    "learning_rate": 0.01, "training": {"learning_rate": 0.005}, "alone_epochs": 1, "networks": 5, "widths": [0.5, 1.0],
}  # fmt: skip
CELLS = {
    "name": "shared", "space": {"name": "nasbench201", "channels": 2, "cells": 1}, "epochs": 1,
    "benchmark": "nasbench201", "networks": 6, "kernels": "separate",
}  # fmt: skip


def written(tmp_path, rows, **changes):
    data = {
        "title": "small",
        "paper": "a test",
        "table": "of its own",
        "seeds": 1,
        "protocol": {
            "kind": "shared_ranking",
            "data": {"name": "digits"},
            "judged": 100,
            "training": {"epochs": 2, "learning_rate": 0.01},
            "text": "small networks on digits",
        },
        "columns": [{"name": name, "shows": name} for name in COLUMNS],
        "rows": [{"name": name, "method": method} for name, method in rows.items()],
    } | changes
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_paper_table(str(path))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kept_rows(keep):
    return {stored["row"]: stored["found"] for stored in (json.loads(file.read_text()) for file in keep.glob("*.json"))}


def test_correlations_by_hand():
    values = correlations([1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, 40.0])
    assert values["spearman"] == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert values["kendall"] == pytest.approx(4 / 6)  # five pairs agree and one does not
    assert values["spearman_low"] <= 0.8 <= values["spearman_high"]
    with pytest.raises(UserError, match="same accuracy"):
        correlations([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])


def test_networks_are_ranked_by_shared_weights_and_alone_and_rows_share_what_was_trained_alone(
    cache, tmp_path, monkeypatch
):
    rows = {"elastic": ELASTIC, "uniform": SHARED, "sandwich": SHARED | {"sampling": "sandwich", "epochs": 1}}
    table, keep = written(tmp_path, rows), tmp_path / "kept"
    untrained, alone = Supernet.untrained, []
    for kind in Supernet.__subclasses__():
        untrained = kind.untrained
        monkeypatch.setattr(
            kind, "untrained", lambda self, arch, seed, make=untrained: alone.append(arch) or make(self, arch, seed)
        )
    result = reproduce(table, keep=keep)
    entries = {(cell.row, cell.column): cell.measured for cell in result.entries}
    stored = kept_rows(keep)
    assert set(stored) == set(rows)
    assert len(alone) == 5 + 4, "uniform and sandwich compare the same networks, which are trained once"
    for row, values in stored.items():
        names, shared, trained_alone = zip(*values["networks"], strict=True)
        assert len(set(names)) == rows[row]["networks"]
        assert entries[row, "spearman"] == pytest.approx(stats.spearmanr(shared, trained_alone).statistic)
        assert entries[row, "kendall"] == pytest.approx(stats.kendalltau(shared, trained_alone).statistic)
        assert entries[row, "alone_acc_pct"] == pytest.approx(np.mean(trained_alone))
        assert entries[row, "shared_acc_pct"] == pytest.approx(np.mean(shared))
    uniform, sandwich = (stored[row]["networks"] for row in ("uniform", "sandwich"))
    assert [(name, accuracy) for name, _, accuracy in uniform] == [(name, accuracy) for name, _, accuracy in sandwich]
    assert [accuracy for _, accuracy, _ in uniform] != [accuracy for _, accuracy, _ in sandwich]
    monkeypatch.setattr(trained_rows, "_measure", lambda *args: pytest.fail("it was kept"))
    assert [cell.measured for cell in reproduce(table, keep=keep).entries] == [cell.measured for cell in result.entries]


def test_cells_are_looked_up(cache, data_file, tmp_path):
    data_file("nasbench201/nasbench201.csv.gz")
    table, keep = written(tmp_path, {"cells": CELLS}), tmp_path / "kept"
    reproduce(table, keep=keep)
    networks = kept_rows(keep)["cells"]["networks"]
    space, benchmark = get_space("nasbench201"), load_table("nasbench201")
    assert len(networks) == 6
    for name, _, alone in networks:
        assert alone == benchmark.query(space.parse(name), dataset="cifar10", split="test", epochs=200)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({**SHARED, "name": "sharde"}, "Did you mean 'shared'"),
        ({**SHARED, "epoch": 3}, "Did you mean 'epochs'"),
        ({**SHARED, "sampling": "fare"}, "Did you mean 'fair'"),
        ({**SHARED, "networks": 2}, "needs at least 3"),
        ({**SHARED, "benchmark": "nasbench201"}, "either alone_epochs"),
        ({name: value for name, value in SHARED.items() if name != "alone_epochs"}, "either alone_epochs"),
        ({**SHARED, "space": {"name": "resnte"}}, "Did you mean 'resnet'"),
        ({**ELASTIC, "network": "basic-1-8"}, "basic-1-8"),
    ],
)
def test_a_wrong_method_costs_one_sentence(cache, tmp_path, method, message):
    with pytest.raises(UserError, match=message):
        reproduce(written(tmp_path, {"a": method}))


def test_a_benchmark_of_another_space_is_refused(cache, data_file, tmp_path):
    data_file("nasbench201/nasbench201.csv.gz")
    method = {name: value for name, value in SHARED.items() if name != "alone_epochs"} | {"benchmark": "nasbench201"}
    with pytest.raises(UserError, match="no networks of space 'resnet'"):
        reproduce(written(tmp_path, {"a": method}))


@pytest.mark.parametrize("name", ["elastic-ranks", "shared-ranks"])
def test_the_tables_of_the_project_can_be_read(name):
    table = load_paper_table(name)
    assert {column.shows for column in table.columns} == set(COLUMNS)
    elastic = load_paper_table("elastic-cifar10")
    if name == "elastic-ranks":
        (row,) = table.rows
        assert row.method["network"] == elastic.protocol.networks["resnet20"]
        assert table.protocol.training == elastic.protocol.training and table.protocol.data == elastic.protocol.data
        assert row.method["epochs"] == next(row for row in elastic.rows if row.name == "elastic").method["epochs"]
