"""Experiment files."""

from nasbench.config.experiment import Experiment
from nasbench.config.loading import load_experiment, parse_experiment, read_yaml

__all__ = ["Experiment", "load_experiment", "parse_experiment", "read_yaml"]
