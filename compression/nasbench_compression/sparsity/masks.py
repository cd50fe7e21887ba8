"""From scores to masks: which weights stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nasbench_registry import UserError

_LEAST = 0.1  # share of the average density that each layer keeps where all layers compete


def keep_per_layer(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks that drop the same share of each layer, the lowest scores first; one weight of a layer stays at least.

    Args:
        scores: Scores of the weights of each layer, in any shape; the first of equal ones goes first.
        sparsity: Share of the weights that become zero, from 0 to 1.

    Returns:
        For each layer True where a weight stays, in the shape of its scores.
    """
    return {
        name: _keep(score, min(round(sparsity * score.numel()), score.numel() - 1)) for name, score in scores.items()
    }


def keep_globally(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks that drop the lowest scores of all layers together.

    Each layer keeps at least a tenth of the density that the network shall have, and one weight: a layer without
    weights would cut the network in two (layer collapse; Tanaka et al. 2020, arXiv:2006.05467).

    Args:
        scores: Scores as in `keep_per_layer`.
        sparsity: Share of all weights that become zero.
    """
    top = {}
    for name, score in scores.items():
        least = max(1, round(_LEAST * (1 - sparsity) * score.numel()))
        top[name] = _keep(score, score.numel() - least)
    together = torch.cat([score.masked_fill(top[name], torch.inf).flatten() for name, score in scores.items()])
    protected = sum(int(mask.sum()) for mask in top.values())
    joint_mask = _keep(together, min(round(sparsity * together.numel()), together.numel() - protected))
    sizes = [score.numel() for score in scores.values()]
    return {
        name: part.view(scores[name].shape) for name, part in zip(scores, torch.split(joint_mask, sizes), strict=True)
    }


def keep_n_of_m(score: Tensor, n: int, m: int) -> Tensor:
    """A mask that keeps the n highest of each m neighbours along the inputs (Mishra et al. 2021, arXiv:2104.08378).

    Args:
        score: Scores (outputs, inputs, ...), with a number of inputs that m divides.
        n: Number of weights that stay in a group.
        m: Number of weights in a group.
    """
    rows = score.movedim(1, -1)
    groups = rows.reshape(-1, m)
    order = torch.argsort(groups, dim=1, descending=True, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter(1, order[:, :n], True)
    return mask.view(rows.shape).movedim(-1, 1)


def parse_pattern(pattern: object) -> tuple[int, int]:
    """N and M of "2:4".

    Raises:
        UserError: The pattern is something else.
    """
    parts = pattern.split(":") if isinstance(pattern, str) else []
    if len(parts) == 2 and all(part.isdecimal() for part in parts) and 0 < int(parts[0]) < int(parts[1]):
        return int(parts[0]), int(parts[1])
    # YAML 1.1 takes 2:4 for a number to the base of 60.
    raise UserError(
        f'sparsify pattern is {pattern!r}; give N:M with 0 < N < M in quotation marks, such as "2:4", for N '
        f"weights that stay of each M along the inputs."
    )


def _keep(score: Tensor, zeros: int) -> Tensor:
    mask = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    mask[torch.argsort(score.flatten(), stable=True)[:zeros]] = False
    return mask.view(score.shape)
