"""Experiment files."""

from nasbench.config.experiment import Experiment
from nasbench.config.loading import key_value, load_experiment, override, parse_experiment, read_yaml

__all__ = ["Experiment", "key_value", "load_experiment", "override", "parse_experiment", "read_yaml"]
