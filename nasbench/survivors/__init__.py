"""Survivors of a search, from the trained network to the artefact."""

from nasbench.survivors.gate import NO_GATE
from nasbench.survivors.stages import Stage, measure_stages, run_recipe, save_stages
from nasbench.survivors.workbench import Workbench, judge

__all__ = ["NO_GATE", "Stage", "Workbench", "judge", "measure_stages", "run_recipe", "save_stages"]
