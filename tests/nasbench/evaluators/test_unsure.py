"""Where a search does not believe its latency predictor: it measures, and the predictor learns from that."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import yaml
from bounds import check_below
from tests_support import experiment_of, trained_of

from nasbench.devices.table import TableDevice
from nasbench.evaluators.costs import CandidateCosts
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.latency import REFIT, LatencyEstimator, unsure
from nasbench.evaluators.trial import Trial
from nasbench.experiment.loading import parse_experiment
from nasbench.latency.calibrate import calibrate
from nasbench.latency.calibration import Calibration
from nasbench.objectives.objective import Objective
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

TASK = Task((1, 8, 8), 10)
OPTIONS = {"widths": [8, 16], "layers": 1, "blocks": ["convolution", "depthwise_separable", "inverted_residual"]}
MOBILE = get_space("mobile", **OPTIONS)
LATENCY = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]


def limit(value, metric="latency_ms", goal="min"):
    return [Objective(metric=metric, goal=goal, limit=value)]


@pytest.mark.parametrize(
    ("std_ms", "objectives", "most_pct", "expected"),
    [
        (0.2, [], 25.0, False),
        (0.3, [], 25.0, True),
        (0.3, [], None, False),
        (0.1, limit(1.19), 25.0, True),  # within 1.96 deviations of 1 ms
        (0.1, limit(1.19), None, False),
        (0.1, limit(1.21), 25.0, False),
        (0.1, limit(0.81), 25.0, True),
        (0.1, limit(4000 / 1.19, "throughput_per_s", "max"), 25.0, True),  # 4 images in 1.19 ms
        (0.1, limit(4000 / 1.21, "throughput_per_s", "max"), 25.0, False),
        (0.1, limit(1.0, "params"), 25.0, False),
    ],
)
def test_when_a_prediction_is_not_believed(std_ms, objectives, most_pct, expected):
    assert unsure(1.0, std_ms, 4, objectives, most_pct) is expected


@pytest.fixture
def table(tmp_path):
    """Latencies of every network, which no price of work explains: one block is slow on this device."""
    archs = {MOBILE.canonical(MOBILE.sample(np.random.default_rng(seed))) for seed in range(400)}
    rng = np.random.default_rng(0)
    latencies = {MOBILE.format(arch): 1.0 + 0.3 * sum(arch.picks) + rng.uniform(0, 0.01) for arch in archs}
    file = tmp_path / "latencies.csv"
    file.write_text("architecture,latency_ms\n" + "".join(f"{text},{ms}\n" for text, ms in latencies.items()))
    return TableDevice(file=str(file)), latencies


def options_for(device, **changes):
    return {
        "space": {"name": "mobile", **OPTIONS},
        "device": {"name": "table", "file": device.file, "samples": 10, "predictor": "gp", "unsure_pct": 0.01},
        "objectives": LATENCY,
        "reward": {"name": "scalar"},
        "controller": {"name": "random"},
        "search": {"candidates": 14},
    } | changes


def travelled(calibration):
    """As it is read from a run folder."""
    return Calibration.from_json(json.loads(json.dumps(calibration.to_json())))


def test_the_predictor_learns_from_what_was_measured(table):
    device, latencies = table
    calibration = calibrate(MOBILE, TASK, device, samples=10, seed=0, predictor="gp")
    estimator = LatencyEstimator(MOBILE, TASK, device, travelled(calibration))
    others = [text for text in latencies if text not in calibration.architectures]
    learned = tuple((text, latencies[text]) for text in others[:40])
    errors = {}
    for measured in ((), learned):
        fitted = estimator.predictor(measured)
        guesses = {}
        for text in others[40:80]:
            arch = MOBILE.parse(text)
            guesses[text] = fitted.predict(arch, fresh_model(MOBILE, arch, TASK, 0), TASK)[0]
        errors[len(measured)] = np.median([abs(guesses[text] / latencies[text] - 1) for text in guesses])
    check_below("error with what was learned, to that without", errors[40] / errors[0], mean=0.074, sd=0.029, most=1)
    # A candidate is told the prediction of the predictor that has learned, and then what was looked up.
    arch = MOBILE.parse(others[50])
    costs = CandidateCosts(device, frozenset({"latency_ms"}), estimator, unsure_pct=0.01)
    metrics = costs(MOBILE, arch, fresh_model(MOBILE, arch, TASK, 0), TASK, learned)
    assert metrics["latency_ms"] == latencies[others[50]] and "latency_std_ms" not in metrics
    expected = estimator.predictor(learned).predict(arch, fresh_model(MOBILE, arch, TASK, 0), TASK)[0]
    assert metrics["latency_predicted_ms"] == expected
    assert metrics["throughput_per_s"] == 1000 / metrics["latency_ms"]


def test_nothing_is_measured_on_another_machine_or_where_nothing_is_known(table):
    device, latencies = table
    calibration = calibrate(MOBILE, TASK, device, samples=10, seed=0, predictor="gp")
    estimator = LatencyEstimator(MOBILE, TASK, device, calibration)
    text = next(iter(latencies))
    model = fresh_model(MOBILE, MOBILE.parse(text), TASK, 0)
    compiled = functools.partial(device.candidate, MOBILE, MOBILE.parse(text), model, TASK)
    assert estimator.measured_ms(compiled) == latencies[text]
    elsewhere = dataclasses.replace(calibration, protocol={**calibration.protocol, "device": "another machine"})
    assert LatencyEstimator(MOBILE, TASK, device, elsewhere).measured_ms(compiled) is None
    rng = np.random.default_rng(0)
    unknown = next(arch for arch in iter(lambda: MOBILE.sample(rng), None) if not known(arch, device))
    model = fresh_model(MOBILE, unknown, TASK, 0)
    costs = CandidateCosts(device, frozenset({"latency_ms"}), estimator, unsure_pct=0.01)(MOBILE, unknown, model, TASK)
    assert costs["latency_std_ms"] > 0 and "latency_predicted_ms" not in costs


def known(arch, device):
    return MOBILE.canonical(arch) in {MOBILE.canonical(known_arch) for known_arch in device.known(MOBILE)}


def test_a_candidate_that_breaks_a_limit_by_measurement_is_told_apart_and_remembered(table):
    device, latencies = table
    calibration = calibrate(MOBILE, TASK, device, samples=10, seed=0, predictor="gp")
    text, slowest = max(latencies.items(), key=lambda item: item[1])
    objectives = [LATENCY[0], {**LATENCY[1], "limit": slowest - 0.001}]
    experiment = parse_experiment(experiment_of(**options_for(device, objectives=objectives)))
    outcome = evaluate(trained_of(experiment, calibration), Trial(0, MOBILE.parse(text), None, 1))
    assert outcome.status == "infeasible"
    assert outcome.metrics["latency_ms"] == slowest and "latency_predicted_ms" in outcome.metrics


def test_a_search_measures_learns_and_reports(nasbench, table, tmp_path):
    device, _ = table
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump(experiment_of(**options_for(device))))
    code, out, err = nasbench("search", "asked.yaml", "--run", "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert len(report["candidates"]) == 14
    unsure_ones = {row["id"]: row for row in report["predictor"]["unsure"]}
    looked_up = [candidate for candidate in report["candidates"] if "latency_predicted_ms" in candidate["metrics"]]
    assert {candidate["id"] for candidate in looked_up} == set(unsure_ones) and len(looked_up) >= 10
    for candidate in looked_up:
        assert candidate["metrics"]["latency_ms"] == unsure_ones[candidate["id"]]["measured_ms"]
        assert candidate["metrics"]["latency_ms"] == pytest.approx(latencies_of(device, candidate["architecture"]))
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{len(looked_up)} candidates were measured during the search" in page
    assert "measured during the search" in page.split("was fitted again")[1]  # the points of the plot
    # The last one was predicted by a fit that knew those before it, five at a time.
    calibration = Calibration.from_json(json.loads((tmp_path / "run" / "predictor.json").read_text()))
    estimator = LatencyEstimator(MOBILE, TASK, device, calibration)
    learned = tuple(
        (candidate["architecture"], candidate["metrics"]["latency_ms"])
        for candidate in looked_up[: (len(looked_up) - 1) // REFIT * REFIT]
    )
    last = looked_up[-1]
    arch = MOBILE.parse(last["architecture"])
    model = fresh_model(MOBILE, arch, TASK, 0)
    assert estimator.predictor(learned).predict(arch, model, TASK)[0] == pytest.approx(
        last["metrics"]["latency_predicted_ms"]
    )


def latencies_of(device, text):
    compiled = device.candidate(MOBILE, MOBILE.parse(text), fresh_model(MOBILE, MOBILE.parse(text), TASK, 0), TASK)
    return device.measure(compiled, TASK).median
