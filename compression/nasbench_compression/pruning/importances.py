"""How important channels are: one small function a definition.

Each takes `RankedChannels` (the channels of a group, with everything that goes with them) and gives one number a
channel, (channels,); the least important go first. "Layers that produce a channel" are convolutions and linear layers;
several do where their outputs are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasbench_compression.pruning.evidence import Evidence, fisher, mean_activations, nothing, squared_gradients
from nasbench_compression.pruning.plan import Cut
from nasbench_compression.step import Context


class NoImportance(ValueError):
    """The definition says nothing about these channels; the message says why."""


@dataclass(frozen=True, kw_only=True)
class RankedChannels:
    """Channels that are to be ranked.

    Attributes:
        model: Network that the channels belong to.
        cuts: Cuts that remove all of the channels.
        channels: Number of channels.
        evidence: Measurements on calibration images; see `Importance.measure`.
        generator: Random generator.
    """

    model: nn.Module
    cuts: Sequence[Cut]
    channels: int
    evidence: Evidence
    generator: torch.Generator

    def layers(self, *, produces: bool) -> Iterator[tuple[str, nn.Module, Cut]]:
        """Convolutions and linear layers that produce the channels, or that read them, by name."""
        for cut in self.cuts:
            if cut.dimension is None and cut.produces == produces:
                module = self.model.get_submodule(cut.name)
                if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                    yield cut.name, module, cut

    def norms(self) -> Iterator[tuple[str, nn.Module, Cut]]:
        """Normalizations of the channels that have learned scales, by name."""
        for cut in self.cuts:
            if cut.dimension is None and cut.produces:
                module = self.model.get_submodule(cut.name)
                if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm) and module.weight is not None:
                    yield cut.name, module, cut

    def sums(self, parts: Sequence[tuple[Tensor, Cut]]) -> Tensor:
        """Values of single positions, each part (positions of its cut,), added up by channel: (channels,)."""
        total = torch.zeros(self.channels, dtype=torch.float64)
        for values, cut in parts:
            total.index_add_(0, torch.tensor(cut.roots), values.detach().double().cpu())
        return total


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _rows(module: nn.Module, tensor: Tensor, cut: Cut) -> Tensor:
    """What belongs to each position of a cut in a weight: (positions, values)."""
    if cut.produces == bool(getattr(module, "transposed", False)):
        # The other side comes first, and a group holds each position of this one in the weights of its own.
        parts = tensor.reshape(int(getattr(module, "groups", 1)), -1, *tensor.shape[1:]).transpose(1, 2)
        tensor = parts.reshape(-1, *parts.shape[2:])
    return tensor.flatten(1)[list(cut.channels)]


def _norm(ranked: RankedChannels, power: int) -> Tensor:
    parts = [
        (_rows(module, _weight(module), cut).abs().pow(power).sum(1), cut)
        for produces in (True, False)
        for _, module, cut in ranked.layers(produces=produces)
    ]
    parts += [(_weight(module)[list(cut.channels)].abs().pow(power), cut) for _, module, cut in ranked.norms()]
    return ranked.sums(parts) / len(parts)


def l1(ranked: RankedChannels) -> Tensor:
    """Sum of |w| over the weights of a channel, averaged over all coupled layers that produce, scale or read it.

    Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710, for filters; coupled layers as in
    DepGraph (Fang et al., CVPR 2023, arXiv:2301.12900, eq. 3).
    """
    return _norm(ranked, 1)


def l2(ranked: RankedChannels) -> Tensor:
    """Sum of w^2 over the weights of a channel, averaged over all coupled layers that produce, scale or read it.

    DepGraph (Fang et al., CVPR 2023, arXiv:2301.12900, eq. 3), without its sparse training.
    """
    return _norm(ranked, 2)


def lamp(ranked: RankedChannels) -> Tensor:
    """`l2` of a channel over the sum of `l2` of all channels of its group that are at least as important.

    Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, ICLR 2021, arXiv:2010.07611, eq. 3, with
    channels in place of single weights. Within a group the order is that of `l2`: it matters to a global ranking.
    """
    scores = l2(ranked)
    order = torch.argsort(scores, stable=True)
    rising = scores[order]
    left = rising.flip(0).cumsum(0).flip(0)
    lamp_scores = torch.empty_like(scores)
    lamp_scores[order] = rising / left.clamp(min=1e-300)
    return lamp_scores


def bn_scale(ranked: RankedChannels) -> Tensor:
    """|gamma| of the batch norm of a channel, averaged over the batch norms of coupled layers.

    Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017, arXiv:1708.06519,
    without its L1 penalty in training.

    Raises:
        NoImportance: No batch norm scales these channels.
    """
    scales = [
        (_weight(module)[list(cut.channels)].abs(), cut)
        for _, module, cut in ranked.norms()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    if not scales:
        raise NoImportance("no batch norm with learned scales follows it")
    return ranked.sums(scales) / len(scales)


def fpgm(ranked: RankedChannels) -> Tensor:
    """Sum of Euclidean distances of a filter to all filters of its layer, averaged over coupled producing layers.

    He et al., Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration, CVPR 2019,
    arXiv:1811.00250, eq. 6: the filters nearest to the geometric median are those that others can replace.
    """
    parts = []
    for _, module, cut in ranked.layers(produces=True):
        rows = _rows(module, _weight(module), cut).cpu().double()
        roots = torch.tensor(cut.roots)
        counts = torch.bincount(roots)
        counts = counts[counts > 0]
        # The rows of a head are one filter, its score shared out among them; elsewhere each row is one.
        rows_per_filter = int(counts[0]) if (counts == counts[0]).all() else 1
        order = torch.argsort(roots, stable=True)
        filters = rows[order].reshape(len(rows) // rows_per_filter, -1)
        distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
        values = torch.empty(len(rows), dtype=torch.float64)
        values[order] = distances.repeat_interleave(rows_per_filter) / rows_per_filter
        parts.append((values, cut))
    return ranked.sums(parts) / len(parts)


def taylor(ranked: RankedChannels) -> Tensor:
    """Sum of (g w)^2 over all parameters that produce a channel: weights, biases, and the scale and shift of its norm.

    Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, arXiv:1906.10771, eq. 8 (Taylor-FO):
    g is the gradient of the mean cross-entropy of a batch of 16 calibration images, and the mean is over the batches,
    as the paper averages over batches of training: over all images at once, the gradient of a trained network all
    but cancels. Deviation: no weight moves meanwhile.
    """
    return ranked.sums([((s * w.pow(2)).sum(1), cut) for w, s, cut in _with_evidence(ranked)])


def obd(ranked: RankedChannels) -> Tensor:
    """Half the sum of h w^2 over all parameters that produce a channel, as in `taylor`.

    LeCun et al., Optimal Brain Damage, NIPS 1989, eq. 5, for channels. Deviation: the diagonal h of the Hessian is that
    of the empirical Fisher matrix, the mean over the calibration images of the squared gradient of one image, which
    equals it in expectation where the network fits the data.
    """
    return ranked.sums([((h * w.pow(2)).sum(1) / 2, cut) for w, h, cut in _with_evidence(ranked)])


def activation(ranked: RankedChannels) -> Tensor:
    """Mean |x| of a channel over calibration images and places, as convolutions and linear layers read it.

    Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017,
    arXiv:1611.06440 (mean activation), behind the non-linearity; averaged over the layers that read the channel.

    Raises:
        NoImportance: No such layer reads these channels.
    """
    parts = []
    for name, _, cut in ranked.layers(produces=False):
        if name in ranked.evidence:
            roots = torch.tensor(cut.roots)
            places = torch.bincount(roots, minlength=ranked.channels)[roots]  # a flattened channel has many
            parts.append((ranked.evidence[name].double().cpu()[list(cut.channels)] / places, cut))
    if not parts:
        raise NoImportance("no convolution or linear layer reads it")
    return ranked.sums(parts) / len(parts)


def uniform(ranked: RankedChannels) -> Tensor:
    """Random numbers: the baseline that an importance has to beat."""
    return torch.rand(ranked.channels, generator=ranked.generator, dtype=torch.float64)


def _with_evidence(ranked: RankedChannels) -> Iterator[tuple[Tensor, Tensor, Cut]]:
    """Each parameter that produces the channels, with its evidence: (positions, values) both."""
    for name, module, cut in (*ranked.layers(produces=True), *ranked.norms()):
        for key, parameter in module.named_parameters(recurse=False):
            if key not in ("weight", "bias"):
                continue
            evidence = ranked.evidence.get(f"{name}.{key}" if name else key)
            if evidence is None:  # nothing of it reaches the loss
                evidence = torch.zeros_like(parameter)
            if parameter.ndim > 1:
                yield _rows(module, parameter.detach(), cut), _rows(module, evidence, cut), cut
            else:
                index = list(cut.channels)
                yield parameter.detach()[index][:, None], evidence[index][:, None], cut


@dataclass(frozen=True, kw_only=True)
class Importance:
    """A definition of importance.

    Attributes:
        score: Function that gives the importance of each channel, (channels,).
        measure: Function that measures what `score` needs, from a network, a context and a number of calibration
            images.
        needs: Names of the parts of a context that it uses, keys of `nasbench_compression.step.MEANING`.
        comparable: Whether the numbers of different groups can be compared; if not, a global ranking divides them by
            the mean of their group.
    """

    score: Callable[[RankedChannels], Tensor]
    measure: Callable[[nn.Module, Context, int], Evidence] = nothing
    needs: tuple[str, ...] = ()
    comparable: bool = False


IMPORTANCES: dict[str, Importance] = {
    "l1": Importance(score=l1),
    "l2": Importance(score=l2),
    "bn_scale": Importance(score=bn_scale, comparable=True),
    "fpgm": Importance(score=fpgm),
    "taylor": Importance(score=taylor, measure=squared_gradients, needs=("calibration", "labels"), comparable=True),
    "obd": Importance(score=obd, measure=fisher, needs=("calibration", "labels"), comparable=True),
    "lamp": Importance(score=lamp, comparable=True),
    "activation": Importance(score=activation, measure=mean_activations, needs=("calibration",)),
    "random": Importance(score=uniform, comparable=True),
}
