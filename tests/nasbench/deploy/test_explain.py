"""Where the time goes, why, and what helps: on networks whose fault is known, because it was put there."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import nasbench as nb
from nasbench.deploy import advice
from nasbench.deploy.advice import Subject, Suggestion, causes, measured, predicted_with, suggestions
from nasbench.deploy.explain import Profile, ProfiledOperator, compared, fitted
from nasbench.deploy.layers import Layer, layers_of, located
from nasbench.deploy.setting import Setting
from nasbench.devices.device import Device
from nasbench.devices.roofline import Roofline, measure_roofline
from nasbench.report.explain_page import bars_figure, bounds_figure, write_explain_page
from nasbench_compression.compilation.profiler import OperatorTime
from nasbench_registry import UserError
from search_spaces import Task

ROOF = Roofline({"fp32": 1e9, "int8": 4e9}, [(1000, 1e9), (10**6, 1e8)])


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 17, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(17, 10),
    ).eval()


def operator(name, ms, **details):
    return OperatorTime(name=name, kind=details.pop("kind", "Conv"), seconds=ms / 1000, **details)


def profiled(operators, call_ms, layers=(), precision="fp32", batch=1):
    """A profile with these operators, each of the layer of its name where there is one."""
    known = {layer.name: layer for layer in layers}
    explained = [
        ProfiledOperator(
            timing,
            timing.name if timing.name in known else None,
            None,
            ROOF.bound(timing),
            ROOF.roof_s(timing),
        )
        for timing in operators
    ]
    latency = SimpleNamespace(median=call_ms)
    return Profile(
        latency, call_ms / 1000, explained, None, known, Setting.of("onnxruntime", precision, batch=batch), {}, 1, ROOF
    )


def test_an_operator_is_bound_by_the_roof_that_it_is_near():
    assert ROOF.bound(operator("a", 10, macs=4_000_000)) == "arithmetic"  # 8 ms at the peak
    assert ROOF.bound(operator("a", 10, macs=4_000_000, precision="int8")) == "overhead"  # 2 ms
    assert ROOF.bound(operator("a", 10, bytes=800_000)) == "memory"  # 8 ms out of the second cache
    assert ROOF.bound(operator("a", 0.0008, bytes=500)) == "memory"  # 0.0005 ms out of the first
    assert ROOF.bound(operator("a", 10)) == "overhead"


def test_peaks_of_this_machine_are_measured():
    roofline = measure_roofline()
    assert roofline.flops_per_s["int8"] >= roofline.flops_per_s["fp32"] > 1e8
    sizes, speeds = zip(*roofline.bytes_per_s, strict=True)
    assert list(sizes) == sorted(sizes) and min(speeds) > 1e7


def test_layers_in_the_order_in_which_they_run():
    layers = layers_of(network(), torch.zeros(2, 3, 8, 8))
    assert [(layer.name, layer.macs, layer.channels) for layer in layers.values()] == [
        ("0", 2 * 64 * 16 * 27, (3, 16)),
        ("2", 2 * 64 * 17 * 144, (16, 17)),
        ("6", 2 * 170, (17, 10)),
    ]


def test_layers_are_located_by_name_and_what_is_left_by_order():
    layers = {name: Layer(name, 1, (8, 8), 1, 0.0) for name in ("a", "b.c", "d")}
    operators = [
        operator("x", 1),
        operator("y", 1, parts=("/b/b.c/Conv", "/b/Relu")),
        operator("z", 1, kind="Relu"),
        operator("w", 1),
    ]
    assert located(operators, layers) == ["a", "b.c", None, "d"]
    assert located(operators[1:], layers) == ["b.c", None, None]  # one product, two layers: it might be either


def test_what_is_only_the_rounding_of_sums_is_no_overhead():
    profile = profiled([operator("a", 1), operator("b", 4)], 5 + 1e-8)
    assert profile.overhead_s == 0


def test_the_call_costs_what_operators_do_not_add_up_to():
    profile = profiled([operator("a", 2), operator("cast", 1, cast=True)], 5)
    assert profile.overhead_s == pytest.approx(0.002)
    assert profile.seconds(family="cast") == pytest.approx(0.001)
    assert profiled([operator("a", 7)], 5).overhead_s == 0


def test_operators_add_up_to_no_more_than_the_call():
    fitted_operators = fitted([operator("a", 5), operator("b", 2), operator("c", 0.1)], 0.005)
    assert sum(timing.seconds for timing in fitted_operators) == pytest.approx(0.005)
    assert [timing.seconds for timing in fitted_operators] == pytest.approx([0.003995, 0.000995, 0.00001], abs=1e-6)
    small = [operator("a", 1)]
    assert fitted(small, 0.005) == small


def test_two_models_are_aligned_layer_by_layer():
    layers = [Layer("a", 100, (8, 8), 1, 0.0), Layer("b", 100, (8, 8), 1, 0.0)]
    before = profiled([operator("a", 2), operator("b", 3)], 5.5, layers)
    after = profiled([operator("q", 1, cast=True), operator("a", 1, precision="int8"), operator("b", 4)], 6.25, layers)
    rows = {row["place"]: row for row in compared(before, after)}
    assert rows["a"]["difference_ms"] == pytest.approx(-1) and rows["b"]["difference_ms"] == pytest.approx(1)
    assert rows["casts and requantizations"]["before_ms"] == 0
    assert list(rows)[-1] == "overhead of the call" and rows["a"]["precision"] == ["fp32", "int8"]
    assert rows["overhead of the call"]["difference_ms"] == pytest.approx(-0.25)


def test_fewer_channels_are_predicted_by_what_is_executed():
    lanes = advice._padded(Layer("a", 17, (8, 17), 1, 0.0))
    before = Layer("a", 17 * 100, (8, 17), 1, 0.0)
    after = Layer("a", 16 * 100, (8, 16), 1, 0.0)
    profile = profiled([operator("a", 4), operator("add", 1, kind="Add")], 6, [before])
    predicted = predicted_with(profile, {"a": after})
    floor = 1  # of the fastest operator, which stays
    assert predicted == pytest.approx((1 + floor + 3 * 16 / lanes + floor) / 6)
    assert predicted_with(profile, {"a": before}) == pytest.approx(1)


def test_causes_are_told_by_their_share():
    layers = [Layer("a", 4_000_000, (8, 8), 1, 0.5)]
    profile = profiled(
        [operator("a", 10, macs=4_000_000), operator("r", 2, kind="ReorderOutput", reorder=True)], 20, layers
    )
    subject = Subject(network(), Task((3, 8, 8), 10), profile.setting, None, profile)
    shares = {cause["cause"]: cause["share"] for cause in causes(subject)}
    assert shares["call overhead"] == pytest.approx(0.4) and shares["layouts"] == pytest.approx(0.1)
    assert shares["arithmetic"] == pytest.approx(0.5) and shares["zeros"] == pytest.approx(0.25)
    assert "casts" not in shares


@pytest.fixture(scope="module")
def explanation():
    return nb.explain(network(), example=torch.zeros(2, 3, 8, 8), backend="onnxruntime", max_advice_s=0, seconds=0.1)


def test_a_network_is_explained(explanation):
    layers = [row["layer"] for row in explanation.operators if row["layer"] is not None]
    assert layers == ["0", "2", "6"]
    model = explanation.to_json()["models"][0]
    assert model["awkward_widths"] == {"2": (16, 17), "6": (17, 10)}
    assert sum(row["share"] for row in explanation.operators) + model["overhead_share"] == pytest.approx(1)
    assert {suggestion["verdict"] for suggestion in explanation.advice} == {"not tried"}  # there was no time for any
    changes = [suggestion["change"] for suggestion in explanation.advice]
    assert "precision: int8" in changes
    assert any(change.startswith("prune ratio: 0.0") and change.endswith("round_to: 8") for change in changes)
    json.dumps(explanation.to_json())


def test_the_page_holds_both_figures_and_the_advice(explanation, tmp_path):
    write_explain_page(explanation.to_json(), tmp_path / "page.html", "nasbench explain it")
    page = (tmp_path / "page.html").read_text()
    assert 'id="bars"' in page and 'id="bounds"' in page and "round_to: 8" in page and "nasbench explain it" in page


def test_operators_with_names_of_digits_have_a_row_each(explanation):
    """In `nn.Sequential` layers are called 0, 2, ..., and a row "1. 0" would be read as a number."""
    model = explanation.to_json()["models"][0]
    figure = bounds_figure(model)
    rows = figure.layout.yaxis.categoryarray
    assert figure.layout.yaxis.type == "category" and len(set(rows)) == len(model["operators"])
    assert any(row.endswith("Conv 0") for row in rows)


def test_a_place_has_one_bar_in_both_models(explanation):
    """The operators of a module have other kinds in another precision, and the same colour."""
    before = explanation.to_json()["models"][0]
    after = {**before, "operators": [{**row, "kind": f"Q{row['kind']}"} for row in before["operators"]]}
    named = {row["place"] for row in before["operators"] if row["family"] == "layer"}
    figure = bars_figure({"models": [before, after]})
    assert len(named) == 3 and [bar.name for bar in figure.data].count("0 (Conv)") == 1
    assert not any(bar.name.startswith("0 (QConv") for bar in figure.data)


def test_widths_above_a_multiple_of_eight_are_cut_to_it():
    """Four channels of 20 are more than a small ratio rounds away."""
    wide = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 20, 3), nn.Flatten(), nn.Linear(320, 10)).eval()
    task = Task((3, 8, 8), 10)
    layers = layers_of(wide, task.one_input(1))
    profile = profiled([operator(name, ms) for name, ms in zip(layers, (1, 4, 1), strict=True)], 6, layers.values())
    subject = Subject(wide, task, profile.setting, None, profile)
    (narrower,) = [suggestion for suggestion in suggestions(subject) if suggestion.cause == "awkward widths"]
    assert narrower.change == "prune ratio: 0.077, round_to: 8" and narrower.predicted < 1


def test_fewer_bits_and_other_backends_are_suggested():
    def changes(backend, precision):
        profile = profiled([operator("0", 1)], 1.01)
        setting = Setting.of(backend, precision)
        subject = Subject(network(), Task((3, 8, 8), 10), setting, None, replace(profile, setting=setting))
        return {suggestion.change: suggestion for suggestion in suggestions(subject)}

    eager = changes("eager", "fp32")
    assert {"precision: bf16", "precision: int8", "memory_format: channels_last"} <= set(eager)
    assert "give it 8 images in a call" in eager  # its operators are far from the roofs
    assert eager["backend: torch_compile"].why_not_tried.startswith("compiling takes about 30 s")
    assert not any(change.startswith("precision") for change in changes("onnxruntime", "int8"))
    first = next(iter(changes("torch_compile", "fp32")))
    assert first.startswith("backend: ")  # which is quicker to try than to compile this one again


def test_what_takes_long_is_named_and_not_tried():
    def refused():
        raise AssertionError("it is not to be made")

    slow = Suggestion("backend", "backend: torch_compile", refused, why_not_tried="compiling takes about 30 s")
    (outcome,) = measured(None, [slow])
    assert (outcome["verdict"], outcome["reason"]) == ("not tried", "compiling takes about 30 s")


def test_what_is_slower_by_construction_is_found_not_to_help_and_the_other_way_round():
    """A network of half the depth takes less time, and one of twice the depth more, whatever the machine."""
    torch.manual_seed(0)
    task = Task((8, 32, 32), 8 * 32 * 32)

    def deep(count):
        return nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(count)), nn.Flatten()).eval()

    setting = Setting.of("onnxruntime", "fp32")
    compiled = setting.make().compile(deep(4), task.one_input(1))
    profile = profiled([], 1)
    subject = Subject(deep(4), task, setting, compiled, profile)

    def tried(count):
        return Suggestion(str(count), str(count), lambda: (subject.compile(deep(count), setting), 1), count / 4)

    def refused():
        raise UserError("it cannot be.")

    outcomes = measured(subject, [tried(16), tried(1), Suggestion("", "none", refused)])
    assert [(outcome["change"], outcome["verdict"]) for outcome in outcomes] == [
        ("1", "helps"),
        ("16", "did not help"),
        ("none", "not tried"),
    ]
    assert outcomes[2]["reason"] == "it cannot be."


def test_every_cause_has_a_suggestion_where_it_can_be_removed():
    layers = {"0": Layer("0", 27_648, (3, 16), 1, 0.6), "2": Layer("2", 156_672, (16, 17), 1, 0.6)}
    operators = [operator("0", 1), operator("2", 4), operator("r", 1, kind="ReorderOutput", reorder=True)]
    profile = profiled(operators, 9, layers.values())
    subject = Subject(network(), Task((3, 8, 8), 10), profile.setting, None, profile)
    suggested = {suggestion.cause for suggestion in suggestions(subject)}
    assert {"call overhead", "awkward widths", "zeros", "arithmetic", "layouts"} <= suggested


def test_a_recipe_is_told_what_was_tried(monkeypatch):
    monkeypatch.setattr(advice, "SECONDS", 0.05)
    images = torch.zeros(4, 3, 8, 8)
    bench = SimpleNamespace(device=Device("onnxruntime"), task=Task((3, 8, 8), 10), calibration=lambda: images)
    compiled = bench.device.compile(network(), bench.task)
    tips = [Suggestion("awkward widths", "round_to: 8", lambda: (bench.device.compile(network(), bench.task), 1), 0.5)]
    monkeypatch.setattr(advice, "suggestions", lambda subject: tips)
    sentence = advice.tried_in_words(network(), compiled, bench)
    assert sentence.startswith("tried on it, in turn: round_to: 8: ") and "of its time (" in sentence
    monkeypatch.setattr(advice, "suggestions", lambda subject: [])
    assert advice.tried_in_words(network(), compiled, bench) is None


def test_more_than_one_shape_is_refused():
    with pytest.raises(UserError, match="the models take inputs of"):
        nb.explain(
            nb.Model(network(), Task((3, 8, 8), 10)),
            nb.Model(network(), Task((3, 9, 9), 10)),
            advice=False,
            seconds=0.1,
        )
