"""What searches of a table that was built here cover, and when."""

from pathlib import Path

import numpy as np
import pytest
from joint_table_support import RECIPE_S, TRAINING_S, joint_table

from nasbench.report.paper_page import write_paper_page
from nasbench.reproduce.replay_rows import Covered, covered, ground, replay_method
from nasbench.reproduce.reproduce import reproduce
from nasbench.tables.built import read_table
from nasbench.tables.paper_table import load_paper_table
from nasbench.tables.protocols import Regime
from nasbench_registry import UserError

OBJECTIVES = ("val_acc_pct", "latency_ms", "size_bytes")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return joint_table(tmp_path_factory.mktemp("table") / "formulas.parquet", leave_out=4)


def rows_of_regime(table, budget_share=0.2, **regime):
    return ground(str(table.path), Regime(**regime), OBJECTIVES, "wall", budget_share)


def test_area_and_time_by_hand():
    held = Covered(np.array([2.0, 4.0, 6.0, 11.0]), np.array([0.1, 0.5, 0.96, 1.0]), 10.0)
    assert held.area == pytest.approx((2 * 0.1 + 2 * 0.5 + 4 * 0.96) / 10)
    assert held.at(0.5) == 0.5 and held.at(0.1) == 0 and held.at(1.0) == 0.96
    assert held.until(0.95) == 0.6 and held.until(0.99) == 1.0


def test_the_budget_is_a_share_of_what_the_table_cost_and_the_front_is_that_of_the_regime(table):
    whole = rows_of_regime(table, budget_share=1.0)
    assert whole.budget_s == pytest.approx(32 * TRAINING_S + 32 * 12 * RECIPE_S)
    assert np.nanmax(whole.points) == 1 and np.nanmin(whole.points) == 0
    few = rows_of_regime(table, recipes=("precision=int4",), limits={"val_acc_pct": 0.25})
    counted = ~np.isnan(few.points).any(axis=1)
    assert counted.any() and all("int4" in text for text in table.rows["recipe"][counted])
    limit = table.rows["val_acc_pct"].quantile(0.25)
    assert (table.rows["val_acc_pct"][counted] >= limit).all()


def test_a_random_search_with_time_for_everything_covers_the_front(table):
    held = covered(
        rows_of_regime(table, budget_share=1.0), replay_method({"name": "search", "controller": "random"}), 0, "wall"
    )
    assert held.shares[-1] == pytest.approx(1)
    assert held.ended_s[-1] == pytest.approx(32 * TRAINING_S + 32 * 12 * RECIPE_S), "each training is paid for once"
    assert (np.diff(held.shares) >= 0).all()


@pytest.mark.parametrize("keep", ["front", "best"])
def test_the_first_stage_of_a_sequential_search_knows_no_limits(table, keep):
    options = {"architectures": 6, "keep": keep}
    regime_rows = rows_of_regime(table, recipes=("precision=int4",))
    held = covered(
        regime_rows, replay_method({"name": "search", "controller": "sequential", "options": options}), 0, "wall"
    )
    assert held.shares[-1] > 0, "uncompressed networks do not count, and what becomes of them does"


def test_cost_aware_trains_fewer_networks_than_random_and_covers_more(table):
    regime_rows = rows_of_regime(table)
    methods = ({"controller": "cost_aware", "options": {"pool": 60}}, {"controller": "random"})
    areas = [
        [covered(regime_rows, replay_method({"name": "search", **m}), s, "wall").area for s in range(3)]
        for m in methods
    ]
    assert np.mean(areas[0]) > np.mean(areas[1])


def test_methods_that_are_not_allowed():
    with pytest.raises(UserError, match="takes one score"):
        replay_method({"name": "search", "controller": "bayesian"})


def test_the_table_of_the_paper_goes_on_from_what_is_kept(table, tmp_path):
    paper_table = load_paper_table("joint-table")
    # Recipes are written as in this table, which has no step of its own for mixed precision.
    int8 = Regime(recipes=("precision=fp32", "precision=int8"), limits={"val_acc_pct": 0.25})
    regimes = paper_table.protocol.regimes | {"int8_loose": int8}
    changes = {"file": str(table.path), "seconds": "wall", "regimes": regimes}
    protocol = paper_table.protocol.model_copy(update=changes)
    small = paper_table.model_copy(update={"protocol": protocol})
    rows = small.select(["random", "sequential, best"])
    first = reproduce(small, seeds=2, rows=rows, keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * 2 * 3
    again = reproduce(small, seeds=2, rows=rows, keep=tmp_path)
    assert [entry.measured for entry in first.entries] == pytest.approx([entry.measured for entry in again.entries])
    assert all(0 <= entry.measured <= 1 for entry in first.entries)
    curve = first.curves["random", "tight_area"]
    assert curve.x[0] == 0 and curve.x[-1] == 1 and (np.diff(curve.mean) >= 0).all()
    write_paper_page(first, tmp_path / "page.html", "nasbench reproduce joint-table")
    page = (tmp_path / "page.html").read_text()
    assert "tight: mean share of the front over the budget" in page
    notes = {entry.column: entry.note for entry in first.entries if entry.row == "random" and entry.note is not None}
    # A search of the sample may cover nothing of one regime's front, and then there is no ratio; hardly one of all.
    assert notes and all("has" in note and "times as much" in note for note in notes.values())


def test_a_table_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paper_table = load_paper_table("joint-table")
    assert "build it with nasbench build-table" in paper_table.protocol.why_unavailable()


def test_no_recipe_counts_in_the_regime_of_int8_and_in_that_of_fewer_bits():
    protocol = load_paper_table("joint-table").protocol
    recipes = set(read_table(Path(__file__).parents[3] / protocol.file).rows["recipe"])
    counted = {
        name: {recipe for recipe in recipes if any(word in recipe for word in protocol.regimes[name].recipes)}
        for name in ("int8_loose", "four_bits")
    }
    assert not counted["int8_loose"] & counted["four_bits"], "mixed precision has four bits"
    assert counted["int8_loose"] | counted["four_bits"] == recipes
