"""What a table of zero-cost proxies reads off, and what it keeps."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from nasbench.evaluators.proxies import Probe, scores
from nasbench.evaluators.proxies.aggregate import log_rank_sum, vote
from nasbench.reproduce import zero_cost_rows
from nasbench.reproduce.reproduce import reproduce
from nasbench.reproduce.zero_cost_rows import cell_scores, proxy_method
from nasbench.tables.minibatches import load_minibatch
from nasbench.tables.paper_table import PaperTable, load_paper_table
from nasbench.tables.zero_cost import load_published_proxies
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

DATASET = "imagenet16_120"
NAMES = ("params", "macs", "jacov")
CELLS = 5


def small_table(**changes):
    data = {
        "name": "small",
        "title": "few cells",
        "paper": "none",
        "table": "none",
        "benchmark": "nasbench201",
        "seeds": 1,
        "protocol": {"kind": "zero_cost_ranking", "datasets": [DATASET], "cells": CELLS, "images": 4, "text": "few"},
        "columns": [
            {"name": shows, "search": DATASET, "shows": shows}
            for shows in ("spearman", "kendall", "published", "seconds")
        ],
        "rows": [
            *({"name": name, "method": {"name": "proxy", "proxy": name}} for name in NAMES),
            {"name": "sum", "method": {"name": "log_rank_sum", "proxies": ["jacov", "params"]}},
            {"name": "vote", "method": {"name": "vote", "proxies": list(NAMES)}},
            {"name": "absent", "reason": "there is none"},
        ],
    }
    return PaperTable.model_validate(data | changes)


@pytest.fixture
def data(data_file, table):
    for file in ("minibatches/imagenet.safetensors", "zero_cost/nb201_ImageNet16-120_zc_proxies.csv.gz"):
        data_file(file)
    return table


@pytest.fixture
def scored(monkeypatch):
    """The names of proxies that are computed, a tuple for each network."""
    computed = []
    original = zero_cost_rows.timed_scores

    def timed_scores(names, probe):
        computed.append(tuple(names))
        return original(names, probe)

    monkeypatch.setattr(zero_cost_rows, "timed_scores", timed_scores)
    return computed


def test_correlations_are_those_of_the_scores_and_a_later_call_goes_on(data, scored, tmp_path):
    small = small_table()
    result = reproduce(small, keep=tmp_path)
    assert scored == [NAMES] * CELLS and result.seeds == CELLS
    space, sample = get_space("nasbench201"), np.random.default_rng(0).permutation(len(data))[:CELLS].tolist()
    images, labels = load_minibatch(DATASET)
    probes = [
        Probe(fresh_model(space, data.architectures[cell], Task((3, 16, 16), 120), 0), images[:4], labels[:4])
        for cell in sample
    ]
    columns = {name: [scores([name], probe)[name] for probe in probes] for name in NAMES}
    columns |= {"sum": log_rank_sum([columns["jacov"], columns["params"]])}
    columns |= {"vote": vote([columns[name] for name in NAMES])}
    accuracy = data.column(dataset=DATASET, split="test", epochs=200)[sample]
    measured = {(entry.row, entry.column): entry for entry in result.entries}
    for name, values in columns.items():
        assert measured[name, "spearman"].measured == pytest.approx(spearmanr(values, accuracy).statistic)
        assert measured[name, "kendall"].measured == pytest.approx(kendalltau(values, accuracy).statistic)
        assert measured[name, "seconds"].measured > 0
    assert measured["sum", "seconds"].measured == pytest.approx(
        measured["jacov", "seconds"].measured + measured["params", "seconds"].measured
    )
    assert measured["absent", "spearman"].measured is None and measured["absent", "spearman"].reason
    published = set(load_published_proxies(DATASET).architectures)
    count = sum(data.architectures[cell] in published for cell in sample)
    assert measured["params", "published"].n == count
    assert measured["params", "published"].measured == (pytest.approx(1) if count >= 3 else None)
    assert measured["sum", "published"].measured is None, "no aggregate was published"

    # A run that ended early, and one that asks for another proxy: only what is missing is computed.
    (folder,) = tmp_path.iterdir()
    (folder / f"{sample[2]}.json").unlink()
    scored.clear()
    again = reproduce(small, keep=tmp_path)
    assert scored == [NAMES]
    assert [entry.measured for entry in again.entries if entry.column != "seconds"] == [
        entry.measured for entry in result.entries if entry.column != "seconds"
    ]
    scored.clear()
    more = small_table(rows=[{"name": "snip", "method": {"name": "proxy", "proxy": "snip"}}])
    reproduce(more, keep=tmp_path, cells=3)
    assert scored == [("snip",)] * 3
    (folder / f"{sample[0]}.json").write_text("{")
    with pytest.raises(UserError, match="delete it, and the cell is looked at again"):
        reproduce(small, keep=tmp_path)


def test_scores_of_a_proxy_from_before_it_changed_are_not_read(data, tmp_path, monkeypatch):
    monkeypatch.setattr("nasbench.reproduce.zero_cost_rows.VERSION", 0)
    cell_scores(small_table(), 7, ["params"], tmp_path)
    monkeypatch.undo()
    cell_scores(small_table(), 7, ["params"], tmp_path)
    assert len(list(tmp_path.glob("*/7.json"))) == 2


def test_what_is_not_allowed_costs_one_sentence():
    table = load_paper_table("zero-cost-nasbench201")
    with pytest.raises(UserError, match="searches nothing, so it has no seeds; give --cells"):
        reproduce(table, seeds=3)
    for method, words in (
        ({"name": "proxy", "proxy": "jacv"}, "Did you mean 'jacov'"),
        ({"name": "log_rank_sum", "proxy": "jacov"}, "unknown option 'proxy'"),
        ({"name": "votes", "proxies": ["jacov"]}, "Did you mean 'vote'"),
    ):
        with pytest.raises(UserError, match=words):
            proxy_method(method)
    with pytest.raises(UserError, match="takes no sample of cells"):
        reproduce(load_paper_table("hw-nas-bench"), cells=3)


@pytest.mark.parametrize("cells", ["2", "few", "-1"])
def test_the_number_of_cells(nasbench, cells):
    code, _, err = nasbench("reproduce", "zero-cost-nasbench201", f"--cells={cells}")
    assert code == 2 and f"--cells is '{cells}'; give a number from 3 on, or all" in err
