from nasbench.latency.predictors.contract import LatencyPredictor as LatencyPredictor, Networks as Networks
from nasbench.latency.predictors.registry import PREDICTORS as PREDICTORS, get_predictor as get_predictor
from nasbench.latency.predictors.validation import HeldOut as HeldOut
