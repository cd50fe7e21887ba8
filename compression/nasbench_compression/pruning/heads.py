"""Attention heads as wholes: which modules allow it, and what goes with a head.

Michel et al., Are Sixteen Heads Really Better than One?, NeurIPS 2019, arXiv:1905.10650.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch_pruning.pruner import function

from nasbench_compression.pruning.plan import Cut

HEADS = ("heads", "num_heads", "num_attention_heads")
_WIDTHS = ("head_width", "head_dim", "attention_head_size")
_SPANS = ("attn_dim", "all_head_size", "inner_dim")  # of all heads together


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The heads of one attention module.

    Attributes:
        values: Name of the linear layer that computes the values.
        producers: Names of the layers that compute queries, keys and values.
        heads: Number of heads.
        head_width: Channels of each head.
        cuts: Cuts that remove all heads; the roots of their positions are heads.
    """

    values: str
    producers: tuple[str, ...]
    heads: int
    head_width: int
    cuts: tuple[Cut, ...]


def find_heads(model: nn.Module) -> list[Heads]:
    """The attention modules of a network whose heads can be removed, known by their parts.

    Such a module has its number of heads and their width as attributes with the names that libraries use, `HEADS` and
    `_WIDTHS`; the linear layers right below it are one that makes ``3 * heads * head_width`` channels, or three that
    make ``heads * head_width`` (of queries, keys, values), and a last one that reads ``heads * head_width``. That one
    may also be the first linear layer behind the module in the module that holds it, as in BERT. Channels are ordered
    by part, head, channel. `nn.MultiheadAttention` ties its heads to the width of a token and is none.
    """
    attention_heads = []
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name, module in model.named_modules():
        values = vars(module)
        attribute = next((key for key in HEADS if isinstance(values.get(key), int)), None)
        width = next((values[key] for key in _WIDTHS if isinstance(values.get(key), int)), None)
        if attribute is None or width is None or values[attribute] < 1 or isinstance(module, nn.MultiheadAttention):
            continue
        heads = int(values[attribute])
        prefix = f"{name}." if name else ""
        linear = [(f"{prefix}{key}", child) for key, child in module.named_children() if isinstance(child, nn.Linear)]
        if len(linear) == 3:
            holder = name.rpartition(".")[0]
            behind = layers[[path for path, _ in layers].index(linear[-1][0]) + 1 :]
            linear += [pair for pair in behind if pair[0].startswith(f"{holder}." if holder else "")][:1]
        makes = [(key, child.out_features) for key, child in linear[:-1]]
        if not linear or linear[-1][1].in_features != heads * width:
            continue
        if [size for _, size in makes] not in ([3 * heads * width], [heads * width] * 3):
            continue
        producers = tuple(key for key, _ in makes)
        head_of = [head for head in range(heads) for _ in range(width)]
        cuts = [
            _cut(key, function.prune_linear_out_channels, head_of * (size // (heads * width)), True)
            for key, size in makes
        ]
        cuts.append(_cut(linear[-1][0], function.prune_linear_in_channels, head_of, False))
        cuts.append(
            Cut(
                name=name, handler=_fewer_heads, channels=tuple(range(heads)), produces=False, roots=tuple(range(heads))
            )
        )
        attention_heads.append(
            Heads(values=producers[-1], producers=producers, heads=heads, head_width=width, cuts=tuple(cuts))
        )
    return attention_heads


def _cut(name: str, handler: Any, heads: Sequence[int], produces: bool) -> Cut:
    return Cut(name=name, handler=handler, channels=tuple(range(len(heads))), produces=produces, roots=tuple(heads))


def _fewer_heads(module: nn.Module, removed: Sequence[int]) -> None:
    values = vars(module)
    heads = next(values[attribute] for attribute in HEADS if isinstance(values.get(attribute), int))
    for attribute in (*HEADS, *_SPANS):
        if isinstance(values.get(attribute), int):
            values[attribute] -= values[attribute] // heads * len(removed)
