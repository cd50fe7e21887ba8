"""Energy from the counters of a processor, read from a tree of files as Linux shows it."""

import os

import numpy as np
import pytest
import torch
from tests_support import experiment_of, trained_of

from nasbench.costs.cost import cost
from nasbench.devices.device import Device
from nasbench.devices.energy import Nvml, Rapl, measure_energy
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.trial import Trial
from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench_registry import UserError
from search_spaces import get_space

RANGE = 262_143_328_850  # microjoules, of a desktop processor


class Machine:
    """A power zone tree with two packages, a zone inside the first, the platform, and a second view of the first."""

    def __init__(self, root, start=(1_000, 2_000)):
        self.root = root
        self.counters = dict(zip(("intel-rapl:0", "intel-rapl:1"), start, strict=True))
        (root / "intel-rapl").mkdir()  # the control type itself has neither name nor counter
        for zone, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:2", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        ):
            folder = root / zone
            folder.mkdir()
            (folder / "name").write_text(f"{name}\n")
            (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
            (folder / "energy_uj").write_text("123\n")
        self.use(0)

    def use(self, microjoules):
        """Each package uses so much; a counter begins again at zero when it has reached its range."""
        for zone, value in self.counters.items():
            self.counters[zone] = (value + microjoules) % RANGE
            (self.root / zone / "energy_uj").write_text(f"{self.counters[zone]}\n")


@pytest.mark.parametrize("start", [(1_000, 2_000), (RANGE - 5_000, 7)])
def test_packages_are_added_up_also_past_the_end_of_their_range(tmp_path, start) -> None:
    machine, meter = Machine(tmp_path, start), Rapl(tmp_path)
    assert meter.why_unavailable() is None
    before = meter.read()
    machine.use(40_000)
    assert meter.spent_mj(before, meter.read()) == 2 * 40.0


@pytest.mark.parametrize("start", [(1_000, 2_000), (RANGE - 5_000, 7)])
def test_energy_of_a_call(tmp_path, start) -> None:
    """Every call uses 1.5 mJ in each of two packages, and the calls that warm up are not counted."""
    machine, calls = Machine(tmp_path, start), []

    def call() -> None:
        calls.append(1)
        machine.use(1_500)

    energy = measure_energy(call, Rapl(tmp_path), seconds=0.05, warmup=3)
    assert energy.energy_mj == energy.low == energy.high == pytest.approx(3.0)
    assert energy.calls == len(calls) - 3 >= 6
    assert energy.power_w == pytest.approx(energy.calls * 3.0 / 1000 / energy.seconds)
    assert "idle power" in energy.meter and energy.to_json()["energy_mj"] == energy.energy_mj


def test_parts_that_differ_are_told(tmp_path) -> None:
    """The machine uses more and more: the interval spans the parts, the mean lies inside."""
    machine, calls = Machine(tmp_path), []

    def call() -> None:
        calls.append(1)
        machine.use(1_000 * len(calls))

    energy = measure_energy(call, Rapl(tmp_path), seconds=0.0, warmup=0)  # one call in each of six parts
    assert (energy.low, energy.energy_mj, energy.high) == (2.0, 2 * 3.5, 12.0)


def test_a_counter_that_stands_still(tmp_path) -> None:
    Machine(tmp_path)
    with pytest.raises(UserError, match="did not move"):
        measure_energy(lambda: None, Rapl(tmp_path), seconds=0.01)


def test_machines_without_a_counter(tmp_path) -> None:
    meter = Rapl(tmp_path / "nothing")
    assert "no energy counter" in meter.why_unavailable()
    with pytest.raises(UserError, match="no energy counter"):
        measure_energy(lambda: None, meter)
    Machine(tmp_path)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("")
    assert "cannot be read" in Rapl(tmp_path).why_unavailable()


@pytest.mark.only_where(os.geteuid() != 0)  # root may read everything
def test_a_counter_for_root_only(tmp_path) -> None:
    Machine(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").chmod(0)
    assert "read by root only; run: sudo chmod" in Rapl(tmp_path).why_unavailable()


@pytest.mark.only_where(not torch.cuda.is_available())
def test_no_gpu_no_counter() -> None:
    assert "finds no GPU" in Nvml().why_unavailable()


OBJECTIVES = [
    {"metric": "val_acc_pct", "goal": "max"},
    {"metric": "energy_mj", "goal": "min"},
    {"metric": "peak_memory_bytes", "goal": "min"},
]


def energy_experiment(**changes):
    return parse_experiment(experiment_of(objectives=OBJECTIVES, reward={"name": "scalar"}, **changes))


def test_a_search_may_read_energy_and_peak_memory(tmp_path, monkeypatch) -> None:
    """Every inference uses 1.5 mJ in each of two packages: the counters are files, all else is what a search runs."""
    machine = Machine(tmp_path)
    monkeypatch.setattr("nasbench.evaluators.costs.ENERGY_S", 0.02)
    monkeypatch.setattr(Rapl.__init__, "__defaults__", (tmp_path,))
    real = Device._call

    def call(self, compiled, task):
        run = real(self, compiled, task)
        return lambda: (run(), machine.use(1_500))

    monkeypatch.setattr(Device, "_call", call)
    experiment = energy_experiment(executor={"name": "inline"})
    prepared = prepare(experiment)
    arch = prepared.space.sample(np.random.default_rng(0))
    outcome = evaluate(trained_of(experiment), Trial(0, arch, None, 1))
    assert outcome.status == "done", outcome.error
    assert outcome.metrics["energy_mj"] == pytest.approx(3.0)
    task = prepared.required.data.task
    assert outcome.metrics["peak_memory_bytes"] == cost(prepared.space.build(arch, task), task).peak_activation_bytes
    with pytest.raises(UserError, match="energy_mj is counted for the whole machine, and executor.workers is 2"):
        prepare(energy_experiment(executor={"name": "ray", "workers": 2}))


def test_an_experiment_without_a_counter_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Rapl.__init__, "__defaults__", (tmp_path / "none",))
    with pytest.raises(UserError, match="energy_mj cannot be measured: there is no energy counter of a processor"):
        prepare(energy_experiment())
    file = tmp_path / "latencies.csv"
    space = get_space("mobile", widths=[8, 16], layers=1)
    file.write_text(f"architecture,latency_ms\n{space.format(space.sample(np.random.default_rng(0)))},1\n")
    with pytest.raises(UserError, match="device 'table' tells latencies only"):
        prepare(energy_experiment(device={"name": "table", "file": str(file)}))
