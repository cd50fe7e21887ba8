"""The examples of the documentation over several seeds."""

import json

import pytest


def test_float_and_int8_are_compared_seed_by_seed(benchmark, monkeypatch):
    from dataclasses import replace

    from benchmarks import task_runs

    quick = replace(task_runs.EXAMPLES["diabetes"], candidates=1, recipe=task_runs.EXAMPLES["diabetes"].recipe[-1:])
    monkeypatch.setitem(task_runs.EXAMPLES, "diabetes", quick)
    code, out, _ = benchmark("tasks", "diabetes", "--seeds", "2", "--json")
    assert code == 0
    rows = {row["metric"]: row for row in json.loads(out)}
    assert set(rows) == {"test_rmse", "test_mae", "test_r2"}
    for row in rows.values():
        float_values, int8_values = row["float"], row["int8"]
        assert len(float_values) == len(int8_values) == 2 and float_values[0] != float_values[1]
        assert row["difference"]["mean"] == pytest.approx(sum(int8_values) / 2 - sum(float_values) / 2)


def test_an_example_that_is_not_there(benchmark):
    code, _, err = benchmark("tasks", "digit")
    assert code == 2 and "Did you mean 'digits'?" in err
