"""What a network costs: on paper, measured, and predicted."""

from nasbench.hardware.calibrate import calibrate
from nasbench.hardware.cost import Cost, cost
from nasbench.hardware.device import Device, processor_name
from nasbench.hardware.measure import Latency
from nasbench.hardware.predictor import Calibration, LatencyPredictor
from nasbench.hardware.work import WORK, work

__all__ = [
    "WORK",
    "Calibration",
    "Cost",
    "Device",
    "Latency",
    "LatencyPredictor",
    "calibrate",
    "cost",
    "processor_name",
    "work",
]
