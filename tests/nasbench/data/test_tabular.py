"""Rows of tables: numbers, texts and booleans become inputs; what cannot is one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch

import nasbench as nb
from nasbench.data import load_data
from nasbench_registry import UserError

ROWS = 200


@pytest.fixture
def homes():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": rng.integers(1, 9, ROWS), "area": rng.normal(90, 20, ROWS)})
    table["town"] = rng.choice(["Ulm", "Bonn", "Kiel"], ROWS)
    table["garden"] = rng.random(ROWS) < 0.5
    table["price"] = 3 * table["area"] + 50 * table["garden"] + rng.normal(0, 5, ROWS)
    table["kind"] = np.where(table["price"] > 290, "dear", "cheap")
    return table


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv"])
def test_numbers_texts_and_booleans_become_inputs(homes, form, tmp_path):
    file = tmp_path / f"homes.{form}"
    homes.to_csv(file, index=False, sep="\t" if form == "tsv" else ",")
    data = load_data("tabular", path=str(file), target="price", columns=["rooms", "area", "town", "garden"])
    assert data.columns == ("rooms", "area", "town=Bonn", "town=Kiel", "town=Ulm", "garden")
    assert data.kind == "values" and data.task.input_shape == (6,)
    assert (len(data.train), len(data.val), len(data.test)) == (140, 30, 30)
    towns = data.train.inputs[0][:, 2:5]
    assert torch.equal(towns.sum(1), torch.ones(140))
    assert data.train.examples.mean(0) == pytest.approx(0, abs=1e-5)


def test_a_column_of_texts_is_told_as_classes(homes, tmp_path):
    homes.to_csv(tmp_path / "homes.csv", index=False)
    homes.iloc[:40].to_csv(tmp_path / "test.csv", index=False)
    options = {"path": str(tmp_path / "homes.csv"), "test_path": str(tmp_path / "test.csv"), "target": "kind"}
    data = load_data("tabular", columns=["area", "garden"], **options)
    assert data.labels == ("cheap", "dear") and len(data.test) == 40 and len(data.train) + len(data.val) == 200
    assert data.test.targets.tolist() == (homes["kind"].iloc[:40] == "dear").astype(int).tolist()


def test_a_network_learns_from_the_table(homes, tmp_path):
    homes.to_csv(tmp_path / "homes.csv", index=False)
    problem = nb.regression(
        "tabular", path=str(tmp_path / "homes.csv"), target="price", columns=["area", "garden"], epochs=30
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    before = problem.score(network)[problem.quality]
    problem.fit(network, seed=0)
    assert problem.score(network)[problem.quality] < before  # a control of the same run


def test_what_cannot_be_numbers_is_one_sentence(homes, tmp_path):
    file = tmp_path / "homes.csv"
    homes["id"] = [f"home {number}" for number in range(ROWS)]
    homes.to_csv(file, index=False)
    cases = {
        "unknown column 'prise' of .*Did you mean 'price'": {"target": "prise"},
        "column 'id' of data set 'tabular:homes.csv' has 200 different texts": {"target": "price"},
        "no column beside area": {"target": "area", "columns": ["area"]},
        "gives targets such as .* and regression needs numbers": {
            "target": "town",
            "columns": ["area"],
            "kind": "values",
        },
    }
    for words, options in cases.items():
        with pytest.raises(UserError, match=words):
            load_data("tabular", path=str(file), **options)
    homes.loc[:2, "area"] = np.nan
    homes.to_csv(file, index=False)
    with pytest.raises(UserError, match=r"rows without a value in area \(3\), of 200 rows"):
        load_data("tabular", path=str(file), target="price", columns=["area"])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "table.xlsx").write_text("")
    for name, words in {
        "empty.csv": "is not a table that can be read",
        "none.csv": "there is no table .*none.csv",
        "table.xlsx": "no .csv, .tsv or .parquet file",
    }.items():
        with pytest.raises(UserError, match=words):
            load_data("tabular", path=str(tmp_path / name), target="price")
