"""Lookups that assume nothing, and the facts about NAS-Bench-201."""

import gzip
import io
import shutil

import numpy as np
import pandas as pd
import pytest

from nasbench.tables import TABLES, load_table
from nasbench.tables.nasbench201 import check, count_params, load_nasbench201
from nasbench.tables.paper_table import load_paper_table
from nasbench_registry import UserError
from search_spaces import Architecture, Task, get_space

BEST = {"cifar10": (6111, 94.373333), "cifar100": (9930, 73.513333), "imagenet16_120": (857, 47.311111)}


def test_a_query_finds_the_row_of_an_architecture(small, grid):
    arch = grid.architecture([1, 0])
    assert small.query(arch, dataset="images", split="val", epochs=12) == 10
    assert small.query(arch, dataset="images", split="test", epochs=200) == 60
    assert small.seconds_per_epoch(arch, dataset="images") == 4
    assert small.row(arch) == 3 and small.architectures[3] == arch and len(small) == 6
    assert isinstance(small.query(arch, dataset="images", split="val", epochs=12), float)


@pytest.mark.parametrize("missing", ["dataset", "split", "epochs"])
def test_nothing_has_a_default(small, grid, missing):
    question = {"dataset": "images", "split": "val", "epochs": 12}
    del question[missing]
    with pytest.raises(TypeError, match=missing):
        small.query(grid.architecture([0, 0]), **question)
    with pytest.raises(TypeError, match=missing):
        small.column(**question)


@pytest.mark.parametrize(
    "change", [{"dataset": "cifar10"}, {"split": "test"}, {"split": "valid"}, {"epochs": 11}, {"epochs": None}]
)
def test_a_column_that_was_not_measured_is_an_error(small, grid, change):
    question = {"dataset": "images", "split": "val", "epochs": 12} | change
    with pytest.raises(UserError, match="it has: images val after 12 epochs; images test after 200 epochs"):
        small.query(grid.architecture([0, 0]), **question)


def test_architectures_of_other_spaces_and_unknown_times_are_errors(small):
    with pytest.raises(UserError, match="belongs to space 'other'"):
        small.row(Architecture("other", (1, 0)))
    with pytest.raises(UserError, match="not an architecture of space 'grid'"):
        small.row(Architecture("grid", (3, 0)))
    with pytest.raises(UserError, match="it has them on: images"):
        small.epoch_seconds(dataset="cifar10")


def test_columns_cannot_be_written(small):
    with pytest.raises(ValueError, match="read-only"):
        small.column(dataset="images", split="val", epochs=12)[0] = 99
    with pytest.raises(ValueError, match="read-only"):
        small.params[0] = 99


def test_an_unknown_table_is_an_error():
    with pytest.raises(UserError, match="Did you mean 'nasbench201'"):
        load_table("nasbench_201")
    assert list(TABLES) == ["nasbench201"]


def test_a_table_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="run: nasbench data fetch nasbench201"):
        load_nasbench201()
    with pytest.raises(UserError, match="run: nasbench data fetch nasbench201"):
        load_nasbench201(tmp_path / "nowhere.csv.gz")


def test_the_file_and_the_table_say_the_same(table, data_file):
    path = data_file("nasbench201/nasbench201.csv.gz")
    frame = pd.read_csv(path)
    exact = pd.read_csv(path.with_name("test_acc_200ep_exact.csv.gz"))
    assert exact["arch"].tolist() == frame["arch"].tolist()
    frame[[name for name in exact if name.endswith("200ep")]] = exact.filter(regex="200ep$")
    assert [table.space.format(arch) for arch in table.architectures] == frame["arch"].tolist()
    assert table.params.tolist() == frame["params"].tolist()
    for dataset, split, epochs in table.columns:
        column = table.column(dataset=dataset, split=split, epochs=epochs)
        assert np.array_equal(column, frame[f"{dataset}_{split}_acc_{epochs}ep"])
        assert np.array_equal(table.epoch_seconds(dataset=dataset), frame[f"{dataset}_train_s_per_epoch"])
    assert len(table.columns) == 9


def test_the_published_facts_hold(table):
    assert len(set(table.architectures)) == len(table) == table.space.size == 15_625
    assert all(table.row(arch) == row for row, arch in enumerate(table.architectures))
    for dataset, (row, best) in BEST.items():
        accuracy = table.column(dataset=dataset, split="test", epochs=200)
        assert (accuracy.argmax(), accuracy.max()) == (row, best)
        assert table.query(table.architectures[row], dataset=dataset, split="test", epochs=200) == best
    # The paper's largest cell, all 3x3 convolutions, has the index 1462 and took 34.6 seconds an epoch.
    largest = table.space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+" + "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    assert table.row(largest) == 1462 and table.params.argmax() == 1462


def test_cells_that_build_one_network_keep_their_rows(table):
    """They were trained apart; merging them would invent numbers."""
    first, second = (
        table.space.parse(f"|skip_connect~0|+|none~0|{op}~1|+|none~0|none~1|skip_connect~2|")
        for op in ("nor_conv_3x3", "nor_conv_1x1")
    )
    assert table.row(first) != table.row(second)
    same = table.space.parse("|skip_connect~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|")
    assert table.space.canonical(first) == table.space.canonical(same) and table.row(first) != table.row(same)


def test_parameters_are_those_of_the_networks():
    space, rng = get_space("nasbench201"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(8)]
    built = [
        sum(parameter.numel() for parameter in space.build(arch, Task((3, 32, 32), 10)).parameters()) for arch in archs
    ]
    assert count_params(space, archs).tolist() == built


def test_another_content_is_refused(data_file, tmp_path):
    exact = data_file("nasbench201/test_acc_200ep_exact.csv.gz")
    shutil.copy(exact, tmp_path)
    content = gzip.decompress(data_file("nasbench201/nasbench201.csv.gz").read_bytes())
    changed = tmp_path / "changed.csv.gz"
    changed.write_bytes(gzip.compress(content.replace(b"94.3733", b"99.3733")))
    assert check(changed) == [f"{changed} does not hold the published numbers; run: nasbench data fetch nasbench201."]
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(content)[:1000])
    assert "cannot be read" in check(cut)[0]
    recompressed = tmp_path / "same.csv.gz"
    with gzip.GzipFile(fileobj=(buffer := io.BytesIO()), mode="wb", compresslevel=1) as file:
        file.write(content)
    recompressed.write_bytes(buffer.getvalue())
    assert check(recompressed) == []
    (tmp_path / exact.name).chmod(0o644)
    (tmp_path / exact.name).write_bytes(
        gzip.compress(gzip.decompress(exact.read_bytes()).replace(b"94.3733", b"99.3733"))
    )
    assert "does not hold the published numbers" in check(tmp_path / exact.name)[0] == check(recompressed)[0]
    (tmp_path / exact.name).unlink()
    assert "there is no file" in check(recompressed)[0]


def test_rows_whose_names_hold_commas_are_selected_by_name():
    table = load_paper_table("joint-table")
    assert any("," in row.name for row in table.rows)
    for row in table.rows:
        assert table.split_names(row.name) == [row.name]
    assert table.split_names(", ".join(row.name for row in table.rows)) == [row.name for row in table.rows]
    with pytest.raises(UserError, match="no such row"):
        table.select(table.split_names("random, no such row"))
