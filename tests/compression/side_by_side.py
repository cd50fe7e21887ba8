"""Every block module, and networks of five spaces, as one network each, so that a slow compiler runs twice only."""

import torch
from test_prune_spaces import TASK, build
from torch import Tensor, nn

from search_spaces.blocks.registry import BLOCKS

SPACES = ("mobile", "resnet", "nasbench201", "darts", "vit")


class SideBySide(nn.Module):
    """Parts that see the same images; (n, c, h, w) to (n, parts * outputs)."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([part(images) for part in self.parts], dim=1)


def blocks() -> tuple[list[str], nn.Module]:
    """Names of all block modules, and a network of ten outputs for each."""
    return list(BLOCKS), SideBySide([build("block", name) for name in BLOCKS]).eval()


def spaces() -> tuple[list[str], nn.Module]:
    """Names of spaces, and a network of ten outputs for each."""
    return list(SPACES), SideBySide([build("space", name) for name in SPACES]).eval()


def largest_errors(names: list[str], network: nn.Module, compiled, *, count: int = 3) -> dict[str, float]:
    """For each part, how far its logits are from eager, as a share of the largest of them or of one."""
    images = torch.randn(count, *TASK.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(images).view(count, len(names), -1)
    logits = torch.from_numpy(compiled(images.numpy())).view(wanted.shape)
    return {
        name: float((logits[:, i] - wanted[:, i]).abs().max() / wanted[:, i].abs().max().clamp(min=1))
        for i, name in enumerate(names)
    }
