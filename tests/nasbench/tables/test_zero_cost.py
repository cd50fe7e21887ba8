"""Published proxies as features and as a warm start of a search."""

import itertools

import numpy as np
import pytest
from scipy.stats import rankdata

from nasbench.reproduce.reproduce import reproduce
from nasbench.tables import load_table
from nasbench.tables.paper_table import load_paper_table
from nasbench.tables.zero_cost import best_published, load_published_proxies, published_features
from nasbench_registry import UserError
from search_spaces import Architecture
from search_spaces.nasbench201 import NASBench201

SPACE = NASBench201()
NAMES = ("jacov", "params")


@pytest.fixture
def published(data_file):
    data_file("zero_cost/nb201_zc_proxies.csv.gz")
    return load_published_proxies("cifar10")


def test_features_are_ranks_from_zero_to_one_equal_for_equal_networks(published):
    features = published_features("cifar10", NAMES, SPACE)
    archs = [SPACE.canonical(arch) for arch in published.architectures[::1000]]
    columns = features(archs)
    assert columns.shape == (len(archs), 2) and columns.min() > 0 and columns.max() <= 1
    assert np.array_equal(columns, published_features("cifar100", NAMES, SPACE)(archs)), "those of CIFAR-10 stand in"
    top = published.architectures[int(published.scores["params"].argmax())]
    assert features([top])[0, 1] == pytest.approx(rankdata(published.scores["params"]).max() / 9445)
    with pytest.raises(UserError, match="Did you mean 'jacov'"):
        published_features("cifar10", ["jacovv"], SPACE)


def test_every_cell_has_the_scores_of_one_that_computes_the_same(published):
    """177 networks that reach the output hold an operation on nothing, and were scored without it."""
    features = published_features("cifar10", NAMES, SPACE)
    every = [Architecture(SPACE.name, picks) for picks in itertools.product(range(5), repeat=6)]
    assert features(every).min() > 0
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    unused = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
    scored = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|")
    assert scored in published.architectures
    for cell in (dead, unused):
        assert np.array_equal(features([SPACE.parse(cell)]), features([scored]))


def test_a_warm_start_is_the_best_of_a_sample_by_published_ranks(published):
    best = best_published("cifar10", NAMES, SPACE, sample=60, best=5, seed=3)
    assert best == best_published("cifar10", NAMES, SPACE, sample=60, best=5, seed=3)
    rng = np.random.default_rng(3)
    drawn = list(dict.fromkeys(SPACE.canonical(SPACE.sample(rng)) for _ in range(60)))
    columns = published_features("cifar10", NAMES, SPACE)(drawn)
    total = sum(np.log(rankdata(column)) for column in columns.T)
    places = [drawn.index(arch) for arch in best]
    assert len(set(places)) == 5 and [total[place] for place in places] == sorted(total)[::-1][:5]


def test_cells_of_a_warm_start_are_the_first_queries_of_a_row(published, data_file):
    """With as many queries as cells of the warm start, the row is the best of these by validation accuracy."""
    data_file("nasbench201/nasbench201.csv.gz")
    benchmark, table = load_table("nasbench201"), load_paper_table("nasbench201-20-queries")
    columns = tuple(column for column in table.columns if column.name == "q10_cifar10_test_acc_pct")
    (row,) = table.select(["bayesian + warm start + proxies"])
    assert row.warm_start is not None and row.warm_start.best == 10 and row.features
    (entry,) = reproduce(table.model_copy(update={"columns": columns}), seeds=1, rows=[row]).entries
    first = best_published("cifar10", row.warm_start.proxies, SPACE, sample=30000, best=10, seed=0)
    rows = [benchmark.row(arch) for arch in first]
    val = benchmark.column(dataset="cifar10", split="val", epochs=12)
    test = benchmark.column(dataset="cifar10", split="test", epochs=200)
    assert entry.measured == pytest.approx(test[max(rows, key=lambda cell: val[cell])])
