"""The contract suite of a search space as one call, for authors of spaces."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from search_spaces.core import Architecture, SearchSpace, Task

SAMPLES = 200
NETWORKS = 20  # of them are built
COMPARED = 8  # of those are compared with the network of their canonical architecture
DEFAULT_TASK = Task((3, 32, 32), 10)


Check = Callable[[SearchSpace, Task, int], Iterator[str]]
NetworkCheck = Callable[[nn.Module, Task], Iterator[str]]


def check_space(
    space: SearchSpace,
    *,
    task: Task = DEFAULT_TASK,
    seed: int = 0,
    networks: Sequence[NetworkCheck] = (),
    on_check: Callable[[str], None] = lambda name: None,
) -> list[str]:
    """Everything that is wrong with a space, one sentence each; an empty list for a good one.

    Checks that sampling, mutation, crossover, notation, JSON, encoding and canonicalization keep their promises on
    200 samples, that a canonical architecture builds the same network, that it can be drawn, and that the smallest and
    the largest of the networks it met train one step.

    Args:
        space: Search space to check.
        task: Task that the networks are built for.
        seed: Random seed of the samples.
        networks: Further checks of a network of middling size; each yields sentences.
        on_check: Called with the name of each part of the suite before it begins.
    """
    problems: list[str] = []
    for check in (_sampling, _operators, _notation, _encoding, partial(_networks, also=networks), _drawing):
        on_check(_name(check))
        try:
            problems += dict.fromkeys(check(space, task, seed))
        except Exception as error:
            # The author's code may raise anything; every kind of it is one finding, not a crash of the suite.
            problems.append(f"{_name(check)}: {type(error).__name__}: {error}")
    return problems


def _name(check: Check) -> str:
    function = check.func if isinstance(check, partial) else check
    return str(getattr(function, "__name__", function)).strip("_")


def _samples(space: SearchSpace, seed: int) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(SAMPLES)]


def _sampling(space: SearchSpace, task: Task, seed: int) -> Iterator[str]:
    torch_before, numpy_before = torch.get_rng_state(), str(np.random.get_state())
    archs = _samples(space, seed)
    if archs != _samples(space, seed):
        yield "sample() gives other architectures for the same seed; draw only from the generator it is given."
    if not torch.equal(torch_before, torch.get_rng_state()) or numpy_before != str(np.random.get_state()):
        yield "sample() uses a global random generator; draw only from the generator it is given."
    for arch in archs:
        if not space.is_valid(arch):
            yield f"sample() returned {arch.picks}, which is_valid() refuses."
        if not all(type(pick) is int for pick in arch.picks):
            yield f"sample() returned picks of type {type(arch.picks[0]).__name__}; make them Python int."
    if space.size > 1 and len(set(archs)) == 1:
        yield f"sample() returned the same architecture {SAMPLES} times."


def _operators(space: SearchSpace, task: Task, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    archs = _samples(space, seed)
    for a, b in itertools.pairwise(archs):
        if space.size > 1:
            child = space.mutate(a, rng)
            changed = sum(x != y for x, y in zip(a.picks, child.picks, strict=True))
            if changed != 1:
                yield f"mutate() changed {changed} decisions of {a.picks}; it must change exactly one."
            if not space.is_valid(child):
                yield f"mutate() returned {child.picks}, which is_valid() refuses."
        child = space.crossover(a, b, rng)
        if not space.is_valid(child):
            yield f"crossover() returned {child.picks}, which is_valid() refuses."
        if any(c not in (x, y) for c, x, y in zip(child.picks, a.picks, b.picks, strict=True)):
            yield f"crossover() of {a.picks} and {b.picks} gave {child.picks}, with a pick of neither parent."
    for neighbor in space.neighbors(archs[0]):
        if (
            not space.is_valid(neighbor)
            or sum(x != y for x, y in zip(archs[0].picks, neighbor.picks, strict=True)) != 1
        ):
            yield f"neighbors() of {archs[0].picks} gave {neighbor.picks}; they must be valid and one decision away."


def _notation(space: SearchSpace, task: Task, seed: int) -> Iterator[str]:
    for arch in _samples(space, seed):
        if Architecture.from_json(json.loads(json.dumps(arch.to_json()))) != arch:
            yield f"architecture {arch.picks} does not survive JSON."
        text = space.format(arch)
        if space.canonical(space.parse(text)) != space.canonical(arch):
            yield f"parse(format(arch)) of {arch.picks} is another network ({text!r})."
        first = space.canonical(arch)
        if not space.is_valid(first):
            yield f"canonical() of {arch.picks} is {first.picks}, which is_valid() refuses."
        if space.canonical(first) != first:
            yield f"canonical() is not idempotent at {arch.picks}."


def _encoding(space: SearchSpace, task: Task, seed: int) -> Iterator[str]:
    archs = _samples(space, seed)
    encoded = space.one_hot(archs)
    if encoded.ndim != 2 or len(encoded) != len(archs) or not np.isfinite(encoded).all():
        yield f"one_hot() of {len(archs)} architectures has shape {encoded.shape}; it must be finite and (n, d)."
        return
    if not np.array_equal(space.one_hot(archs[:3]), encoded[:3]):
        yield "one_hot() of an architecture depends on the others in the list."
    for a, b, row_a, row_b in zip(archs, archs[1:], encoded, encoded[1:], strict=False):
        if space.canonical(a) != space.canonical(b) and np.array_equal(row_a, row_b):
            yield f"one_hot() gives {a.picks} and {b.picks} the same row."


def _networks(space: SearchSpace, task: Task, seed: int, also: Sequence[NetworkCheck] = ()) -> Iterator[str]:
    archs = _samples(space, seed)[:NETWORKS]
    for pick in (0, -1):
        edge = Architecture(space.name, tuple(range(len(d.options))[pick] for d in space.decisions))
        if space.is_valid(edge):
            archs.append(edge)
    sizes = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for arch in archs:
            model: object = space.build(arch, task)
            if not isinstance(model, nn.Module):
                yield f"build() returned {type(model).__name__}; it must return a torch.nn.Module."
                return
            sizes[arch] = sum(parameter.numel() for parameter in model.parameters())
        yield from _equivalent(space, archs, task)
        by_size = sorted(archs, key=sizes.__getitem__)
        for arch in dict.fromkeys((by_size[0], by_size[-1])):
            yield from _trains(space, arch, task)
        # The smallest network may be one in which nothing reaches the output, the largest takes minutes to prune.
        middle = by_size[len(by_size) // 2]
        for check in also:
            for problem in check(space.build(middle, task), task):
                yield f"the network of {middle.picks}: {problem}"


def _equivalent(space: SearchSpace, archs: Sequence[Architecture], task: Task) -> Iterator[str]:
    """Whether canonical architectures build networks that compute the same function."""
    images = torch.rand(2, 1, *task.input_shape[1:]).expand(2, *task.input_shape)
    changed = [(arch, space.canonical(arch)) for arch in archs]
    for arch, first in [pair for pair in changed if pair[0] != pair[1]][:COMPARED]:
        models = [space.build(variant, task).eval() for variant in (arch, first)]
        counts = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
        if counts[1] > counts[0]:
            yield f"canonical() of {arch.picks} has more parameters ({counts[1]} against {counts[0]})."
        for model in models:
            _weights_by_shape(model)
        with torch.no_grad():
            expected, computed = (model(images) for model in models)
        if not torch.allclose(computed, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            yield (
                f"canonical() of {arch.picks} is {first.picks}, which builds a network that computes something else; "
                f"merge only architectures that build the same network."
            )


def _weights_by_shape(model: nn.Module) -> None:
    """Equal weights in layers of equal shape, such that the order of channels, and of equal layers, does not matter.

    Equal architectures may number their nodes, and so their layers and the channels of a concatenation, differently.
    Dense weights depend on the output channel alone, those of grouped convolutions on neither channel.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            key = zlib.crc32(f"{name} {tuple(parameter.shape)}".encode())
            generator = torch.Generator().manual_seed(key)
            with torch.no_grad():
                if parameter.ndim < 2:
                    parameter.fill_(0.0 if "bias" in name else 1.0)
                    continue
                rows = torch.randn((len(parameter), 1, *parameter.shape[2:]), generator=generator)
                if getattr(module, "groups", 1) > 1:
                    rows = rows[:1]
                parameter.copy_((rows / parameter[0].numel() ** 0.5).expand_as(parameter))


def _trains(space: SearchSpace, arch: Architecture, task: Task) -> Iterator[str]:
    model = space.build(arch, task).train()
    images, labels = torch.randn(4, *task.input_shape), torch.arange(4) % task.classes
    logits = model(images)
    if tuple(logits.shape) != (4, task.classes):
        yield (
            f"the network of {arch.picks} maps {tuple(images.shape)} to {tuple(logits.shape)}; "
            f"it must give {(4, task.classes)}."
        )
        return
    if not _learns(model, nn.functional.cross_entropy(logits, labels)):
        yield f"the network of {arch.picks} has no parameter that learns: the loss has no gradient."


def _learns(model: nn.Module, loss: torch.Tensor) -> bool:
    """Whether one step of gradient descent on `loss` finds finite gradients, at least one of them not zero."""
    if not loss.requires_grad:
        return False
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return (
        bool(gradients) and all(bool(g.isfinite().all()) for g in gradients) and any(bool(g.any()) for g in gradients)
    )


def _drawing(space: SearchSpace, task: Task, seed: int) -> Iterator[str]:
    with torch.random.fork_rng(devices=[]):
        graphs = space.diagram(_samples(space, seed)[0], task)
    for graph in graphs:
        names = [node.name for node in graph.nodes]
        if len(set(names)) != len(names):
            yield f"diagram(): graph {graph.title!r} has several nodes of one name."
        for edge in graph.edges:
            if edge.source not in names or edge.target not in names:
                yield f"diagram(): an edge of {graph.title!r} goes from {edge.source!r} to {edge.target!r}, not a node."
    if not graphs or not all(graph.nodes for graph in graphs):
        yield "diagram() gives nothing to draw."
