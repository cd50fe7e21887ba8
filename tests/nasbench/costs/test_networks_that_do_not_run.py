"""What a network costs that does not run on one image."""

import pytest
from torch import nn

from nasbench.costs.cost import cost, counts
from nasbench.costs.memory import peak_activation_bytes
from nasbench_registry import UserError
from search_spaces import Task

TASK = Task((3, 16, 16), 10)


class Masked(nn.Module):
    """Takes two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x, mask=None):
        return self.conv(x * mask)


@pytest.mark.parametrize("count", [cost, counts, peak_activation_bytes])
@pytest.mark.parametrize("network", [Masked(), nn.Conv2d(4, 8, 3), nn.Linear(3, 5)], ids=["mask", "channels", "width"])
def test_it_is_refused_in_one_sentence(count, network) -> None:
    with pytest.raises(UserError, match=r"does not run on one image of shape \(3, 16, 16\) \((Type|Runtime)Error"):
        count(network, TASK)
