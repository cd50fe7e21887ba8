"""Making networks smaller: pruning, decomposition, distillation, quantization and compilation.

A `Step` turns one network into a smaller one, a `Recipe` is a list of steps, and a `Backend` makes the artefact that
is deployed. Works on any `torch.nn.Module` that takes images; knows no search space and no training loop.
"""

from nasbench_registry.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
