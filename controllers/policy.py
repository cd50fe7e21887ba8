"""The LSTM policy of reinforcement-learning controllers (Zoph & Le 2017, arXiv 1611.01578)."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import safetensors.torch
import torch
from torch import nn

from search_spaces import SearchSpace


class LSTMPolicy(nn.Module):
    """A distribution over architectures, one decision after the other.

    Each step reads the pick before it and gives the logits of the options of one decision, so a later choice
    depends on all the earlier ones.

    Args:
        space: whose decisions it takes.
        hidden: size of the LSTM and of the embedding of a pick.
    """

    starts: torch.Tensor

    def __init__(self, space: SearchSpace, hidden: int) -> None:
        super().__init__()
        sizes = [len(decision.options) for decision in space.decisions]
        # One row for the start, then one for every option of every decision but the last, which nobody reads.
        self.register_buffer("starts", torch.tensor(np.cumsum([1, *sizes[:-1]]), dtype=torch.int64), persistent=False)
        self.embedding = nn.Embedding(1 + sum(sizes), hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)  # near zero, so that the first architectures are near uniform

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        """The picks of one architecture, drawn from the policy with `rng`."""
        picks: list[int] = []
        memory: tuple[torch.Tensor, torch.Tensor] | None = None
        row = 0
        with torch.no_grad():
            for step, head in enumerate(self.heads):
                output, memory = self.lstm(self.embedding(torch.tensor([[row]])), memory)
                probabilities = torch.softmax(head(output[0, 0]).double(), dim=0).numpy()
                pick = int(np.searchsorted(np.cumsum(probabilities), rng.random() * probabilities.sum()))
                pick = min(pick, len(probabilities) - 1)
                picks.append(pick)
                row = int(self.starts[step]) + pick
        return tuple(picks)

    def forward(self, picks: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The log-probability of an architecture and the sum of the entropies of its decisions, both scalars."""
        chosen = torch.tensor(list(picks))
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), (self.starts + chosen)[:-1]])
        outputs, _ = self.lstm(self.embedding(rows[None]))
        log_probability, entropy = torch.zeros(()), torch.zeros(())
        for step, head in enumerate(self.heads):
            logs = torch.log_softmax(head(outputs[0, step]), dim=0)
            log_probability = log_probability + logs[chosen[step]]
            entropy = entropy - (logs.exp() * logs).sum()
        return log_probability, entropy


def tensors_to_text(tensors: dict[str, torch.Tensor]) -> str:
    """Tensors as one JSON string, exact to the last bit."""
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    return base64.b64encode(safetensors.torch.save(copies)).decode("ascii")


def text_to_tensors(text: str) -> dict[str, torch.Tensor]:
    """The tensors that `tensors_to_text` wrote."""
    return safetensors.torch.load(base64.b64decode(text))
