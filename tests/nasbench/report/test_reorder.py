"""Whether networks keep their order when they are compressed."""

import html
import json

import pytest
from joint_table_support import RECIPE, SPACE, joint_table

from nasbench.experiment.build import prepare
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.run import run_search
from nasbench.experiment.stored import start_run
from nasbench.report.reorder import Deployed, deployed_in_table, in_words, reorder
from nasbench.storage.run_folder import RunFolder
from nasbench.tables.built import BuiltTable
from nasbench_registry import UserError


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return joint_table(tmp_path_factory.mktemp("table") / "formulas.parquet")


def test_recipes_in_words():
    assert in_words([{"compile": {"backend": "openvino"}}]) == ("none", "openvino")
    steps = [{"prune": {"ratio": 0.5, "epochs": 1}}, {"quantize": {"precision": "int8"}}]
    assert in_words(steps) == ("prune ratio=0.5 epochs=1, quantize precision=int8", "device")


def test_the_recipe_that_turns_the_order_around_is_told(table):
    result = reorder(deployed_in_table(table))
    assert result["networks"] == 36 and len(result["rows"]) == 12
    for row in result["rows"]:
        turned = "int4" in row["recipe"]
        assert row["quality"]["correlation"] == pytest.approx(-1 if turned else 1)
        assert row["quality"]["order"] == ("other order" if turned else "same order")
        assert row["latency"]["correlation"] == pytest.approx(1), "latency is proportional to MACs there"
    assert "4 of 12 recipes and backends put networks in another order" in result["statement"]
    assert "search networks and recipes together" in result["statement"]


def test_where_nothing_changes_a_joint_search_wins_by_cost_alone(table):
    kept = [deployed for deployed in deployed_in_table(table) if "int4" not in deployed.recipe]
    assert "not by what it finds" in reorder(kept)["statement"]


def test_too_few_networks_say_nothing():
    few = [Deployed(str(n), "none", "device", float(n), float(n), 1.0 + n, 2.0 + n) for n in range(4)]
    result = reorder(few)
    assert result["rows"] == [] and "nothing can be said" in result["statement"]
    flat = [Deployed(str(n), "none", "device", 1.0, float(n), 1.0 + n, None) for n in range(8)]
    assert reorder(flat)["rows"][0]["quality"] is None, "all are equal before"
    assert reorder(flat)["rows"][0]["latency"] is None


def test_a_table_without_recipes_is_refused(table):
    with pytest.raises(UserError, match="nothing changes order"):
        deployed_in_table(BuiltTable(table.path, {**table.card, "recipe": []}, table.rows))


def test_the_command_prints_one_document(table, capsys):
    from nasbench.cli.reorder import reorder as command

    command(table.path, json=True)
    assert json.loads(capsys.readouterr().out)["networks"] == 36


def test_the_report_and_the_command_say_the_same_of_a_joint_search(table, tmp_path, capsys):
    config = {
        "name": "formulas",
        "space": SPACE,
        "recipe": RECIPE,
        "controller": "random",
        "evaluator": {"name": "tabular", "table": str(table.path)},
        "objectives": {"val_acc_pct": "max", "latency_ms": "min", "size_bytes": "min"},
        "reward": "pareto",
        "search": {"candidates": 150},
        "executor": "inline",
        "tensorboard": False,
    }
    experiment, run = Experiment.model_validate(config), RunFolder(tmp_path / "run")
    start_run(run, experiment, tmp_path, "")
    with run.locked():
        result = run_search(prepare(experiment), run)["reorder"]
    assert result["rows"] and result["statement"] in html.unescape(run.report_html.read_text())
    from nasbench.cli.reorder import reorder as command

    command(run.path, json=True)
    assert json.loads(capsys.readouterr().out)["statement"] == result["statement"]
