"""A search on a table pays what the rows cost when they were measured."""

from dataclasses import replace

import pytest
from joint_table_support import RECIPE_S, TRAINING_S, joint_table, space

from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.replayed import Replayed
from nasbench.evaluators.trial import Trial


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return joint_table(tmp_path_factory.mktemp("table") / "formulas.parquet")


def replayed_rows(table, count, **statuses):
    """The outcomes of the first rows, all of one network, with other statuses for some of them."""
    rows = table.rows.copy()
    for row, status in statuses.items():
        rows.loc[int(row.removeprefix("row")), ["status", "error"]] = [status, "as it was then"]
    evaluator = Replayed(space(), table=replace(table, rows=rows))
    archs = [evaluator.space.architecture(list(map(int, picks))) for picks in rows["picks"].head(count)]
    return [evaluate(evaluator, Trial(number, arch, None, 0)) for number, arch in enumerate(archs)]


def test_a_network_is_trained_for_its_first_candidate_and_cached_for_the_others(table):
    first, *others = replayed_rows(table, 4)
    assert (first.cached, first.training_seconds, first.simulated_s) == (False, TRAINING_S, TRAINING_S + RECIPE_S)
    assert {(other.cached, other.training_seconds, other.simulated_s) for other in others} == {(True, 0.0, RECIPE_S)}


@pytest.mark.parametrize(("status", "outcome"), [("diverged", "invalid"), ("infeasible", "infeasible")])
def test_a_row_that_failed_costs_what_it_cost_when_the_table_was_built(table, status, outcome):
    first, second = replayed_rows(table, 2, row0=status)
    assert first.status == outcome and "as it was then" in first.error
    assert (first.training_seconds, first.simulated_s) == (TRAINING_S, TRAINING_S + RECIPE_S)
    assert (second.status, second.simulated_s) == ("done", RECIPE_S)
