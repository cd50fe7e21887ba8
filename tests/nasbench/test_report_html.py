"""The HTML report: what stands on the page, what the figures draw, and what is missing without breaking either."""

import copy
import re
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from random import Random

import pytest
import yaml

from nasbench.evaluation import FAILURES, OUTCOMES
from nasbench.files import write_text
from nasbench.report import figures, units
from nasbench.report.curves import learning_curves
from nasbench.report.drawing import svg
from nasbench.report.html import write_html
from nasbench.report.stage_bars import EAGER, stage_bars
from search_spaces.diagram import Node, chain

CELL = "|nor_conv_3x3~0|+|skip_connect~0|<wide>&co~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
LAYERS = ("ghost_module_k3_w0.75", "inverted_residual_se_k5_w1.0", "shuffle_unit_k5_w0.5", "convolution_k3_w1.0")
ERRORS = (
    ("out_of_memory", "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB <device 0>"),
    ("failed", "RuntimeError: Given groups=3, weight of size [8, 1, 3, 3], expected input to have 3 channels"),
    ("timed_out", "time was up in epoch 4 of 12 after 600 s of training"),
    ("failed", None),
)


def latency(median, *, runtime="onnxruntime", precision="float32", unstable=False):
    """A measured latency as the report carries it."""
    return {
        "median": median,
        "p95": round(1.12 * median, 4),
        "iqr": round(0.04 * median, 4),
        "batch": 1,
        "threads": 1,
        "repeats": 200,
        "runtime": runtime,
        "precision": precision,
        "device": "cpu",
        "unstable": unstable,
    }


def candidate(number, rng):
    """One candidate of a search: every sixth fails, every seventh is infeasible, slower ones are better."""
    arch = "/".join("-".join(rng.choice(LAYERS) for _ in range(3)) for _ in range(3))
    macs = rng.randint(400_000, 4_000_000)
    common = {
        "id": number,
        "architecture": arch,
        "seconds": rng.uniform(20, 45),
        "finished_s": 16.0 * (number + 1) + rng.uniform(0, 12),
        "scores": None,
        "error": None,
        "metrics": {},
        "curve": {},
        "attempts": [],
    }
    if number % 6 == 5:
        kind, error = ERRORS[number // 6 % len(ERRORS)]
        attempts = [{"status": kind, "error": error, "seconds": 3.0}] if kind == "out_of_memory" else []
        return common | {"status": kind, "error": error, "attempts": attempts}
    cost = {"latency_ms": round(0.4 + macs / 2.2e6 + rng.uniform(0, 0.2), 3), "macs": macs, "params": macs // 38}
    if number % 7 == 4:
        return common | {"status": "infeasible", "metrics": cost | {"latency_ms": 3.1 + number / 3}}
    accuracy = round(98.9 - 5 * 4e5 / macs - rng.uniform(0, 1.5) - 6 / (number + 2), 3)
    metrics = {"val_acc_pct": accuracy, **cost, "latency_std_ms": 0.05, "size_bytes": 4 * macs // 38 + 9000}
    curve = {"4": accuracy - 9, "8": accuracy - 2, "12": accuracy}
    score = accuracy * cost["latency_ms"] ** -0.07
    return common | {"status": "done", "metrics": metrics, "scores": [score], "curve": curve}


def outcome(kind, meaning, candidates):
    """A row of the outcomes as the report carries it."""
    ended = [one for one in candidates if one["status"] == kind]
    return {
        "kind": kind,
        "count": len(ended),
        "meaning": meaning,
        "retries": sum(len(one["attempts"]) for one in ended),
        "recovered": 0,
        "counts": None if kind in ("done", "stopped") else kind != "infeasible",
        "seconds": sum(one["seconds"] for one in ended),
    }


def stage(name, rank, *, accuracy, ms, size, params, macs, precision="float32", accepted=True, reason=None):
    return {
        "name": name,
        "accepted": accepted,
        "reason": reason,
        "seconds": 21.5,
        "artefact": f"survivors/{rank}/{name}",
        "metrics": {
            "val_acc_pct": accuracy + 0.4,
            "test_acc_pct": accuracy,
            "params": params,
            "macs": macs,
            "size_bytes": size,
            "latency_ms": latency(ms, precision=precision),
            "throughput_per_s": 1000 / ms,
        },
        "note": {},
    }


def survivor(rank, chosen, arch):
    ms, macs, params = chosen["metrics"]["latency_ms"], chosen["metrics"]["macs"], chosen["metrics"]["params"]
    size, accuracy = 4 * params + 9000, chosen["metrics"]["val_acc_pct"] - 0.6
    common = {"rank": rank}
    small = {"params": int(0.62 * params), "macs": int(0.55 * macs)}
    return {
        "rank": rank,
        "candidate": chosen["id"],
        "architecture": arch,
        "baseline": {"runtime": "eager", "latency_ms": latency(2.4 * ms, runtime="eager")} if rank < 3 else None,
        "stages": [
            stage("searched", **common, accuracy=accuracy, ms=ms, size=size, params=params, macs=macs),
            stage("pruned", **common, accuracy=accuracy - 1.12, ms=0.71 * ms, size=int(0.66 * size), **small),
            stage("distilled", **common, accuracy=accuracy - 0.28, ms=0.7 * ms, size=int(0.66 * size), **small),
            stage(
                "quantized",
                **common,
                accuracy=accuracy - (0.31 if rank != 2 else 4.7),
                ms=0.44 * ms,
                size=int(0.2 * size),
                **small,
                precision="int8",
                accepted=rank != 2,
                reason=None if rank != 2 else "test accuracy fell by 4.42 points, more than the 2.00 allowed",
            ),
            stage(
                "compiled",
                **common,
                accuracy=accuracy - (0.31 if rank != 2 else 0.28),
                ms=(0.4 if rank != 2 else 0.64) * ms,
                size=int((0.21 if rank != 2 else 0.67) * size),
                **small,
                precision="int8" if rank != 2 else "float32",
            ),
        ],
    }


def make_report():
    rng = Random(7)
    candidates = [candidate(number, rng) for number in range(36)]
    done = [one for one in candidates if one["status"] == "done"]
    front, best = [], 0.0
    for one in sorted(done, key=lambda one: one["metrics"]["latency_ms"]):
        if one["metrics"]["val_acc_pct"] > best:
            front.append(one)
            best = one["metrics"]["val_acc_pct"]
    chosen = [front[-1], front[len(front) // 2], front[0]]
    chosen[0]["architecture"] = CELL
    measured = [round(rng.uniform(0.3, 2.4), 3) for _ in range(40)]
    return {
        "experiment": {
            "name": "quickstart <v2>",
            "seed": 3,
            "data": {"name": "digits"},
            "space": {"name": "mobile"},
            "controller": {"name": "regularized_evolution", "population": 12, "tournament": 4},
            "device": {"name": "cpu", "threads": 1, "batch": 1, "runtime": "onnxruntime"},
            "objectives": [
                {"metric": "val_acc_pct", "goal": "max", "limit": None},
                {"metric": "latency_ms", "goal": "min", "limit": 3.0},
            ],
            "reward": {"name": "weighted_product", "target": {"latency_ms": 1.0}, "exponent": -0.07},
            "training": {"epochs": 12, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.003},
            "search": {"candidates": 36, "max_hours": 1.0, "max_failures": 8},
            "executor": {"name": "ray", "workers": 2, "cpus": 1, "gpus": 0},
            "survivors": 3,
            "recipe": [{"prune": {"importance": "l2", "ratio": 0.4}}, {"quantize": {"precision": "int8"}}],
        },
        "environment": {
            **{"python": "3.11.7", "torch": "2.10.0", "onnxruntime": "1.23.0", "ray": "2.52.0", "optuna": "4.6.0"},
            **{
                "machine": "x86_64, AMD EPYC",
                "cores": 2,
                "seed": 3,
                "commit": "2cd100a",
                "started": "2026-01-05 10:00",
            },
            "command": ["nasbench", "search", "my experiments/quickstart.yaml", "--seed", "3"],
        },
        "status": "complete",
        "candidates": candidates,
        "front": [one["id"] for one in reversed(front)],
        "survivors": [
            survivor(rank, one, one["architecture"] if rank > 1 else CELL) for rank, one in enumerate(chosen, start=1)
        ],
        "predictor": {
            "name": "mlp_ensemble",
            "spearman": 0.962,
            "median_error_pct": 4.137,
            "n": 40,
            "protocol": "40 random architectures <measured>, none of them used for fitting",
            "measured_ms": measured,
            "predicted_ms": [round(ms * rng.uniform(0.9, 1.1), 3) for ms in measured],
        },
        "outcomes": [outcome(kind, meaning, candidates) for kind, meaning in OUTCOMES.items()],
        "compute": {
            "device_seconds": 5200.0,
            "training_seconds": 4100.0,
            "search_wall_seconds": 2500.0,
            "utilization": 0.82,
            "pfs_days": 2.13e-6,
            "wall_seconds": 2700.0,
        },
    }


@pytest.fixture
def report():
    return make_report()


class Page(HTMLParser):
    """Reads a page as a browser would: text outside scripts and styles, attributes, and whether elements nest."""

    VOID = ("meta", "br", "link", "img", "hr", "input")

    def __init__(self, source):
        super().__init__()
        self.open, self.loads, self.words, self.tags = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def render(report, tmp_path):
    path = tmp_path / "report.html"
    write_html(report, path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


def plots(page):
    return [
        attrs["id"] for tag, attrs in page.tags if tag == "div" and "plotly-graph-div" in (attrs.get("class") or "")
    ]


def trace(figure, name):
    found = [one for one in figure.data if one.name == name]
    assert len(found) == 1, [one.name for one in figure.data]
    return found[0]


def test_the_page_is_self_contained_and_escaped(report, tmp_path):
    source, page = render(report, tmp_path)
    assert page.loads == []
    assert re.search(r"@import|url\(", source.partition("<style>")[2].partition("</style>")[0]) is None
    assert source.count('id="plotly-js"') == 1
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
        *("Survivors,", "Pareto", "Best", "Learning", "What", "Latency", "Failures", "Cost", "How"),
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
    bars = stage_bars(report["survivors"][0], "latency").data[0]
    assert "<br>" not in bars.text[2] and "<br>" in bars.text[3]


def test_the_summary_ends_at_the_last_accepted_stage(report, tmp_path):
    for one in report["survivors"][0]["stages"][3:]:
        one["accepted"] = False
    assert "as distilled: " in render(report, tmp_path)[1].text
    for one in report["survivors"][0]["stages"][1:]:
        one["accepted"] = False
    assert "as searched; no later stage was accepted." in render(report, tmp_path)[1].text


def test_the_survivors_table_has_a_row_a_stage(report, tmp_path):
    source, page = render(report, tmp_path)
    rows = re.findall(r"<tr.*?</tr>", source.partition("<tbody>")[2].partition("</table>")[0])
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


@pytest.mark.parametrize("measure", ["accuracy", "latency", "size"])
def test_stage_bars_say_their_numbers(report, measure):
    chosen = report["survivors"][1]
    bars = stage_bars(chosen, measure).data[0]
    key = {"accuracy": "test_acc_pct", "latency": "latency_ms", "size": "size_bytes"}[measure]
    values = [units.median_ms(one["metrics"][key]) / (1024 if measure == "size" else 1) for one in chosen["stages"]]
    if measure == "latency":
        values.insert(0, chosen["baseline"]["latency_ms"]["median"])
    assert list(bars.y) == values
    decimals = 2 if measure == "accuracy" else 3
    for text, value in zip(bars.text, values, strict=True):
        written = text.partition("<br>")[0].replace(",", "")
        assert written == f"{value:.2f}" or (decimals == 3 and float(written) == pytest.approx(value, rel=5e-3))


def test_stage_bars_compare_with_the_last_accepted_stage(report):
    figure = stage_bars(report["survivors"][1], "accuracy")
    bars = figure.data[0]
    changes = [re.sub("<.*?>", " ", text.partition("<br>")[2]).strip() for text in bars.text]
    minus = "\N{MINUS SIGN}"
    assert changes == ["", f"{minus}1.12", "+0.84", f"{minus}4.42", "0.00"]
    assert list(bars.marker.pattern.shape) == ["", "", "", "/", ""]
    low, high = figure.layout.yaxis.range
    assert 0 < low < min(bars.y) and max(bars.y) <= high <= 100
    assert f"(axis: {low:g} to {high:g})" in figure.layout.title.text
    assert list(figure.layout.xaxis.ticktext) == ["searched", "pruned", "distilled", "quantized", "compiled"]


def test_the_eager_baseline_is_a_bar_of_its_own(report):
    first = stage_bars(report["survivors"][0], "latency")
    assert first.layout.xaxis.ticktext[0].replace("<br>", " ") == EAGER
    assert first.layout.yaxis.range[0] == 0
    assert len(stage_bars(report["survivors"][2], "latency").data[0].y) == 5


def test_a_step_used_twice_keeps_both_bars(report):
    stages = report["survivors"][0]["stages"]
    stages.insert(2, copy.deepcopy(stages[1]))
    bars = stage_bars(report["survivors"][0], "size")
    assert list(bars.layout.xaxis.ticktext[1:3]) == ["pruned", "pruned"] and len(bars.data[0].y) == 6


def test_the_predictor_is_drawn_against_the_diagonal(report, tmp_path):
    told = report["predictor"]
    figure = figures.predictor(told)
    dots, diagonal = trace(figure, "held-out architecture"), trace(figure, "predicted = measured")
    assert list(dots.x) == told["measured_ms"] and list(dots.y) == told["predicted_ms"]
    assert list(diagonal.x) == list(diagonal.y) == list(figure.layout.xaxis.range) == list(figure.layout.yaxis.range)
    _, page = render(report, tmp_path)
    assert "Spearman rank correlation 0.962, median error 4.14 %, n = 40" in page.text
    assert "Held out: 40 random architectures <measured>" in page.text


def test_failures_are_counted_by_kind(report, tmp_path):
    source, _ = render(report, tmp_path)
    section = source.partition("<h2>Failures</h2>")[2].partition("</section>")[0]
    kinds, _, messages = section.partition("<h3>Messages</h3>")
    rows = re.findall(r"<tr><td>([^<]*)</td><td class=\"text\">[^<]*</td><td>(\d+)</td><td>([^<]*)</td>", kinds)
    dash = "\N{EN DASH}"
    assert rows == [
        ("out of memory", "2", "2"),
        ("timed out", "1", dash),
        ("failed", "3", dash),
        ("infeasible", "4", dash),
    ]
    told = re.findall(r"<tr><td>([^<]*)</td><td>(\d+)</td><td class=\"text\">([^<]*)</td>", messages)
    # A candidate that was tried twice is named once, and its message counts twice.
    assert told == [
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
    one = next(each for each in report["candidates"] if each["id"] == chosen)
    predicted = one["metrics"]["latency_ms"]
    one["measured_latency_ms"] = latency(1.25 * predicted)
    report["predictor"]["chosen"] = [{"id": chosen, "predicted_ms": predicted, "measured_ms": 1.25 * predicted}]
    drawn = trace(figures.pareto_front(report), "Pareto front")
    assert any(x == pytest.approx(1.25 * predicted) for x in drawn.x)
    dot = trace(figures.predictor(report["predictor"]), "front and survivors")
    assert (dot.x[0], dot.y[0]) == (1.25 * predicted, predicted)
    _, page = render(report, tmp_path)
    assert "1 candidate on the front or among the survivors was measured" in page.text
    assert "off by 20.0 % in the middle" in page.text


def test_reproduction_holds_the_command_and_the_experiment(report, tmp_path):
    source, page = render(report, tmp_path)
    assert "nasbench search 'my experiments/quickstart.yaml' --seed 3" in page.text
    written = unescape(re.findall(r"<pre>(.*?)</pre>", source, flags=re.DOTALL)[-1])
    assert yaml.safe_load(written) == report["experiment"]
    assert re.search(r"<td>onnxruntime</td><td>1\.23\.0</td>", source)


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
        for each in one["stages"]:
            each["metrics"] = dict.fromkeys(each["metrics"], None)
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
    assert source.count("<h2>") == 8 + ("curves" in plots(page))


def test_an_empty_report_is_still_a_page(tmp_path):
    source, page = render({}, tmp_path)
    assert plots(page) == [] and source.count("<h2>") == 8 and source.count('class="empty"') == 8


def test_survivors_in_progress_show_what_they_have(report, tmp_path):
    report["survivors"][0]["stages"] = report["survivors"][0]["stages"][:1]
    report["survivors"][1]["stages"] = []
    report["survivors"][2]["stages"][1]["metrics"] = {"test_acc_pct": 96.0, "latency_ms": None}
    _, page = render(report, tmp_path)
    assert "No stage has been measured yet." in page.text
    assert "as searched; no later stage was accepted." in page.text
    assert stage_bars(report["survivors"][2], "latency").data[0].y[1] is None


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
