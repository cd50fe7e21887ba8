"""Tables of papers: the files, the reading-off, the numbers, and how they are shown."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import nasbench as nb
from controllers import get_controller
from nasbench.evaluators.tabular import Tabular
from nasbench.report.paper_page import curve_figure
from nasbench.reproduce.reproduce import incumbents, queries, read_off, reproduce
from nasbench.reproduce.simulate import Trace, simulate
from nasbench.tables.paper_table import TRUST, PaperTable, load_paper_table, table_files
from nasbench_registry import UserError
from search_spaces import get_space

ROOT = Path(__file__).parents[3]
KEYS = {"row", "column", "paper", "paper_std", "source", "trust", "measured", "std", "n", "seconds"}
NAMES = {"nats-bench-tss", "nasbench201-table5", "nasbench201-queries", "nasbench201-20-queries", "mls-bench"}
TSS = "nats-bench-tss"


def trace(rows, scores, ended=(), full=()):
    ended = ended or range(1, 1 + len(rows))
    full = full or [True] * len(rows)
    return Trace(np.array(rows), np.array(scores, dtype=float), np.array(ended, dtype=float), np.array(full))


def example(**changes):
    """The example of the documentation, with changes."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/tables.md").read_text(), flags=re.DOTALL)
    return {"name": "example", **yaml.safe_load(text), **changes}


# ---- reading off


def test_the_best_so_far_is_the_first_of_equals_and_of_full_fidelity():
    assert incumbents(trace([7, 8, 9, 6], [1, 3, 3, 2])).tolist() == [7, 8, 8, 8]
    assert incumbents(trace([7, 8, 9], [1, 5, 2], full=[True, False, True])).tolist() == [7, 7, 9]
    assert incumbents(trace([7], [-3.0])).tolist() == [7]


def test_queries_are_different_rows():
    assert queries(trace([4, 4, 2, 4, 0], [0] * 5)).tolist() == [1, 1, 2, 2, 3]


def test_the_end_of_the_budget_is_read_between_two_trials():
    ended, values = np.array([10.0, 20.0, 40.0]), np.array([50.0, 60.0, 90.0])
    assert read_off(ended, values, 30, exact=True) == 75
    assert read_off(ended, values, 30, exact=False) == 60
    assert read_off(ended, values, 20, exact=True) == read_off(ended, values, 20, exact=False) == 60
    assert read_off(ended, values, 5, exact=True) == read_off(ended, values, 5, exact=False) == 50


# ---- the files


def test_every_table_of_the_project_is_sound_and_every_number_has_a_source_and_a_trust_mark():
    assert set(table_files()) >= NAMES
    for name in NAMES:
        table = load_paper_table(name)
        assert table.name == name
        assert any(row.controller for row in table.rows)
        assert all(bool(row.controller) != bool(row.reason) for row in table.rows), "a row is run or says why not"
        for row in table.rows:
            for value in row.published.values():
                assert value.trust in TRUST and table.sources[value.source]
        for row in table.rows:
            if row.controller and row.controller["name"] == "bohb":
                assert "1 epoch" in str(row.deviation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, "there is no key 'seed'"),
        ({"title": None}, "the key 'title' is missing"),
        ({"benchmark": "nasbench_201"}, "Did you mean 'nasbench201'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"protocol": {"kind": "best_of_queries", "text": "few"}}, "budget_s belongs to the protocol time_budget"),
        (
            {"columns": [{"name": "cifar100_test_acc_pct", "search": "cifar100", "budget_s": 1, "queries": 3}]},
            "queries go with the protocol best_of_queries",
        ),
        ({"columns": []}, "columns is"),
        ({"columns": [{"name": "x_pct", "search": "cifar"}]}, "unknown data set 'cifar'"),
        ({"columns": [{"name": "x_pct", "search": "cifar10"}]}, "budget_s belongs to the protocol time_budget"),
        ({"rows": [{"name": "a"}]}, "needs either a controller or a reason"),
        ({"rows": [{"name": "a", "reason": "b", "controller": {"name": "random"}}]}, "either a controller or a reason"),
        ({"rows": [{"name": "a", "controller": {"population": 3}}]}, "controller of row 'a' has no name"),
        ({"rows": [{"name": "a", "reason": "b"}] * 2}, "two rows have the same name"),
        ({"sources": {}}, "unknown source 'printed'"),
    ],
)
def test_a_wrong_file_costs_one_sentence(tmp_path, changes, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in example(**changes).items() if value is not None}))
    with pytest.raises(UserError, match=message) as caught:
        load_paper_table(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_published_number_needs_a_trust_mark(tmp_path):
    data = example()
    del data["rows"][0]["published"]["cifar100_test_acc_pct"]["trust"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=r"published\.cifar100_test_acc_pct\.trust' is missing"):
        load_paper_table(str(path))


# ---- the numbers

GOLDEN = {
    ("REA", "cifar10_test_acc_pct"): (93.9266666667, 0.0188561808),
    ("REA", "cifar100_test_acc_pct"): (71.7555556667, 0.6265561833),
    ("REA", "imagenet16_120_test_acc_pct"): (45.1333336667, 0.1699673171),
    ("RANDOM", "cifar10_test_acc_pct"): (93.6611110000, 0.0643102530),
    ("RANDOM", "cifar100_test_acc_pct"): (70.3711110000, 0.1102633906),
    ("RANDOM", "imagenet16_120_test_acc_pct"): (44.0222223333, 1.0528031741),
}


@pytest.mark.fixed_seeds
def test_golden_searches(table):
    """A search is decided by its seed; if an algorithm is changed on purpose, these numbers change with it."""
    paper_table = load_paper_table(TSS)
    result = reproduce(paper_table, seeds=3, rows=paper_table.select(["REA", "RANDOM"]))
    measured = {(cell.row, cell.column): (cell.measured, cell.std) for cell in result.entries}
    assert set(measured) == set(GOLDEN)
    for key, value in GOLDEN.items():
        assert measured[key] == pytest.approx(value, abs=1e-9)


@pytest.mark.slow
def test_workers_do_not_change_the_numbers_and_seeds_are_independent(table):
    paper_table = load_paper_table("nasbench201-table5")
    rows = paper_table.select(["REA", "RS"])

    def numbers(result):
        return [(cell.row, cell.column, cell.measured, cell.std, cell.n) for cell in result.entries]

    one, two = reproduce(paper_table, seeds=5, rows=rows), reproduce(paper_table, seeds=5, rows=rows, workers=2)
    assert numbers(one) == numbers(two)
    for key, curve in one.curves.items():
        assert np.array_equal(curve.mean, two.curves[key].mean)
    by_seed = [reproduce(paper_table, seeds=n, rows=rows[:1]) for n in (1, 2, 3)]
    sums = [result.entries[0].measured * n for n, result in enumerate(by_seed, start=1)]
    assert sums[2] == pytest.approx(sum(np.diff([0.0, *sums])), abs=1e-9)
    # Two searches may end in one cell; they do not go there by one way. A curve begins where all seeds have a cell.
    curves = [next(iter(result.curves.values())).mean for result in by_seed]
    shared = min(map(len, curves))
    ways = np.diff([curve[-shared:] * n for n, curve in enumerate(curves, start=1)], axis=0)
    assert len({tuple(np.round(way, 6)) for way in (curves[0][-shared:], *ways)}) == 3, "each seed is another search"


@pytest.mark.slow
def test_evolution_and_random_search_measure_what_the_paper_prints(table):
    """Thirty searches; five standard errors of the difference between their mean and the paper's of 500."""
    paper_table = load_paper_table(TSS)
    progress = []
    result = reproduce(
        paper_table,
        seeds=30,
        rows=paper_table.select(["REA", "RANDOM"]),
        workers=2,
        on_progress=lambda row, done, total: progress.append((done, total)),
    )
    assert len(result.entries) == 6
    for cell in result.entries:
        error = math.sqrt(cell.std**2 / 30 + cell.paper_std**2 / 500)
        assert abs(cell.measured - cell.paper) < 5 * error, cell
        assert cell.difference_se == pytest.approx((cell.measured - cell.paper) / error)
        assert cell.n == 30 and cell.seconds > 0
    rea, random = (np.mean([c.measured for c in result.entries if c.row == name]) for name in ("REA", "RANDOM"))
    # The paper's 500 searches say that it is 0.663 with a standard error of 0.136 here: one in a million is below 0.
    assert rea > random
    assert progress[-1] == (180, 180) and sorted(progress) == progress
    for (_, column), curve in result.curves.items():
        assert (np.diff(curve.x) > 0).all() and (curve.low <= curve.high).all()
        assert curve.mean[-1] <= result.optima[column]


@pytest.mark.slow
def test_random_search_needs_half_of_the_space_to_find_the_best_cell(table):
    """Without repeats the best one is anywhere: uniform from 1 to 15,625, with this mean and deviation."""
    paper_table = load_paper_table("nasbench201-queries")
    result = reproduce(paper_table, seeds=6, rows=paper_table.select(["random"]), workers=2)
    values = [cell.measured for cell in result.entries]
    deviation = 15_625 / math.sqrt(12) / math.sqrt(6)
    assert all(abs(value - 15_626 / 2) < 4.5 * deviation for value in values)
    assert all(cell.stopped == 0 for cell in result.entries)
    assert all(cell.measured <= cell.p95 or cell.std == 0 for cell in result.entries)


def test_a_search_from_python_is_the_one_of_the_table(table, tmp_path):
    """The same cells in the same order, scores and seconds, to the last digit, for a controller that learns."""
    budget_s, options = 4000.0, {"population": 10, "tournament": 3}
    evaluator = Tabular(get_space("nasbench201", mutation="node"), table="nasbench201", dataset="cifar100")
    controller = get_controller("regularized_evolution", evaluator.space, seed=3, **options)
    expected = simulate(controller, evaluator, budget_s=budget_s)
    result = nb.search(
        {"name": "nasbench201", "mutation": "node"},
        evaluate={"name": "tabular", "table": "nasbench201", "dataset": "cifar100"},
        controller={"name": "regularized_evolution", **options},
        objectives={"val_acc_pct": "max"},
        candidates=10**6,
        budget={"max_hours": budget_s / 3600, "repeats": "evaluated"},
        folder=tmp_path / "run",
        seed=3,
        progress=False,
    )
    candidates = result.candidates
    assert len(candidates) == len(expected.rows) > 15
    assert candidates["val_acc_pct"].tolist() == expected.scores.tolist()
    parse = evaluator.space.parse
    assert [evaluator.oracle.row(parse(text)) for text in candidates["architecture"]] == expected.rows.tolist()


def test_a_search_that_is_stopped_is_reported_as_such(table):
    paper_table = load_paper_table("nasbench201-queries")
    row = paper_table.select(["random"])[0].model_copy(update={"max_queries": 5, "max_seeds": 3})
    result = reproduce(paper_table, seeds=9, rows=[row])
    for cell in result.entries:
        assert (cell.measured, cell.std, cell.n, cell.stopped, cell.difference_se) == (5, 0, 3, 3, None)
        assert cell.p95 == 5


def test_the_best_of_so_many_queries_is_read_off(table, tmp_path):
    """By hand: of the first different cells, the best by validation accuracy, and its test accuracy."""
    columns = [{"name": f"q{n}", "search": "cifar100", "queries": n, "read": "imagenet16_120"} for n in (3, 7)]
    data = example(protocol={"kind": "best_of_queries", "text": "few"}, columns=columns)
    data["rows"] = [{"name": "random", "controller": {"name": "random"}}]
    result = reproduce(PaperTable.model_validate(data), seeds=2)
    val = table.column(dataset="cifar100", split="val", epochs=12)
    test = table.column(dataset="imagenet16_120", split="test", epochs=200)
    expected = {"q3": [], "q7": []}
    for seed in range(2):
        controller, rows = get_controller("random", get_space("nasbench201"), seed=seed), []
        while len(rows) < 7:
            row = table.row(controller.ask().arch)
            rows += [row] if row not in rows else []
        for name, count in (("q3", 3), ("q7", 7)):
            expected[name].append(test[max(rows[:count], key=lambda row: val[row])])
    assert {cell.column: cell.measured for cell in result.entries} == {
        name: pytest.approx(np.mean(values)) for name, values in expected.items()
    }
    (curve, _) = result.curves.values()
    assert curve.x.tolist() == [1, 2, 3, 4, 5, 6, 7] and curve.mean[2] == pytest.approx(np.mean(expected["q3"]))
    figure = curve_figure(result, result.table.columns[0])
    assert figure.layout.xaxis.title.text == "different cells queried"


def test_a_row_without_data_has_a_reason_and_no_number(table):
    paper_table = load_paper_table(TSS)
    for cell in reproduce(paper_table, seeds=1, rows=paper_table.select(["RSPS", "GDAS"])).entries:
        assert cell.paper is not None and cell.reason
        assert (cell.measured, cell.std, cell.n, cell.seconds, cell.difference_se) == (None, None, 0, None, None)


def test_an_unknown_controller_stops_before_anything_runs(table):
    data = example(rows=[{"name": "a", "controller": {"name": "randon"}}])
    with pytest.raises(UserError, match="Did you mean 'random'"):
        reproduce(PaperTable.model_validate(data))
    data = example(rows=[{"name": "a", "controller": {"name": "random"}, "space": {"mutations": "node"}}])
    with pytest.raises(UserError, match="Did you mean 'mutation'"):
        reproduce(PaperTable.model_validate(data))


# ---- the command


def test_without_a_table_they_are_listed(nasbench):
    code, out, _ = nasbench("reproduce", "--json")
    assert code == 0 and {row["name"] for row in json.loads(out)} >= NAMES
    code, out, _ = nasbench("reproduce")
    assert code == 0 and "nats-bench-tss" in out
    code, out, _ = nasbench("list", "tables", "--json")
    assert code == 0 and all({"name", "summary", "source", "why_unavailable"} == set(row) for row in json.loads(out))


def test_what_programs_read(nasbench, table, tmp_path):
    words = ("--seeds", "2", "--workers", "1", "--rows", "REA,ENAS", "--json", "--csv", "t.csv", "--html", "t.html")
    code, out, err = nasbench("reproduce", TSS, *words)
    assert code == 0, err
    result = json.loads(out)
    assert result["table"] == TSS and result["seeds"] == 2 and result["protocol"]
    assert [(row["row"], row["column"]) for row in result["rows"]] == [
        (row, f"{dataset}_test_acc_pct")
        for row in ("REA", "ENAS")
        for dataset in ("cifar10", "cifar100", "imagenet16_120")
    ]
    for row in result["rows"]:
        assert set(row) >= KEYS and row["trust"] == "M" and row["source"]
        assert (row["measured"] is None) == (row["row"] == "ENAS") == bool(row["reason"])
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["measured"]) for row in rows[:3]] == [row["measured"] for row in result["rows"][:3]]
    assert rows[3]["measured"] == "" and rows[0]["table"] == TSS

    page = (tmp_path / "t.html").read_text()
    without_plotly = re.sub(r'<script id="plotly-js".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?http""", without_plotly)
    for text in ("93.76<sup>M</sup>", "from memory, not checked", "Not run: <b>ENAS</b>", "population=10", "--seeds 2"):
        assert text in page, text
    assert all(f'id="curve-{row["column"]}"' in page for row in result["rows"])


def test_what_people_read(nasbench, table):
    code, out, _ = nasbench(
        "reproduce", "nasbench201-table5", "--seeds", "2", "--workers", "1", "--rows", "RS,BOHB,GDAS"
    )
    assert code == 0
    words = " ".join(out.split())
    assert "93.70 ± 0.36 [V2]" in words and "[V2] read in another paper" in words
    assert "BOHB: The paper's BOHB starts trials at 1 epoch" in words and "not run: GDAS: trains a network" in words
    assert " SE)" in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nats-bench-ts"], "Did you mean 'nats-bench-tss'?"),
        ([TSS, "--rows", "REA,RSP"], "unknown row 'RSP' of table 'nats-bench-tss'; known: BOHB, "),
        (["nowhere.yaml"], "there is no file nowhere.yaml"),
        ([TSS, "--seeds", "1", "--workers", "1", "--rows", "ENAS", "--html", "/proc/none/t.html"], "cannot be written"),
    ],
)
def test_mistakes_cost_one_sentence(nasbench, table, words, message):
    code, _, err = nasbench("reproduce", *words)
    assert code == 2 and message in err and "Traceback" not in err


def test_without_data_the_command_says_how_to_get_them(nasbench, tmp_path, monkeypatch):
    from nasbench.tables.registry import load_table

    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_table.cache_clear()
    code, _, err = nasbench("reproduce", TSS)
    assert code == 2 and "run: nasbench data fetch nasbench201" in err


def test_the_documentation(table, capsys, tmp_path):
    text = (ROOT / "docs/tables.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(script, "docs/tables.md", "exec"), {})
    assert capsys.readouterr().out.startswith("73.5")
    result = reproduce(PaperTable.model_validate(example()), seeds=2)
    assert [cell.n for cell in result.entries] == [2, 2, 0]
    for name in NAMES:
        assert f"`{name}`" in text
