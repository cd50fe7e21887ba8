"""The encoder of the vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929).

Pre-norm, after Vaswani et al. 2017 (arXiv 1706.03762). For a map of 8x8 with 64 channels, one head:

    (n, 64, 8, 8) -> tokens (n, 64, 64) -> LayerNorm -> query, key, value (n, 1, 64, 64) each
    -> softmax(q k^T / 8) v -> Linear -> add -> LayerNorm -> Linear to 256, GELU, Linear to 64 -> add -> (n, 64, 8, 8)
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nasbench_registry import UserError
from search_spaces.blocks.layers import patch_projection

HEAD_WIDTH = 64


class ScaledDotProductAttention(nn.Module):
    """The product of attention: (n, heads, t, d) queries, keys and values -> (n, heads, t, d).

    A module without weights, so that whatever watches the modules of a network sees the two matrix products in it.
    """

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # The scale is the default one; as a plain number, exporters write a constant instead of shape arithmetic.
        return functional.scaled_dot_product_attention(q, k, v, scale=int(q.shape[-1]) ** -0.5)


class SelfAttention(nn.Module):
    """Multi-head self-attention on tokens: (n, t, width) -> (n, t, width), with biases everywhere.

    Args:
        width: Channels of a token.
        heads: Number of heads, each with a product of attention.
        head_width: Channels of a head.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.qkv = nn.Linear(width, 3 * heads * head_width)
        self.attention = ScaledDotProductAttention()
        self.project = nn.Linear(heads * head_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens, inner = int(x.shape[1]), self.heads * self.head_width
        q, k, v = (
            part.reshape(-1, tokens, self.heads, self.head_width).transpose(1, 2)
            for part in torch.split(self.qkv(x), inner, dim=2)
        )
        joined = self.attention(q, k, v).transpose(1, 2).reshape(-1, tokens, inner)
        out: torch.Tensor = self.project(joined)
        return out


class TransformerEncoder(nn.Module):
    """One layer of the encoder on tokens: (n, t, width) -> (n, t, width).

    Args:
        width: Channels of a token.
        heads: Heads of the attention.
        mlp_ratio: Width of the hidden layer of the MLP, as a multiple of a token's.
        head_width: Channels of a head; ``width // heads`` if not given. Heads need not fill the width: the linear
            layers before and after them go from `width` to ``heads * head_width`` and back.

    Raises:
        UserError: A number below 1, or more heads than channels.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, head_width: int | None = None) -> None:
        super().__init__()
        head_width = width // max(heads, 1) if head_width is None else head_width
        hidden = round(width * mlp_ratio)
        if min(width, heads, head_width, hidden) < 1:
            raise UserError(
                f"a transformer encoder needs at least 1 head of at least 1 channel, not width {width}, {heads} heads "
                f"of {head_width} channels and an MLP of {hidden}."
            )
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads, head_width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        out: torch.Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class TransformerOnMap(nn.Module):
    """The encoder layer on the h*w pixels of a map: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).

    Where the shape changes, a strided projection of patches comes first. Deviations from the paper: nothing tells a
    token its position (the convolutions around the block do), and there is no class token.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels, the width of a token.
        stride: Side of the square of pixels that becomes a token.
        heads: Number of heads of the attention; by default as many as 64 channels fit into `outputs`, as in the paper.
        mlp_ratio: Width of the hidden layer, as in `TransformerEncoder`.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, heads: int | None = None, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        same = stride == 1 and inputs == outputs
        self.project = nn.Identity() if same else patch_projection(inputs, outputs, stride)
        self.encoder = TransformerEncoder(outputs, heads or max(1, outputs // HEAD_WIDTH), mlp_ratio)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(x)
        c, h, w = (int(size) for size in x.shape[1:])
        tokens = self.encoder(x.reshape(-1, c, h * w).transpose(1, 2))
        out: torch.Tensor = tokens.transpose(1, 2).reshape(-1, c, h, w)
        return out
