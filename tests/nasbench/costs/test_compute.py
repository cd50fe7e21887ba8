"""Training compute by both methods, and the peak that one of them needs."""

import json

import pytest
import torch

from nasbench.costs.compute import compute_by_operations, compute_by_time
from nasbench.devices.peak_compute import measure_peak_compute
from nasbench.experiment.peak_compute import keep_peak_compute, peak_compute_of
from nasbench.experiment.stored import start_run
from nasbench.report import build_report
from nasbench.report.accounting import compute
from nasbench.report.cost import cost_rows
from nasbench.search.config import ExecutorConfig
from nasbench.search.record import RecordedCandidate
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError


class TestVgg16:
    """The worked example of the appendix of Amodei & Hernandez 2018, on the training of Simonyan & Zisserman 2014."""

    def test_by_operations(self) -> None:
        by_operations = compute_by_operations(macs=16e9, samples=1.2e6, epochs=74)
        assert by_operations.operations / 1e15 == pytest.approx(8524, abs=1)
        assert by_operations.pfs_days == pytest.approx(0.098, abs=0.001)

    def test_by_time(self) -> None:
        """The printed factors give 8,725 PF and 0.101; what is printed beside them is 10,000 PF and 0.12."""
        by_time = compute_by_time(4 * 15 * 86_400, 5.1e12)
        assert by_time.operations / 1e15 == pytest.approx(8725, abs=1)
        assert by_time.pfs_days == pytest.approx(0.101, abs=0.001)
        assert by_time.pfs_days == pytest.approx(0.12, rel=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compute_by_operations(-1, 10, 1), "macs is -1"),
        (lambda: compute_by_operations(1, float("nan"), 1), "samples is nan"),
        (lambda: compute_by_time(1.0, float("inf")), "peak_flops_per_s is inf"),
        (lambda: compute_by_time(1.0, 1e12, 33), "utilization is 33; give a share from 0 to 1"),
    ],
)
def test_mistakes(call, message) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_peak_is_measured_and_leaves_the_machine_as_it_was() -> None:
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    peak = measure_peak_compute(threads=2, dtype=torch.bfloat16, seed=5)
    assert (peak.threads, peak.precision, peak.seed) == (2, "bfloat16", 5)
    # A matrix product reaches more than a scalar loop of the slowest core, and less than any processor has.
    assert 1e8 < peak.flops_per_s < 1e16 and peak.products >= 20
    assert torch.equal(torch.get_rng_state(), generator) and torch.get_num_threads() == threads


def candidate(number, seconds, operations, cached=False):
    return RecordedCandidate(
        number,
        None,
        None,
        status="done",
        metrics={"training_operations": operations},
        seconds=seconds + 1,
        training_seconds=seconds,
        cached=cached,
        finished_s=10.0,
    )


class TestAccounting:
    CANDIDATES = (candidate(0, 3.0, 4e12), candidate(1, 5.0, 2e12), candidate(2, 0.5, 9e12, cached=True))

    def test_both_methods_and_what_makes_them_equal(self) -> None:
        figures = compute(self.CANDIDATES, [], ExecutorConfig(), {"flops_per_s": 3e12})
        assert figures["operations"] == 6e12
        assert figures["training_device_seconds"] == 8.0
        assert figures["measured_utilization"] == pytest.approx(0.25)
        assert figures["pfs_days_by_time"] == pytest.approx(8 * 3e12 * 0.33 / 8.64e19)
        equal = compute_by_time(8.0, 3e12, figures["measured_utilization"])
        assert equal.pfs_days == pytest.approx(figures["pfs_days"])

    def test_candidates_that_share_a_gpu_share_its_seconds(self) -> None:
        shared = ExecutorConfig(name="ray", workers=2, gpus=0.5)
        figures = compute(self.CANDIDATES, [], shared, {"flops_per_s": 3e12})
        assert figures["training_device_seconds"] == 4.0
        assert figures["measured_utilization"] == pytest.approx(0.5)

    @pytest.mark.parametrize("peak", [None, {"flops_per_s": None, "reason": "elsewhere"}])
    def test_without_a_peak_there_is_one_method(self, peak) -> None:
        figures = compute(self.CANDIDATES, [], ExecutorConfig(), peak)
        assert figures["pfs_days"] > 0
        assert figures["pfs_days_by_time"] is figures["measured_utilization"] is None
        shown = {name for name, _, _ in cost_rows({"compute": figures})}
        assert "compute, by operations" in shown and "compute, by time" not in shown

    def test_the_page_shows_both(self) -> None:
        peak = {"flops_per_s": 3e12, "size": 512, "precision": "float32", "device": "a <CPU>"}
        rows = cost_rows({"compute": compute(self.CANDIDATES, [], ExecutorConfig(), peak)})
        shown = {name: f"{value}: {meaning}" for name, value, meaning in rows}
        assert "3.00 TFLOP/s" in shown["compute, by time"] and "0.33, assumed" in shown["compute, by time"]
        used = shown["used of the best"]
        assert used.startswith("25 %: ") and "512x512" in used and "a <CPU>" in used


def test_a_run_measures_its_peak_once(small, tmp_path) -> None:
    experiment = small()
    folder = RunFolder(tmp_path / "run")
    start_run(folder, experiment, tmp_path, "test")
    assert build_report(folder)["compute"]["peak"] is None
    keep_peak_compute(experiment, folder)
    kept = json.loads(folder.peak.read_text())
    assert kept["precision"] == "float32" and kept["seed"] == experiment.seed
    keep_peak_compute(experiment, folder)  # a resumed run
    assert json.loads(folder.peak.read_text()) == kept == build_report(folder)["compute"]["peak"]


def test_machines_elsewhere_are_not_measured_here(small) -> None:
    experiment = small(executor={"name": "ray", "workers": 2}, ray={"address": "auto"})
    peak = peak_compute_of(experiment)
    assert peak["flops_per_s"] is None and "the cluster at auto" in peak["reason"]
