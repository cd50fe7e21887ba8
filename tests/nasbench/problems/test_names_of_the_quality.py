"""What is told of a problem is called by its own quality, and not by an accuracy that it has not."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from torch import nn

import nasbench as nb
from nasbench.report.progress import _numbers


@pytest.fixture
def model(tmp_path):
    """The folder of a network that tells the price of a home."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 3))
    table = pd.DataFrame(rows, columns=["size", "age", "rooms"]).assign(price=100 + rows @ [30, 5, 10])
    table.to_csv(tmp_path / "homes.csv", index=False)
    problem = nb.regression("tabular", path=str(tmp_path / "homes.csv"), target="price", epochs=5, learning_rate=0.1)
    network = nn.Linear(3, 1)
    problem.fit(network, seed=0)
    options = {"in_features": 3, "out_features": 1}
    return nb.save(tmp_path / "model", network, build="torch.nn:Linear", options=options, problem=problem)


def test_sensitivity_of_a_regression(nasbench, model, tmp_path):
    words = ["sensitivity", str(model), "--technique", "quantize", "--bits", "8,2"]
    code, out, err = nasbench(*words, "--html", "page.html", "--json")
    assert code == 0, err
    report = json.loads(out)
    (layer,) = report["techniques"][0]["layers"]
    assert report["quality"] == "of_first_pct" and report["of_first_pct"] == 100
    for tried in layer["tried"]:
        assert tried["drop_pct"] == pytest.approx(100 - tried["of_first_pct"])
    page = re.sub(r"<script.*?</script>", "", (tmp_path / "page.html").read_text(), flags=re.DOTALL)
    assert "Validation quality in percent of that of the network as it is" in page
    assert "accuracy" not in page.lower()
    code, out, _ = nasbench(*words)
    assert code == 0 and "accuracy" not in out.lower()


def test_a_candidate_of_a_search_is_told_by_it():
    candidate = SimpleNamespace(metrics={"val_rmse": 54.21, "latency_ms": 1.5, "val_mae": 40.0}, status="done")
    study = SimpleNamespace(quality="val_rmse", objectives=[SimpleNamespace(metric="params")])
    assert _numbers(candidate, study) == "val_rmse 54.21, 1.500 ms"
