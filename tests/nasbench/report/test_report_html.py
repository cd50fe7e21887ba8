"""The HTML report: what stands on the page, what the figures draw, and what is missing without breaking either."""

import re
from html import escape, unescape
from itertools import pairwise

import pytest
import yaml
from report_samples import CELL, Page, latency, make_report, plots, render, trace

from nasbench.drawing.svg import svg
from nasbench.evaluators.outcomes import FAILURES
from nasbench.report import figures, units
from nasbench.report.curves import learning_curves
from nasbench.report.figures import BLUE
from nasbench.report.html import write_html
from nasbench.report.importance_bars import importance_bars
from nasbench.report.over_time import against_baseline, hypervolume_over_time
from nasbench.report.stage_bars import EAGER
from nasbench.storage.files import write_text
from search_spaces.diagram import Node, chain


@pytest.fixture
def report():
    return make_report()


def test_the_page_is_self_contained_and_escaped(report, tmp_path):
    source, page = render(report, tmp_path)
    assert page.loads == []
    assert re.search(r"@import|url\(", source.partition("<style>")[2].partition("</style>")[0]) is None
    assert source.count('<script id="plotly-js"') == 1
    assert source.count('"showSendToCloud": false') == len(plots(page)) == 13
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    for survivor in report["survivors"]:
        assert f"<code>{escape(survivor['architecture'])}</code>" in source
    assert "<wide>" not in source and "<v2>" not in source and "<device 0>" not in source
    assert CELL in page.text and "quickstart <v2>" in page.text


def test_the_drawings_of_the_survivors_stand_in_the_page(report, tmp_path):
    graph = chain("network", [Node("a", "image <1>", kind="input"), Node("b", "linear", "10", "output")])
    first, second, third = report["survivors"]
    for one in (first, second):
        one |= {"drawing": f"survivors/{one['rank']}/architecture.svg", "drawing_error": None}
        write_text(tmp_path / one["drawing"], svg([graph], title=f"Survivor {one['rank']}"))
    third |= {"drawing": None, "drawing_error": "ValueError: no <picture> today"}
    write_html(report, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.loads == []
    assert [tag for tag, _ in page.tags].count("svg") == 2
    assert page.text.count("image <1>") == 2 * 2  # shown, and told when pointed at
    opened = [attrs for tag, attrs in page.tags if tag == "details"]
    assert opened == [{"class": "drawing", "open": None}, {"class": "drawing"}]
    failed = f"survivor 3, candidate {third['candidate']} could not be drawn: ValueError: no <picture> today"
    assert f"The architecture of {failed}" in page.text
    (tmp_path / first["drawing"]).unlink()
    write_html(report, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags].count("svg") == 1


def test_the_sections_stand_in_order_with_all_their_plots(report, tmp_path):
    source, page = render(report, tmp_path)
    titles = [unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", source)]
    assert [title.split()[0] for title in titles] == [
        *("Survivors,", "Pareto", "Best", "What", "Learning", "What", "Latency", "Failures", "Cost", "How"),
    ]
    panels = [f"stages-{rank}-{measure}" for rank in (1, 2, 3) for measure in ("accuracy", "latency", "size")]
    assert plots(page) == ["front", "progress", "curves", *panels, "predictor"]


def test_the_summary_tells_measured_ratios(report, tmp_path):
    first, last = report["survivors"][0]["stages"][0], report["survivors"][0]["stages"][-1]
    first["metrics"] |= {"latency_ms": latency(1.5), "size_bytes": 100 * 1024, "test_acc_pct": 97.5}
    last["metrics"] |= {"latency_ms": latency(0.5, precision="int8"), "size_bytes": 40 * 1024, "test_acc_pct": 97.25}
    report["survivors"][0]["baseline"]["latency_ms"] = latency(6.0, runtime="eager")
    _, page = render(report, tmp_path)
    assert "97.50 % test accuracy, 1.50 ms, 100 KiB (onnxruntime, float32) as searched" in page.text
    assert "97.25 % test accuracy, 0.500 ms, 40.0 KiB (onnxruntime, int8) as compiled" in page.text
    assert "3.0 times faster, 2.5 times smaller, \N{MINUS SIGN}0.25 percentage points of accuracy" in page.text
    assert "eager PyTorch (6.00 ms) it is 12 times faster" in page.text
    assert "36 candidates (26 done, 2 out of memory, 1 timed out, 3 failed, 4 infeasible), 45 min of wall" in page.text
    assert "87 min of device time" in page.text
    assert "2.1e-06 petaflop/s-days" in page.text


def test_latencies_measured_differently_are_never_compared(report, tmp_path):
    stages = report["survivors"][0]["stages"]
    for one in stages[1:]:
        one["metrics"]["latency_ms"]["batch"] = 8
    _, page = render(report, tmp_path)
    summary = page.text.partition("The cost")[0]
    assert "times smaller" in summary and "faster" not in summary and "slower" not in summary


def test_the_summary_ends_at_the_last_accepted_stage(report, tmp_path):
    for one in report["survivors"][0]["stages"][3:]:
        one["accepted"] = False
    assert "as distilled: " in render(report, tmp_path)[1].text
    for one in report["survivors"][0]["stages"][1:]:
        one["accepted"] = False
    assert "as searched; no later stage was accepted." in render(report, tmp_path)[1].text


def test_a_search_that_asked_for_no_survivor_tells_its_front(report, tmp_path):
    report["experiment"]["survivors"], report["survivors"] = 0, []
    sentence = f"No survivor was asked for; {len(report['front'])} candidates are on the front."
    assert sentence in render(report, tmp_path)[1].text


def test_the_survivors_table_has_a_row_a_stage(report, tmp_path):
    source, page = render(report, tmp_path)
    rows = re.findall(r"<tr.*?</tr>", source.partition("<tbody>")[2].partition("</table>")[0], re.DOTALL)
    assert len(rows) == 3 + 2 + 15  # a heading each, two baselines, five stages each
    rejected = [row for row in rows if 'class="rejected"' in row]
    assert len(rejected) == 1 and "no: test accuracy fell by 4.42 points" in rejected[0]
    pruned = next(row for row in rows if row.startswith("<tr><td>pruned"))
    assert "<small>\N{MINUS SIGN}1.12</small>" in pruned and "<small>\N{MINUS SIGN}29 %</small>" in pruned
    assert page.text.count(EAGER) == 2


def test_the_front_line_has_exactly_the_front_sorted(report):
    figure = figures.pareto_front(report)
    line = trace(figure, "Pareto front")
    by_id = {one["id"]: one["metrics"] for one in report["candidates"]}
    expected = sorted((by_id[key]["latency_ms"], by_id[key]["val_acc_pct"]) for key in report["front"])
    assert list(zip(line.x, line.y, strict=True)) == expected
    assert line.mode == "lines+markers" and line.line.shape == "hv"
    assert all(low < high for low, high in pairwise(line.y))
    done = [one["metrics"] for one in report["candidates"] if one["status"] == "done"]
    assert list(trace(figure, "candidate").x) == [metrics["latency_ms"] for metrics in done]
    assert "&lt;wide&gt;&amp;co" in "".join(line.hovertext)
    marked = trace(figure, "survivor, by rank")
    assert dict(zip(marked.text, marked.x, strict=True)) == {
        str(one["rank"]): by_id[one["candidate"]]["latency_ms"] for one in report["survivors"]
    }


@pytest.mark.parametrize(("limit", "shown"), [(2.6, True), (25.0, False)])
def test_a_limit_is_a_line_unless_it_would_squeeze_the_front(report, limit, shown):
    report["experiment"]["objectives"][1]["limit"] = limit
    figure = figures.pareto_front(report)
    assert [shape.x0 for shape in figure.layout.shapes] == [limit] * shown
    assert len(trace(figure, "infeasible").x) == 4
    low, high = figure.layout.xaxis.range
    assert low < min(trace(figure, "candidate").x) and max(trace(figure, "candidate").x) < high < 5
    outside = "4 infeasible candidates" if shown else "limit 25.0, 4 infeasible candidates"
    assert f">outside this picture: {outside}<" in figure.layout.xaxis.title.text


def test_the_step_keeps_to_what_is_attainable_when_more_is_better(report):
    report["experiment"]["objectives"][1] = {"metric": "throughput_per_s", "goal": "max", "limit": None}
    for one in report["candidates"]:
        if "latency_ms" in one["metrics"]:
            one["metrics"]["throughput_per_s"] = 1000 / one["metrics"]["latency_ms"]
    line = trace(figures.pareto_front(report), "Pareto front")
    assert line.line.shape == "vh" and all(low > high for low, high in pairwise(line.y))


def test_three_objectives_are_not_joined(report, tmp_path):
    report["experiment"]["objectives"].append({"metric": "size_bytes", "goal": "min", "limit": None})
    assert trace(figures.pareto_front(report), "Pareto front").mode == "markers"
    assert "The front of all 3 objectives" in render(report, tmp_path)[1].text


def test_one_objective_is_shown_as_a_distribution(report, tmp_path):
    del report["experiment"]["objectives"][1]
    histogram = trace(figures.distribution(report), "candidates")
    assert len(histogram.x) == sum(one["status"] == "done" for one in report["candidates"])
    _, page = render(report, tmp_path)
    assert "objective" in plots(page) and "front" not in plots(page)


def test_progress_is_the_running_best_of_the_scores(report):
    figure = figures.best_so_far(report)
    done = sorted((one for one in report["candidates"] if one["status"] == "done"), key=lambda one: one["finished_s"])
    best = trace(figure, "best so far")
    assert best.line.shape == "hv" and len(best.y) == len(done) + 1
    assert best.y[0] == done[0]["scores"][0] and best.y[-1] == max(one["scores"][0] for one in done)
    assert all(low <= high for low, high in pairwise(best.y))
    assert best.x[0] == pytest.approx(done[0]["finished_s"] / 60)
    failed = trace(figure, "failed")
    assert len(failed.x) == 6 and max(failed.y) < min(one["scores"][0] for one in done)


def test_progress_of_a_pareto_reward_follows_the_first_maximised_objective(report):
    for one in report["candidates"]:
        if one["scores"]:
            one["scores"] = [one["metrics"]["val_acc_pct"], -one["metrics"]["latency_ms"]]
    figure = figures.best_so_far(report)
    done = [one["metrics"]["val_acc_pct"] for one in report["candidates"] if one["status"] == "done"]
    assert trace(figure, "best so far").y[-1] == max(done)
    assert figure.layout.yaxis.title.text == "validation accuracy, %"


def test_the_predictor_is_drawn_against_the_diagonal(report, tmp_path):
    predictor = report["predictor"]
    figure = figures.predictor(predictor)
    dots, diagonal = trace(figure, "held-out architecture"), trace(figure, "predicted = measured")
    assert list(dots.x) == predictor["measured_ms"] and list(dots.y) == predictor["predicted_ms"]
    assert list(diagonal.x) == list(diagonal.y) == list(figure.layout.xaxis.range) == list(figure.layout.yaxis.range)
    _, page = render(report, tmp_path)
    assert "Spearman rank correlation 0.962, median error 4.14 %, n = 40" in page.text
    assert "Held out: 40 random architectures <measured>" in page.text


def with_baseline(report, *, better=False):
    count = list(range(1, 37))
    return report | {
        "baseline": {
            **{"controller": "random", "measure": "score", "candidates": 36, "count": count, "better": better},
            **{"searches": 40, "coverage_pct": 95.1, "verdict": "better" if better else "no difference"},
            **{
                key: [at - 1 / n for n in count]
                for key, at in (("low", 90), ("mean", 91), ("high", 92), ("search", 93))
            },
            "statement": "evolution reached 93; random <search> reached 91: not better than chance allows.",
        }
    }


def test_the_baseline_is_a_band_and_a_statement_at_the_top(report, tmp_path):
    report = with_baseline(report)
    figure = against_baseline(report)
    band, mean = (trace(figure, f"random search, {kind}") for kind in ("95 %", "mean"))
    own = trace(figure, "this search")
    baseline = report["baseline"]
    assert list(band.y) == [*baseline["high"], *reversed(baseline["low"])] and list(band.x) == [
        *range(1, 37),
        *range(36, 0, -1),
    ]
    assert list(mean.y) == baseline["mean"]
    assert list(own.x) == list(range(1, 37)) and list(own.y) == baseline["search"]
    _, page = render(report, tmp_path)
    assert page.text.partition("Survivors, stage by stage")[0].count(baseline["statement"]) == 1
    assert "baseline" in plots(page)
    assert "baseline" not in plots(render(report | {"baseline": None}, tmp_path)[1])


def test_hypervolume_is_a_step_line_to_the_end_of_the_search(report, tmp_path):
    report["hypervolume"] = {"seconds": [10.0, 70.0], "values": [0.2, 0.5], "reference": {}, "ideal": {}}
    line = hypervolume_over_time(report).data[0]
    last = max(candidate["finished_s"] for candidate in report["candidates"]) / 60
    assert list(line.x) == pytest.approx([10 / 60, 70 / 60, last]) and list(line.y) == [0.2, 0.5, 0.5]
    assert line.line.shape == "hv" and "hypervolume" in plots(render(report, tmp_path)[1])
    assert not hypervolume_over_time(report | {"hypervolume": None}).data


def test_the_overview_tells_what_was_searched_and_ratios_with_intervals(report, tmp_path):
    report["space"] = {"architectures": 15_625, "recipes": 42}
    report["experiment"]["recipe"] = [{"prune": {"ratio": {"choice": [0, 0.5]}}}]
    last = report["survivors"][0]["stages"][-1]["metrics"]
    last["of_eager"] = {"ratio": 0.25, "low": 0.2, "high": 0.5}
    _, page = render(report, tmp_path)
    top = page.text.partition("Survivors, stage by stage")[0]
    assert "the space mobile (15,625 architectures x 42 recipes)" in top and "prune: ratio 0 | 0.5" in top
    assert "4.00\N{MULTIPLICATION SIGN} as fast as the network in eager PyTorch 95 % interval 2.00 to 5.00" in top
    assert "0.750 hours 1.44 device-hours, 2.1e-06 petaflop/s-days" in top
    last["of_eager"] = {"ratio": 1.25, "low": 1.2, "high": 1.3}
    assert "1.25\N{MULTIPLICATION SIGN} as slow as the network in eager" in render(report, tmp_path)[1].text


def test_importance_is_drawn_beside_chance_or_told(report, tmp_path):
    shares = {f"layer{n}": 1 / (n + 2) for n in range(14)}
    report["importance"] = {"val_acc_pct": shares, "latency_ms": "9 candidates are <too> few"}
    report["importance_by_chance"] = {"val_acc_pct": dict.fromkeys(shares, 0.3), "latency_ms": "9 candidates"}
    bars, limits = importance_bars(shares, report["importance_by_chance"]["val_acc_pct"], "accuracy").data
    assert list(bars.x) == sorted(shares.values())[-10:] and list(limits.x) == [0.3] * 10
    assert [color == BLUE for color in bars.marker.color] == [False] * 8 + [True, True]
    _, page = render(report, tmp_path)
    assert "importance-val_acc_pct" in plots(page) and "importance-latency_ms" not in plots(page)
    assert "Latency: 9 candidates are <too> few." in page.text
    report["importance_by_chance"]["val_acc_pct"] = dict.fromkeys(shares, 0.6)
    assert "no decision mattered more than chance" in render(report, tmp_path)[1].text


def test_failures_are_counted_by_kind(report, tmp_path):
    source, _ = render(report, tmp_path)
    section = re.sub(r">\s+<", "><", source.partition("<h2>Failures</h2>")[2].partition("</section>")[0])
    kinds, _, messages = section.partition("<h3>Messages</h3>")
    rows = re.findall(r"<tr><td>([^<]*)</td><td class=\"text\">[^<]*</td><td>(\d+)</td><td>([^<]*)</td>", kinds)
    dash = "\N{EN DASH}"
    assert rows == [
        ("out of memory", "2", "2"),
        ("timed out", "1", dash),
        ("failed", "3", dash),
        ("infeasible", "4", dash),
    ]
    message_rows = re.findall(r"<tr><td>([^<]*)</td><td>(\d+)</td><td class=\"text\">([^<]*)</td>", messages)
    # A candidate that was tried twice is named once, and its message counts twice.
    assert message_rows == [
        ("out of memory", "4", "5, 29"),
        ("failed", "2", "11, 35"),
        ("failed", "1", "23"),
        ("timed out", "1", "17"),
        ("infeasible", "4", "4, 18, 25, 32"),
    ]
    assert "&lt;device 0&gt;" in section and "no message" in section


def test_learning_curves_and_the_cost_are_told(report, tmp_path):
    report["candidates"][0] |= {"status": "stopped", "curve": {"4": 61.0, "8": 70.5}}
    figure = learning_curves(report)
    stopped, ends = trace(figure, "stopped early"), trace(figure, "stopped here")
    assert list(stopped.x) == [4, 8, None] and list(stopped.y) == [61.0, 70.5, None]
    assert (list(ends.x), list(ends.y)) == ([8], [70.5])
    assert len(trace(figure, "best candidate").x) == 4
    _, page = render(report, tmp_path)
    assert "utilization 82 % training / (2 workers x 42 min of search)" in page.text


def test_measured_latencies_stand_where_they_are_known(report, tmp_path):
    chosen = report["front"][0]
    one = next(candidate for candidate in report["candidates"] if candidate["id"] == chosen)
    predicted = one["metrics"]["latency_ms"]
    one["measured_latency_ms"] = latency(1.25 * predicted)
    report["predictor"]["chosen"] = [{"id": chosen, "predicted_ms": predicted, "measured_ms": 1.25 * predicted}]
    drawn = trace(figures.pareto_front(report), "Pareto front")
    assert any(x == pytest.approx(1.25 * predicted) for x in drawn.x)
    dot = trace(figures.predictor(report["predictor"]), "front and survivors")
    assert (dot.x[0], dot.y[0]) == (1.25 * predicted, predicted)
    _, page = render(report, tmp_path)
    assert "1 candidate on the front or among the survivors was measured" in page.text
    assert "median error of the predictions was 20.0 %" in page.text


def test_reproduction_holds_the_command_and_the_experiment(report, tmp_path):
    source, page = render(report, tmp_path)
    assert "nasbench search 'my experiments/quickstart.yaml' --seed 3" in page.text
    written = unescape(re.findall(r"<pre>(.*?)</pre>", source, flags=re.DOTALL)[-1])
    assert yaml.safe_load(written) == report["experiment"]
    assert re.search(r'<th scope="row">onnxruntime</th><td>1\.23\.0</td>', source)


def without(**parts):
    return lambda report: report.update(parts)


def only_failures(report):
    report["candidates"] = [one for one in report["candidates"] if one["status"] in FAILURES]
    report.update(front=[], survivors=[])


def not_numbers(report):
    for one in report["candidates"]:
        one["metrics"] = dict.fromkeys(one["metrics"], float("nan"))
        one["curve"] = dict.fromkeys(one["curve"], float("nan"))
        one["scores"] = [float("nan")] if one["scores"] else None
    for one in report["survivors"]:
        for stage in one["stages"]:
            stage["metrics"] = dict.fromkeys(stage["metrics"], None)
        one["baseline"] = None
    report["predictor"] |= {"spearman": float("nan"), "median_error_pct": None, "measured_ms": [None, float("inf")]}
    report["compute"] = dict.fromkeys(report["compute"])


@pytest.mark.parametrize(
    ("change", "sentences", "missing"),
    [
        (without(survivors=[]), ["Found no survivor yet.", "No survivor has been compressed yet."], "stages-"),
        (without(predictor=None), ["No latency predictor was used"], "predictor"),
        (
            without(candidates=[], front=[], survivors=[], outcomes=[]),
            ["No candidate has been tried yet.", "0 candidates"],
            "front",
        ),
        (
            only_failures,
            ["No candidate has a score yet.", "6 candidates (2 out of memory, 1 timed out, 3 failed)"],
            "progress",
        ),
        (not_numbers, ["No candidate is done with both objectives", "No stage of this survivor has been"], "front"),
        (without(status="search ended early: 8 <failures>"), ["Status: search ended early: 8 <failures>"], "nothing"),
    ],
)
def test_missing_parts_become_a_sentence(report, tmp_path, change, sentences, missing):
    change(report)
    source, page = render(report, tmp_path)
    for sentence in sentences:
        assert sentence in page.text
    assert not any(name.startswith(missing) for name in plots(page))
    assert source.count("<h2>") == 9 + ("curves" in plots(page))


def test_an_empty_report_is_still_a_page(tmp_path):
    source, page = render({}, tmp_path)
    assert plots(page) == [] and source.count("<h2>") == 9 and source.count('class="empty"') == 9


def test_survivors_in_progress_show_what_they_have(report, tmp_path):
    report["survivors"][0]["stages"] = report["survivors"][0]["stages"][:1]
    report["survivors"][1]["stages"] = []
    report["survivors"][2]["stages"][1]["metrics"] = {"test_acc_pct": 96.0, "latency_ms": None}
    _, page = render(report, tmp_path)
    assert "No stage has been measured yet." in page.text
    assert "as searched; no later stage was accepted." in page.text


def test_a_failed_write_leaves_the_old_report(report, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    report["survivors"][0]["rank"] = {}  # a rank is a number; sorting the survivors fails
    with pytest.raises(TypeError):
        write_html(report, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (units.significant, 0.00412, "0.00412"),
        (units.significant, 1234.4, "1,234"),
        (units.significant, None, "\N{EN DASH}"),
        (units.significant, 0, "0"),
        (units.count, 950, "950"),
        (units.count, 12_345, "12.3 k"),
        (units.count, 1_240_000, "1.24 M"),
        (units.size, 2048, "2.00 KiB"),
        (units.size, 3 * 2**20, "3.00 MiB"),
        (units.duration, 9.5, "9.50 s"),
        (units.duration, 2700, "45 min"),
        (units.duration, 9000, "2.5 h"),
        (units.number, True, None),
        (units.number, float("nan"), None),
        (units.number, "3", None),
    ],
)
def test_numbers_are_written_with_their_unit(write, value, text):
    assert write(value) == text


def test_changes_are_relative_and_named():
    assert units.relative(0.5, 2.0) == "\N{MINUS SIGN}75 %" and units.relative(1.0, 1.0) == "0.0 %"
    assert units.relative(None, 1.0) == units.relative(1.0, 0.0) == ""
    assert units.times(0.5, 1.5, "faster", "slower", "as fast") == "3.0 times faster"
    assert units.times(1.5, 1.0, "faster", "slower", "as fast") == "1.50 times slower"
    assert units.times(1.001, 1.0, "faster", "slower", "as fast") == "as fast"
    assert units.shorten("a" * 200, 20) == "a" * 13 + "\N{HORIZONTAL ELLIPSIS}" + "a" * 6
