"""The block modules by name."""

from __future__ import annotations

import inspect

from nasbench_registry import Names, UserError
from search_spaces.blocks.block import Block
from search_spaces.blocks.convnext import ConvNeXt
from search_spaces.blocks.convolution import convolution, grouped_convolution
from search_spaces.blocks.depthwise_separable import depthwise_separable
from search_spaces.blocks.fire import Fire
from search_spaces.blocks.ghost_module import GhostModule
from search_spaces.blocks.identity import identity
from search_spaces.blocks.inverted_residual import (
    fused_inverted_residual,
    inverted_residual,
    inverted_residual_se,
)
from search_spaces.blocks.repvgg import RepVGG
from search_spaces.blocks.resnet import resnet_basic, resnet_bottleneck, resnext
from search_spaces.blocks.shuffle_unit import ShuffleUnit
from search_spaces.blocks.transformer_encoder import TransformerOnMap

BLOCKS: dict[str, Block] = {
    "convolution": Block(
        make=convolution,
        summary="dense convolution, batch norm, ReLU",
        source="Ioffe & Szegedy 2015, arXiv 1502.03167",
    ),
    "grouped_convolution": Block(
        make=grouped_convolution,
        summary="convolution in up to 8 groups, batch norm, ReLU",
        source="Krizhevsky et al. 2012; Ioannou et al. 2017, arXiv 1605.06489",
    ),
    "depthwise_separable": Block(
        make=depthwise_separable,
        summary="depthwise, then 1x1 convolution (MobileNet)",
        source="Howard et al. 2017, arXiv 1704.04861",
    ),
    "inverted_residual": Block(
        make=inverted_residual,
        summary="1x1 expansion by 4, depthwise, linear 1x1, shortcut (MobileNetV2)",
        source="Sandler et al. 2018, arXiv 1801.04381",
    ),
    "inverted_residual_se": Block(
        make=inverted_residual_se,
        summary="inverted residual with hard-swish and squeeze-and-excitation (MobileNetV3)",
        source="Howard et al. 2019, arXiv 1905.02244",
    ),
    "fused_inverted_residual": Block(
        make=fused_inverted_residual,
        summary="inverted residual with one dense convolution for the first two (EfficientNetV2)",
        source="Tan & Le 2021, arXiv 2104.00298",
    ),
    "resnet_basic": Block(
        make=resnet_basic,
        summary="two dense convolutions and a shortcut (ResNet-18, -34)",
        source="He et al. 2016, arXiv 1512.03385",
    ),
    "resnet_bottleneck": Block(
        make=resnet_bottleneck,
        summary="1x1 reduction by 4, dense convolution, 1x1, shortcut (ResNet-50 v1.5)",
        source="He et al. 2016, arXiv 1512.03385",
    ),
    "resnext": Block(
        make=resnext,
        summary="1x1 reduction by 2, convolution in groups of 4 channels, 1x1, shortcut (ResNeXt)",
        source="Xie et al. 2017, arXiv 1611.05431",
    ),
    "fire": Block(
        make=Fire,
        summary="1x1 squeeze by 8, then a 1x1 and a wider convolution side by side (SqueezeNet)",
        source="Iandola et al. 2016, arXiv 1602.07360",
    ),
    "shuffle_unit": Block(
        make=ShuffleUnit,
        summary="half of the channels pass, half are convolved, then both are shuffled (ShuffleNetV2)",
        source="Ma et al. 2018, arXiv 1807.11164",
    ),
    "ghost_module": Block(
        make=GhostModule,
        summary="half of the maps by a dense convolution, half by a depthwise one from them (GhostNet)",
        source="Han et al. 2020, arXiv 1911.11907",
    ),
    "repvgg": Block(
        make=RepVGG,
        summary="dense, 1x1 and identity branch, deployed as one convolution (RepVGG)",
        source="Ding et al. 2021, arXiv 2101.03697",
    ),
    "convnext": Block(
        make=ConvNeXt,
        summary="depthwise convolution, layer norm, 1x1 expansion by 4 with GELU, 1x1, shortcut (ConvNeXt)",
        source="Liu et al. 2022, arXiv 2201.03545",
    ),
    "transformer_encoder": Block(
        make=TransformerOnMap,
        summary="self-attention over all pixels and an MLP, both pre-norm with a shortcut (ViT)",
        source="Dosovitskiy et al. 2021, arXiv 2010.11929",
        has_kernel=False,
    ),
    "identity": Block(
        make=identity,
        summary="no layer at all",
        source="this project",
        has_kernel=False,
        reshapes=False,
    ),
}


class _Blocks(Names[Block]):
    """Blocks by name; a plain function or class that makes a module is taken for a block, too."""

    attribute = "block"

    def _checked(self, name: str, value: object) -> Block:
        if isinstance(value, Block):
            return value
        if not callable(value):
            raise UserError(f"block {name!r} is {value!r}; it must be a search_spaces.blocks.Block or a function.")
        parameters = inspect.signature(value).parameters
        any_keyword = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        has_kernel = "kernel" in parameters or any_keyword
        try:
            inspect.signature(value).bind(8, 8, stride=1, **({"kernel": 3} if has_kernel else {}))
        except TypeError as error:
            raise UserError(
                f"block {name!r} cannot be called as block(inputs, outputs, kernel=..., stride=...): {error}; "
                f"give it these parameters."
            ) from None
        lines = (inspect.getdoc(value) or "").strip().splitlines()
        return Block(
            make=value, summary=lines[0] if lines else name, source=f"the user's own: {name}", has_kernel=has_kernel
        )

    def _offers(self, value: object) -> bool:
        return isinstance(value, Block) or inspect.isfunction(value)


blocks = _Blocks("block", BLOCKS, group="nasbench.blocks")


def get_block(name: str) -> Block:
    """The block called `name`: one of ours, one of an installed package, or ``module:block``.

    The last two name a `Block`, or a function or class ``make(inputs, outputs, *, kernel, stride)``, with or without
    `kernel`, whose first docstring line becomes the summary.

    Raises:
        UserError: The name is unknown, or what it names is no block.
    """
    return blocks.find(name)
