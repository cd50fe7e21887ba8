"""What a network costs: on paper, measured, and predicted."""

from nasbench.hardware.calibrate import calibrate
from nasbench.hardware.calibration import Calibration, NetworkPredictor
from nasbench.hardware.compare import Comparison, Ratio
from nasbench.hardware.compute import Compute, compute_by_operations, compute_by_time
from nasbench.hardware.cost import Cost, Counts, cost, counts
from nasbench.hardware.device import Device, processor_name
from nasbench.hardware.devices import DEVICES, NotInTable, get_device
from nasbench.hardware.energy import Energy
from nasbench.hardware.measure import Latency
from nasbench.hardware.predictors import PREDICTORS, LatencyPredictor
from nasbench.hardware.transfer import TransferPredictor
from nasbench.hardware.work import WORK, work

__all__ = [
    "DEVICES",
    "PREDICTORS",
    "WORK",
    "Calibration",
    "Comparison",
    "Compute",
    "Cost",
    "Counts",
    "Device",
    "Energy",
    "Latency",
    "LatencyPredictor",
    "NetworkPredictor",
    "NotInTable",
    "Ratio",
    "TransferPredictor",
    "calibrate",
    "compute_by_operations",
    "compute_by_time",
    "cost",
    "counts",
    "get_device",
    "processor_name",
    "work",
]
