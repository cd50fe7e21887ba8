"""The LSTM policy of reinforcement-learning controllers (Zoph & Le 2017, arXiv 1611.01578)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import nn

from search_spaces import Architecture, NoValidArchitecture, SearchSpace
from search_spaces.core import MAX_TRIES


class LSTMPolicy(nn.Module):
    """A distribution over architectures, one decision after the other.

    Each step reads the pick before it and gives the logits of the options of one decision, so a later choice
    depends on all the earlier ones.

    Args:
        space: Search space whose decisions it takes.
        hidden: Size of the LSTM and of the embedding of a pick.
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
        log_probabilities, entropies = self.many([picks])
        return log_probabilities[0], entropies[0]

    def many(self, picks: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` for several architectures at once; both results have the shape (n,)."""
        chosen = torch.tensor([list(row) for row in picks])
        start = torch.zeros(len(chosen), 1, dtype=torch.int64)
        outputs, _ = self.lstm(self.embedding(torch.cat([start, (self.starts + chosen)[:, :-1]], dim=1)))
        log_probability, entropy = torch.zeros(len(chosen)), torch.zeros(len(chosen))
        for step, head in enumerate(self.heads):
            logs = torch.log_softmax(head(outputs[:, step]), dim=1)
            log_probability = log_probability + logs.gather(1, chosen[:, step, None])[:, 0]
            entropy = entropy - (logs.exp() * logs).sum(dim=1)
        return log_probability, entropy


class LSTMLearner(LSTMPolicy):
    """An LSTM policy with the Adam that trains it.

    Args:
        space: Search space whose decisions it takes.
        hidden: Size of the LSTM and of the embedding of a pick.
        learning_rate: Learning rate of Adam.
        seed: Random seed of the first weights; the global generator stays as it was.
    """

    def __init__(self, space: SearchSpace, hidden: int, learning_rate: float, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(space, hidden)
        self.adam = torch.optim.Adam(self.parameters(), lr=learning_rate)

    def descend(self, loss: torch.Tensor) -> None:
        """One step of Adam down the gradient of `loss`, a scalar."""
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.adam.step()

    def ascend(self, picks: Sequence[int], advantage: float, entropy: float) -> None:
        """One step of Adam up the gradient of advantage * log-probability + entropy * entropies."""
        log_probability, entropies = self(picks)
        self.descend(-advantage * log_probability - entropy * entropies)

    def to_json(self) -> dict[str, Any]:
        """Weights and the state of Adam as text."""
        moments = {
            f"{index}.{key}": value
            for index, state in self.adam.state_dict()["state"].items()
            for key, value in state.items()
        }
        return {"weights": tensors_to_text(self.state_dict()), "adam": tensors_to_text(moments)}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Restore what `to_json` gave."""
        self.load_state_dict(text_to_tensors(state["weights"]))
        adam = self.adam.state_dict()
        adam["state"] = {}
        for key, value in text_to_tensors(state["adam"]).items():
            index, name = key.split(".", 1)
            adam["state"].setdefault(int(index), {})[name] = value
        self.adam.load_state_dict(adam)


class Sampler(Protocol):
    """A policy, whatever stands behind it."""

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        """The picks of one architecture."""


def draw(policy: Sampler, space: SearchSpace, rng: np.random.Generator) -> Architecture:
    """A valid architecture from the policy.

    Raises:
        NoValidArchitecture: None of MAX_TRIES draws was valid.
    """
    for _ in range(MAX_TRIES):
        arch = Architecture(space.name, policy.sample(rng))
        if space.is_valid(arch):
            return arch
    raise NoValidArchitecture(f"the policy gave no valid architecture of {space.name!r} in {MAX_TRIES} draws.")


def tensors_to_text(tensors: dict[str, torch.Tensor]) -> str:
    """Tensors as one JSON string, exact to the last bit."""
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    return base64.b64encode(safetensors.torch.save(copies)).decode("ascii")


def text_to_tensors(text: str) -> dict[str, torch.Tensor]:
    """The tensors that `tensors_to_text` wrote."""
    return safetensors.torch.load(base64.b64decode(text))
