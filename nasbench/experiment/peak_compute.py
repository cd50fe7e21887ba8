"""The peak compute of the device that trains the candidates, measured once a run."""

from __future__ import annotations

from typing import Any

import torch

from nasbench.devices.peak_compute import measure_peak_compute
from nasbench.experiment.experiment import Experiment
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder
from nasbench.training.precision import autocast_type


def keep_peak_compute(experiment: Experiment, folder: RunFolder) -> None:
    """Measure the peak of a run, see `peak_compute_of`, and keep it in its folder, unless an earlier process did."""
    if not folder.peak.exists():
        write_json(folder.peak, peak_compute_of(experiment))


def peak_compute_of(experiment: Experiment) -> dict[str, Any]:
    """The peak of what trains one candidate: a GPU, or so many threads of this machine, in the training's precision.

    Returns:
        See `PeakCompute` of devices; on a cluster elsewhere `flops_per_s` is None, and `reason` says why.
    """
    if experiment.ray.address is not None:
        reason = f"candidates are trained on the cluster at {experiment.ray.address}, whose machines were not measured"
        return {"flops_per_s": None, "reason": reason}
    device = "cuda" if experiment.executor.gpus > 0 else "cpu"
    dtype = autocast_type(experiment.training.precision, torch.device(device)) or torch.float32
    return measure_peak_compute(
        device, threads=experiment.executor.threads, dtype=dtype, seed=experiment.seed
    ).to_json()
