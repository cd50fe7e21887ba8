"""benchmarks.spaces: every operation of every space is timed."""

import json

from search_spaces import SPACES


def test_every_operation_of_every_space_is_measured(benchmark):
    code, out, _ = benchmark("spaces", "--archs", "200", "--rounds", "1", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["space"] for row in rows] == list(SPACES)
    operations = {"sample", "mutate", "crossover", "canonical", "one_hot", "format", "parse"}
    assert all(set(row["per_second"]) == operations and min(row["per_second"].values()) > 0 for row in rows)
    assert all(row["archs"] == 200 and row["sample_and_encode_s"] > 0 for row in rows)


def test_a_mistake_costs_one_sentence(benchmark):
    code, _, err = benchmark("spaces", "mobil")
    assert (code, "Traceback" in err) == (2, False)
    assert "Did you mean 'mobile'?" in err
