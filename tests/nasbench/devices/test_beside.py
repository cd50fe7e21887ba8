"""Latencies that are measured later are those of the calibration, whatever else the machine does meanwhile."""

import numpy as np
import pytest
from busy_device import BusyDevice

from nasbench.devices.beside import Anchor, Quiet
from nasbench.devices.device import Device
from nasbench.devices.measure import ALL_CALLS, BESIDE, QUIETEST, TOLD
from nasbench.devices.table import TableDevice
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

TASK = Task((1, 8, 8), 10)
MOBILE = get_space("mobile", widths=[8, 16, 32], layers=1)


def networks(device, count):
    """Compiled networks of different latencies."""
    archs = [MOBILE.sample(np.random.default_rng(seed)) for seed in range(count)]
    return [device.candidate(MOBILE, arch, fresh_model(MOBILE, arch, TASK, 0).eval(), TASK) for arch in archs]


@pytest.fixture
def calibrated():
    """A machine on which nothing else ran when six networks were measured, and these networks."""
    device = BusyDevice()
    compiled = networks(device, 6)
    measured = device.measure_quietly([(model, TASK) for model in compiled], budget_s=0.02, seed=0)
    assert [latency.median for latency in measured] == pytest.approx([model.latency_ms for model in compiled])
    assert {latency.estimator for latency in measured} == {QUIETEST}
    return device, compiled, [latency.median for latency in measured]


@pytest.mark.parametrize(("busy", "slower"), [(False, 1.0), (True, 1.0), (False, 1.3), (True, 1.3)])
def test_neither_other_work_nor_a_slower_clock_changes_what_is_measured_beside_anchors(calibrated, busy, slower):
    device, compiled, known_ms = calibrated
    device.machine_state.busy, device.machine_state.slower = busy, slower
    anchors = [Anchor(compiled[number], known_ms[number]) for number in (1, 3, 5)]
    named = {str(number): model for number, model in enumerate(compiled)}
    together = device.measure_beside(named, TASK, anchors, 0.02)
    for number, model in enumerate(compiled):
        alone = device.measure(model, TASK, 0.02, anchors)
        for latency in (together.latencies[str(number)], alone):
            assert latency.median == pytest.approx(known_ms[number])
            assert latency.low <= latency.median <= latency.high and latency.low <= known_ms[number] * (1 + 1e-9)
            assert latency.estimator == BESIDE and latency.slowdown == pytest.approx(slower)
        if number:
            ratio = together.ratios[str(number)]
            assert ratio.ratio == pytest.approx(known_ms[number] / known_ms[0])
            assert ratio.low <= ratio.ratio <= ratio.high
    # All calls, without anchors, are what the machine gave.
    plain = device.measure_beside(named, TASK, (), 0.02).latencies
    for number, latency in enumerate(plain.values()):
        assert latency.estimator == ALL_CALLS and latency.slowdown is None
        times = slower * (10 + known_ms[number] if busy else 1)
        assert latency.median == pytest.approx(times * known_ms[number])


def test_the_interval_holds_what_was_known_in_95_of_100_runs():
    """Turns of all models meet the same noise of their round, and each call has some of its own."""
    rng, runs, held = np.random.default_rng(0), 400, 0
    for _ in range(runs):
        rounds = np.exp(rng.exponential(0.3, 60) * (rng.random(60) < 0.7))
        model, anchor = (
            [known * factor * np.exp(rng.normal(0, 0.03, 5)) for factor in rounds] for known in (0.002, 0.003)
        )
        ratio = Quiet.of(model).over(Quiet.of(anchor))
        held += ratio.low <= 2 / 3 <= ratio.high
    assert held / runs >= 0.95 - 6 * np.sqrt(0.95 * 0.05 / runs)


def test_where_a_device_tells_latencies_no_anchor_is_timed(tmp_path):
    text = MOBILE.format(MOBILE.sample(np.random.default_rng(0)))
    (tmp_path / "latencies.csv").write_text(f"architecture,latency_ms\n{text},4.5\n")
    device = TableDevice(file=str(tmp_path / "latencies.csv"))
    compiled = device.candidate(MOBILE, MOBILE.parse(text), fresh_model(MOBILE, MOBILE.parse(text), TASK, 0), TASK)
    comparison = device.measure_beside({"one": compiled}, TASK, [Anchor(compiled, 9.0)])
    assert (
        comparison.latencies["one"].median == 4.5
        and comparison.latencies["one"].estimator == TOLD
        and comparison.ratios == {}
    )


def test_real_networks_are_measured_beside_anchors():
    device = Device()
    compiled = networks(device, 4)
    anchors = [Anchor(model, latency_ms) for model, latency_ms in zip(compiled, (1.0, 2.0, 3.0), strict=False)]
    latency = device.measure(compiled[3], TASK, 0.02, anchors)
    assert 0 < latency.low <= latency.median <= latency.high and latency.median <= latency.p95
    assert latency.repeats >= 2 and latency.slowdown > 0 and latency.runtime.startswith("eager")
