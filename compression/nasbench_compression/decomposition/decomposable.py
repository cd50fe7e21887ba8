"""Which layers of a network can be decomposed, and what they do in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nasbench_compression.decomposition.links import Call, Layer, count_macs, count_weights, layer_macs
from nasbench_compression.decomposition.method import Method, Ranks
from nasbench_compression.exclude import excluded
from nasbench_compression.reference import Reference, irreplaceable
from nasbench_compression.surgery import inference, why_not_plain


@dataclass(frozen=True)
class DecomposableLayer:
    """A layer that may be replaced.

    Attributes:
        name: Name in the network.
        layer: Module itself.
        calls: Sizes of its maps, for each time that one image passes it.
        seed: Random seed of its decomposition.
    """

    name: str
    layer: Layer
    calls: tuple[Call, ...]
    seed: int

    def weights(self, method: Method, ranks: Ranks | None) -> int:
        """Weights of the layer with these ranks, or as it is; without the bias."""
        return (
            self.layer.weight.numel() if ranks is None else count_weights(self.layer, method.links(self.layer, ranks))
        )

    def macs(self, method: Method, ranks: Ranks | None) -> int:
        """Multiply-adds of the layer with these ranks, or as it is, for one image."""
        if ranks is None:
            return layer_macs(self.layer, self.calls)
        return count_macs(self.layer, method.links(self.layer, ranks), self.calls)


Cost = Callable[[DecomposableLayer, Method, Ranks | None], int]
"""`DecomposableLayer.weights` or `DecomposableLayer.macs`."""


def find_decomposable(
    model: nn.Module, method: Method, exclude: Sequence[str], example_inputs: Tensor, seed: int
) -> tuple[list[DecomposableLayer], dict[str, str]]:
    """The layers that `method` can replace, in order, and those that it cannot, as {name: reason}.

    Args:
        model: Network; it is not changed.
        method: Method of decomposition; linear layers take part only if it has a form for them.
        exclude: Names of modules, or patterns of names as in `fnmatch`; layers inside of them are excluded, too.
        example_inputs: Images (n, c, h, w) on the device of the network.
        seed: Random seed; that of a candidate is `seed` plus its position among the modules.

    Raises:
        UserError: An entry of `exclude` fits no module.
    """
    kinds = (nn.Conv2d, nn.Linear) if method.linear else (nn.Conv2d,)
    fixed = excluded("decompose", model, exclude)
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    fitting: list[tuple[str, Layer, int]] = []
    left_alone: dict[str, str] = {}
    for index, (name, layer) in enumerate(model.named_modules()):
        if not isinstance(layer, kinds):
            continue
        reason = _unfit(layer) or method.refuses(layer)
        if name in fixed:
            reason = "it is excluded"
        elif reason is None and owners[id(layer.weight)] > 1:
            reason = "it shares its weight with another module"
        if reason is not None:
            left_alone[name] = reason
        else:
            fitting.append((name, layer, seed + index))
    calls = _watch(model, [layer for _, layer, _ in fitting], example_inputs)
    candidates = []
    for (name, layer, own_seed), seen in zip(fitting, calls, strict=True):
        if seen:
            candidates.append(DecomposableLayer(name, layer, tuple(seen), own_seed))
        else:
            left_alone[name] = "no image passes it as a module"
    reference = Reference.of("decompose", model, example_inputs)
    left_alone |= irreplaceable(model, [candidate.name for candidate in candidates], reference, readable=False)
    return [candidate for candidate in candidates if candidate.name not in left_alone], left_alone


def _unfit(layer: Layer) -> str | None:
    """Why a layer cannot be replaced by any method."""
    reason = why_not_plain(layer)
    if reason is not None:
        return reason
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"it has {layer.groups} groups"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"its padding mode is {layer.padding_mode}"
    return None


def _watch(model: nn.Module, layers: Sequence[Layer], example_inputs: Tensor) -> list[list[Call]]:
    """How each layer is called when one image passes the network.

    A hook would not do: with hooks, modules such as `torch.nn.TransformerEncoderLayer` take a way on which they call
    layers whose weights they otherwise read.
    """
    calls: list[list[Call]] = [[] for _ in layers]

    def watch(layer: Layer, seen: list[Call]) -> None:
        original = layer.forward

        def forward(input: Tensor) -> Tensor:
            output: Tensor = original(input)
            if isinstance(layer, nn.Linear):
                positions = output.numel() // layer.out_features
                seen.append(Call(positions, 1, positions, 1))
            else:
                seen.append(Call(*(int(size) for size in (*input.shape[-2:], *output.shape[-2:]))))
            return output

        layer.forward = forward  # type: ignore[method-assign]  # taken away again below

    try:
        for layer, seen in zip(layers, calls, strict=True):
            watch(layer, seen)
        with inference(model):
            model(example_inputs[:1])
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
    return calls
