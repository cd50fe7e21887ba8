"""Sparsity that grows during fine-tuning, and scores that are learned there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from nasbench_compression.sparsity.weights import Weight

Select = Callable[[Mapping[str, Tensor], float], dict[str, Tensor]]
"""select(scores, sparsity) -> masks."""


def cubic_sparsity(progress: float, final: float, initial: float = 0.0) -> float:
    """Zhu & Gupta, To prune, or not to prune, 2017, arXiv:1710.01878: fast at first, when much is redundant.

    Args:
        progress: Progress, (t - t0) / (n * dt) in the paper: 0 where sparsity begins to grow, 1 where it is reached.
        final: Sparsity from then on.
        initial: Sparsity until it begins to grow.
    """
    remaining = 1 - min(max(progress, 0.0), 1.0)
    return final + (initial - final) * remaining**3


class Gradual:
    """Masks the weights after each step of an optimizer, as its `on_batch`.

    What is masked keeps its value aside, and comes back with it if its score rises above that of others before the
    final sparsity is reached. Then the masks are final.

    With `scores` None they are |w| whenever masks are chosen. With `movement` they are learned (Sanh et al., Movement
    Pruning, NeurIPS 2020, arXiv:2005.07683): S = -sum of w * dL/dw over the steps, with the gradient at the masked
    weights, through which a masked weight moves too. Deviations: the learning rate of the scores is constant, so that
    it is left out; gradients are those that the optimizer got, clipped if it clips.

    Args:
        weights: Weights to be masked.
        select: Function that makes masks from scores.
        sparsity: Final sparsity.
        scores: Fixed scores; None for |w| or for movement.
        movement: Whether the scores are learned.
        begin: Share of the fine-tuning after which sparsity begins to grow.
        end: Share after which it is reached.
        frequency: Steps between two choices of masks; None is a hundredth of the fine-tuning.
    """

    def __init__(
        self,
        weights: Mapping[str, Weight],
        select: Select,
        sparsity: float,
        *,
        scores: Mapping[str, Tensor] | None = None,
        movement: bool = False,
        begin: float = 0.0,
        end: float = 0.75,
        frequency: int | None = None,
    ) -> None:
        self._weights = weights
        self._select = select
        self._sparsity = sparsity
        self._begin, self._end, self._frequency = begin, end, frequency
        self._dense = {name: weight.value.detach().clone() for name, weight in weights.items()}
        self._zero = {name: value == 0 for name, value in self._dense.items()}
        self._masks = {name: torch.ones_like(zero) for name, zero in self._zero.items()}
        self._movement = movement
        self._scores = None if scores is None else dict(scores)
        if movement:
            self._scores = {name: torch.zeros_like(value) for name, value in self._dense.items()}
        self._final = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block masked weights get no gradient, unless their scores are learned from it."""
        hooks = []
        if not self._movement:
            for name, weight in self._weights.items():
                if weight.value.requires_grad:
                    hooks.append(weight.value.register_hook(self._hook(name)))  # type: ignore[no-untyped-call]  # torch does not annotate it
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __call__(self, done: int, total: int) -> None:
        """After step `done` of `total`."""
        with torch.no_grad():
            self._take_over()
            span = self._end - self._begin
            progress = (done / total - self._begin) / span if span > 0 else float(done / total >= self._end)
            due = done % (self._frequency or max(1, total // 100)) == 0
            if not self._final and progress > 0 and (due or progress >= 1):
                self._choose(cubic_sparsity(progress, self._sparsity))
                self._final = progress >= 1
            self._apply()

    def finish(self) -> None:
        """Reach the final sparsity, if the fine-tuning ended before it did."""
        with torch.no_grad():
            if not self._final:
                self._choose(self._sparsity)
            self._apply()
        self._final = True

    def _take_over(self) -> None:
        """Learn from the gradients, then keep aside what the optimizer made of the weights that are not masked."""
        for name, weight in self._weights.items():
            value, device = weight.value, weight.value.device
            dense, mask = self._dense[name].to(device), self._masks[name].to(device)
            if self._movement and self._scores is not None and value.grad is not None:
                # With loss scaling an optimizer leaves out a step whose gradients overflowed, and so is it here.
                score_change = torch.nan_to_num(dense * value.grad, nan=0.0, posinf=0.0, neginf=0.0)
                self._scores[name] = self._scores[name].to(device) - score_change
            self._dense[name], self._masks[name] = torch.where(mask, value, dense), mask

    def _choose(self, sparsity: float) -> None:
        scores = self._scores
        if scores is None:
            scores = {name: value.abs() for name, value in self._dense.items()}
        # What was zero when this began goes first, whatever its score.
        ranked = {
            name: score.masked_fill(self._zero[name].to(score.device), -torch.inf) for name, score in scores.items()
        }
        self._masks = self._select(ranked, sparsity)

    def _apply(self) -> None:
        for name, weight in self._weights.items():
            device = weight.value.device
            weight.value.copy_(self._dense[name].to(device) * self._masks[name].to(device))

    def _hook(self, name: str) -> Callable[[Tensor], Tensor]:
        return lambda gradient: gradient * self._masks[name].to(gradient.device)
