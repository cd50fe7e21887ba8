"""The waterfalls of the survivors: levels, changes, references, and what cannot be compared."""

import copy
import re

import pytest
from report_samples import latency, make_report

from nasbench.report.figures import BLUE, GREEN, GREY, PALE, RED
from nasbench.report.stage_bars import RESULT, SHORT, TIMES, stage_bars

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def chosen():
    """A survivor whose fourth stage, quantized, was rejected."""
    return make_report()["survivors"][1]


def steps(figure):
    """Name, start, end and colour of every bar."""
    bars = next(one for one in figure.data if one.type == "bar")
    ends = [None if y is None else base + y for base, y in zip(bars.base, bars.y, strict=True)]
    names = [name.replace("<br>", " ") for name in figure.layout.xaxis.ticktext]
    return list(zip(names, bars.base, ends, bars.marker.color, strict=True))


def written(figure):
    return [one for one in figure.data if one.type == "scatter" and one.mode == "text"]


def labels(figure):
    """The number above every bar, and the change below that."""
    texts = written(figure)[0].text
    return [tuple(re.sub("<.*?>", "", part) for part in text.partition("<br>")[::2]) for text in texts]


def of_eager(survivor, *ratios):
    for one, ratio in zip(survivor["stages"], ratios, strict=True):
        one["metrics"]["of_eager"] = {"ratio": ratio, "low": ratio - 0.02, "high": ratio + 0.02}


def test_latency_is_told_as_multiples_of_eager_timed_in_turn(chosen):
    of_eager(chosen, 0.5, 0.4, 0.41, 0.2, 0.3)
    figure = stage_bars(chosen, "latency")
    assert steps(figure) == [
        (SHORT, 0.0, 1.0, GREY),
        ("searched", 1.0, 0.5, GREEN),
        ("pruned", 0.5, pytest.approx(0.4), GREEN),
        ("distilled", 0.4, pytest.approx(0.41), GREY),  # within its interval
        ("quantized", 0.41, pytest.approx(0.2), PALE),
        ("compiled", 0.41, pytest.approx(0.3), GREEN),
        (RESULT, 0.0, 0.3, BLUE),
    ]
    assert labels(figure)[0] == (f"1.00{TIMES}", "") and labels(figure)[-2:] == [
        (f"0.300{TIMES}", f"{MINUS}27 %"),
        (f"0.300{TIMES}", ""),
    ]
    bars = next(one for one in figure.data if one.type == "bar")
    assert bars.error_y.array[0] == 0 and bars.error_y.array[1] == pytest.approx(0.02)
    assert list(bars.marker.pattern.shape) == ["", "", "", "", "/", "", ""]
    assert figure.layout.yaxis.range[0] == 0 and figure.layout.yaxis.range[1] > 1


def test_without_eager_the_searched_network_is_the_reference(chosen):
    chosen["baseline"] = None
    ms = [one["metrics"]["latency_ms"]["median"] for one in chosen["stages"]]
    bars = steps(stage_bars(chosen, "latency"))
    assert [name for name, *_ in bars] == [*(one["name"] for one in chosen["stages"]), RESULT]
    assert [end for _, _, end, _ in bars[:-1]] == pytest.approx([stage_ms / ms[0] for stage_ms in ms])
    assert bars[0][3] == BLUE


def test_a_reference_far_above_the_stages_is_cut(chosen):
    of_eager(chosen, 0.1, 0.09, 0.085, 0.05, 0.06)
    figure = stage_bars(chosen, "latency")
    bars = steps(figure)
    assert bars[0][1:3] == (0.0, pytest.approx(0.15)) and bars[1][1:3] == (pytest.approx(0.15), pytest.approx(0.1))
    assert labels(figure)[0][0] == f"1.00{TIMES}" and "bar cut" in figure.layout.title.text
    assert list(written(figure)[1].x) == [0, 1] and figure.layout.yaxis.range[1] < 0.25


def test_size_and_accuracy_go_on_from_the_last_accepted_stage(chosen):
    sizes = [one["metrics"]["size_bytes"] for one in chosen["stages"]]
    bars = steps(stage_bars(chosen, "size"))
    assert [end for _, _, end, _ in bars[:-1]] == pytest.approx([size / sizes[0] for size in sizes])
    assert bars[4][1] == bars[3][1] == pytest.approx(sizes[1] / sizes[0])
    figure = stage_bars(chosen, "accuracy")
    assert [change for _, change in labels(figure)] == ["", f"{MINUS}1.12", "+0.84", f"{MINUS}4.42", "0.00", ""]
    assert [color for *_, color in steps(figure)] == [BLUE, RED, GREEN, PALE, GREY, BLUE]
    low, high = figure.layout.yaxis.range
    ends = [end for _, _, end, _ in steps(figure)]
    assert 0 < low < min(ends) and max(ends) <= high and f"(axis from {low:g})" in figure.layout.title.text


def test_latencies_measured_differently_are_never_compared(chosen):
    for one in chosen["stages"][1:]:
        one["metrics"]["latency_ms"]["batch"] = 8
    assert [end for _, _, end, _ in steps(stage_bars(chosen, "latency"))[2:6]] == [None] * 4


def test_what_was_not_measured_leaves_a_gap(chosen):
    chosen["stages"][1]["metrics"] = {"test_acc_pct": 96.0, "latency_ms": None}
    bars = steps(stage_bars(chosen, "latency"))
    assert bars[2][2] is None and bars[3][1] == bars[1][2]
    for one in chosen["stages"]:
        one["metrics"] = {}
    assert all(not stage_bars(chosen, measure).data for measure in ("accuracy", "latency", "size"))


def test_a_step_used_twice_keeps_both_bars(chosen):
    chosen["stages"].insert(2, copy.deepcopy(chosen["stages"][1]))
    assert [name for name, *_ in steps(stage_bars(chosen, "size"))][1:3] == ["pruned", "pruned"]


def test_one_stage_needs_no_result_and_hovering_tells_the_measurement(chosen):
    chosen["stages"] = chosen["stages"][:1]
    chosen["stages"][0]["metrics"]["latency_ms"] = latency(0.5, unstable=True)
    figure = stage_bars(chosen, "latency")
    assert [name for name, *_ in steps(figure)] == [SHORT, "searched"]
    hover_text = next(one for one in figure.data if one.type == "bar").hovertext[1]
    assert "median 0.500" in hover_text and "(unstable)" in hover_text and "batch 1" in hover_text
