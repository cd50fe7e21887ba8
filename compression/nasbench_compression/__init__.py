"""Making networks smaller: pruning, decomposition, distillation, quantization and compilation.

A `Step` turns one network into a smaller one, a `Recipe` is a list of steps, and a `Backend` makes the artefact that
is deployed. Works on any `torch.nn.Module` that takes images; knows no search space and no training loop.
"""

from nasbench_compression.compilation.backend import Backend, CompiledModel
from nasbench_compression.recipe import Recipe, StepResult
from nasbench_compression.registry import BACKENDS, STEPS, backends, get_backend, get_step, steps
from nasbench_compression.step import Context, Finetune, Loss, OnBatch, Step

__all__ = [
    "BACKENDS",
    "STEPS",
    "Backend",
    "CompiledModel",
    "Context",
    "Finetune",
    "Loss",
    "OnBatch",
    "Recipe",
    "Step",
    "StepResult",
    "backends",
    "get_backend",
    "get_step",
    "steps",
]
