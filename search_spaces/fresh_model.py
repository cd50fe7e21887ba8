"""A network whose weights only a seed decides."""

from __future__ import annotations

import torch
from torch import nn

from search_spaces import Architecture, SearchSpace, Task


def fresh_model(space: SearchSpace, arch: Architecture, task: Task | None, seed: int) -> nn.Module:
    """A new network whose weights only `seed` decides; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # A space of a user may build without a task.
        return space.build(arch, task)  # type: ignore[arg-type]  # see above
