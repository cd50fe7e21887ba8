"""Vision transformers with searched width, depth, heads and MLPs (Chen et al. 2021, AutoFormer, arXiv 2107.00651).

The network is that of Dosovitskiy et al. 2021 (arXiv 2010.11929). ViT-Ti/16, the small one of Touvron et al. 2021
(DeiT, arXiv 2012.12877), is ``e192-d12-h3,3,...-m4,4,...``:

    image 3x224x224
    -> patches of 16x16 pixels, each mapped to a token      196x192
    -> class token in front, learned positions added        197x192
    -> 12 encoder layers, pre-norm: attention of 3 heads of 64 channels, MLP of 4 * 192 hidden channels
    -> norm, the class token, linear layer

By default the options are those of AutoFormer's tiny supernet. Deviations from AutoFormer: no relative positions in
the attention, no dropout, and each network has weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nasbench_registry import UserError, unknown
from search_spaces.blocks.layers import patch_projection
from search_spaces.blocks.transformer_encoder import TransformerEncoder
from search_spaces.chains import read_choices, read_lists
from search_spaces.core import Architecture, Decision, SearchSpace, Task
from search_spaces.diagram import Graph, network_chain
from search_spaces.language import repeated


class ViT(SearchSpace):
    """Written as embedding, depth, and the heads and MLP ratios of the layers: ``e192-d2-h3,4-m4,3.5``.

    Args:
        embeddings: Numbers of channels that a token may have.
        depths: Numbers of layers that there may be.
        heads: Numbers of heads that a layer may have.
        mlp_ratios: Widths of the hidden layer of an MLP, as multiples of a token's.
        head_width: Channels of a head. Queries, keys and values have ``heads * head_width`` channels, whatever the
            embedding, as in AutoFormer.
        patch: Side of a patch in pixels; by default 16 for images of 128 pixels and more, 4 from 16 pixels on, and 2
            for smaller ones (by the shorter side). Images are filled up with zeros to whole patches.
    """

    name = "vit"
    images_to_vectors = True
    summary = "vision transformers: embedding, depth, and heads and MLP ratio of each layer"
    source = "Chen et al. 2021, arXiv 2107.00651; Dosovitskiy et al. 2021, arXiv 2010.11929"

    def __init__(
        self,
        *,
        embeddings: Sequence[int] = (192, 216, 240),
        depths: Sequence[int] = (12, 13, 14),
        heads: Sequence[int] = (3, 4),
        mlp_ratios: Sequence[float] = (3.5, 4),
        head_width: int = 64,
        patch: int | None = None,
    ) -> None:
        for option, numbers in {"embeddings": embeddings, "depths": depths, "heads": heads}.items():
            if not numbers or min(numbers) < 1:
                raise UserError(f"{option} of space 'vit' must be numbers from 1, not {list(numbers)}.")
        if not mlp_ratios or min(mlp_ratios) <= 0:
            raise UserError(f"mlp_ratios of space 'vit' must be numbers above 0, not {list(mlp_ratios)}.")
        if head_width < 1 or (patch is not None and patch < 1):
            raise UserError(f"space 'vit' needs a head_width and a patch from 1, not {head_width} and {patch}.")
        self.embeddings, self.depths, self.heads = tuple(embeddings), tuple(depths), tuple(heads)
        self.mlp_ratios, self.head_width, self.patch = tuple(mlp_ratios), head_width, patch
        layer = (Decision("heads", self.heads), Decision("mlp_ratio", self.mlp_ratios))
        self.decisions = (Decision("embedding", self.embeddings), *repeated("layer", self.depths, layer))

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Patches, class token and positions, encoder layers, norm, class token, linear layer."""
        width = self.choices(arch)["embedding"]
        side = self._patch(task)
        tokens = 1
        for pixels in task.input_shape[1:]:
            tokens *= -(-pixels // side)
        layers = [
            TransformerEncoder(width, layer["heads"], layer["mlp_ratio"], self.head_width)
            for layer in self.parts(arch, "layer")
        ]
        return nn.Sequential(
            nn.Sequential(patch_projection(task.input_shape[0], width, side), _Tokens()),
            _ClassTokenAndPositions(tokens, width),
            *layers,
            nn.LayerNorm(width, eps=1e-6),
            _FirstToken(),
            nn.Linear(width, task.classes),
        )

    def _patch(self, task: Task) -> int:
        """The side of a patch for the images of a task."""
        side = min(task.input_shape[1:])
        return self.patch or (16 if side >= 128 else 4 if side >= 16 else 2)

    def format(self, arch: Architecture) -> str:
        """The notation, such as ``e192-d2-h3,4-m4,3.5``."""
        layers = self.parts(arch, "layer")
        heads, ratios = (",".join(str(layer[name]) for layer in layers) for name in ("heads", "mlp_ratio"))
        return f"e{self.choices(arch)['embedding']}-d{len(layers)}-h{heads}-m{ratios}"

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        embedding, depth, heads, ratios = read_lists(text, ("e", "d", "h", "m"), "e192-d2-h3,4-m4,3.5")
        depth_texts = [str(number) for number in self.depths]
        if ",".join(depth) not in depth_texts:
            raise unknown("depth", ",".join(depth), depth_texts, where=f"in {text!r}")
        if len(embedding) != 1 or not len(heads) == len(ratios) == int(depth[0]):
            raise UserError(
                f"{text!r} must have 1 embedding, and as many heads and MLP ratios as layers, not {len(embedding)}, "
                f"{len(heads)} and {len(ratios)}."
            )
        chosen = {"embedding": embedding[0], "layer_count": depth[0]}
        for layer, (head, ratio) in enumerate(zip(heads, ratios, strict=True)):
            chosen[f"layer{layer}.heads"], chosen[f"layer{layer}.mlp_ratio"] = head, ratio
        return read_choices(self, chosen, text)

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The chain of its layers; shapes are tokens x channels."""
        side = self._patch(task)
        labels = [("patches", f"{side}x{side}"), ("class token, positions", "")]
        labels += [
            ("encoder layer", f"{layer['heads']} heads, mlp x{layer['mlp_ratio']}")
            for layer in self.parts(arch, "layer")
        ]
        labels += [("norm", ""), ("class token", ""), ("linear", "")]
        return (network_chain("network", self.build(arch, task), task, labels),)


class _Tokens(nn.Module):
    """The pixels of a map as tokens: (n, c, h, w) -> (n, h*w, c)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c, h, w = (int(size) for size in x.shape[1:])
        return x.reshape(-1, c, h * w).transpose(1, 2)


class _ClassTokenAndPositions(nn.Module):
    """(n, tokens, width) -> (n, 1 + tokens, width)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + tokens, width))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.class_token.expand(x.shape[0], -1, -1)
        return torch.cat([first, x], dim=1) + self.positions


class _FirstToken(nn.Module):
    """(n, t, width) -> (n, width)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]
