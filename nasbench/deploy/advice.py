"""What would make a model faster: each suggestion is tried, timed in turn with what is there, and told with its ratio.

A suggestion names the cause that it removes, and where the profile allows it, by how much the time should change if
that cause is the right one. Weights do not change how long a dense network takes, so what is tried is not trained.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from nasbench.deploy.explain import Profile, profile
from nasbench.deploy.layers import Layer, layers_of
from nasbench.deploy.race import Runner
from nasbench.deploy.setting import Setting, choices, why_not
from nasbench.devices.beside import Quiet
from nasbench.devices.roofline import measure_roofline
from nasbench.devices.rounds import time_in_rounds
from nasbench.models.workbench import Workbench
from nasbench_compression import CompiledModel, Context, backends
from nasbench_compression.pruning.structured import Prune
from nasbench_compression.quantization.layers import entry_of, prepare, put
from nasbench_compression.quantization.modules import dequantize, is_quantized
from nasbench_compression.timing import Ratio
from nasbench_registry import UserError, WorkFailed
from search_spaces import Task

SECONDS = 0.5  # of timing, for each of the two in each of the rounds
ROUNDS = 2
QUICK_S = 6.0  # that a backend takes to compile a small network, at most, to be tried
BATCH = 8
SHARE = 0.05  # of the time, below which a cause is not worth a trial
SLOWER = 1.1  # times its time in float32, from which a layer is better off there
NAMES = 4  # of layers, in a sentence
PROMISES, FEW = 0.97, 2  # below which a prediction is worth a trial within a recipe, and how many trials
TOUCH = 0.02  # of the channels: a ratio that does no more than round the widths


@dataclass(frozen=True)
class Subject:
    """A network that is to be faster.

    Attributes:
        network: in eval mode, quantized or not.
        task: what it takes and gives.
        setting: how it is compiled.
        calibration: (m, ...) real inputs; None draws some, which is as good for timing.
        compiled: what runs now.
        roofline: in `profile`.
    """

    network: nn.Module
    task: Task
    setting: Setting
    compiled: CompiledModel
    profile: Profile
    calibration: torch.Tensor | None = None

    @property
    def images(self) -> torch.Tensor:
        """For calibration."""
        return self.task.one_input(32, seed=0) if self.calibration is None else self.calibration

    def compile(self, network: nn.Module, setting: Setting) -> CompiledModel:
        """A network in a setting."""
        example = self.task.one_input(setting.batch, seed=0)
        return setting.make().compile(network, example, setting.precision, self.images)

    @functools.cached_property
    def plain(self) -> nn.Module:
        """The network in float."""
        return dequantize(self.network) if is_quantized(self.network) else self.network

    @functools.cached_property
    def in_float(self) -> Profile:
        """The profile of the same network in float32."""
        setting = replace(self.setting, precision="fp32")
        compiled = self.compile(self.plain, setting)
        return profile(compiled, setting, self.task.one_input(setting.batch, seed=0), self.profile.roofline, self.plain)


@dataclass(frozen=True)
class Suggestion:
    """A change that removes a cause.

    Attributes:
        cause: what costs time.
        change: what to do about it.
        make: makes what is tried, with the images that it takes in a call.
        predicted: the time of an image, as a multiple of what it is, if the cause is the right one; None where the
            profile does not tell.
    """

    cause: str
    change: str
    make: Callable[[], tuple[CompiledModel, int]] = field(repr=False)
    predicted: float | None = None


def causes(subject: Subject) -> list[dict[str, Any]]:
    """What the time of a model is spent on besides the work itself, the largest share first.

    Returns:
        JSON: `cause`, `share` of a call, and a `sentence`.
    """
    told, total = subject.profile, subject.profile.total_s
    if not told.operators:
        return []
    starts = sum(each.operator.seconds - each.roof_s for each in told.operators if each.bound == "overhead")
    casts, reorders = told.seconds(family="cast"), told.seconds(family="reorder")
    in_float = sum(each.operator.seconds for each in told.float_left)
    slower = sum(late for late in later_in_int8(subject).values()) if told.setting.precision == "int8" else 0.0
    zeros = sum(each.operator.seconds * told.layers[each.layer].zeros for each in told.operators if each.layer)
    found = [
        ("call overhead", told.overhead_s, "the runtime and Python around the operators"),
        ("small operators", starts, "operators far from the roofs of this machine: kernels start and arrange data"),
        ("casts", casts, f"{_count(told, 'cast')} operators only change types or scales"),
        ("layouts", reorders, f"{_count(told, 'reorder')} operators only change the layout of data"),
        ("float inside int8", in_float, f"{len(told.float_left)} operators stayed in float inside the int8 graph"),
        ("slow int8 kernels", slower, "layers that take longer in int8 than in float32"),
        ("awkward widths", _wasted_s(told), f"{len(told.awkward)} layers have widths that no vector unit fills"),
        ("zeros", zeros, "weights that are zero are multiplied like any others"),
        ("memory", told.seconds(bound="memory"), "operators that wait for memory"),
        ("arithmetic", told.seconds(bound="arithmetic"), "operators near the peak of arithmetic: only less work helps"),
    ]
    made = [{"cause": name, "share": spent / total, "sentence": text} for name, spent, text in found if spent > 0]
    return sorted(made, key=lambda each: -float(str(each["share"])))


def _count(told: Profile, family: str) -> int:
    return sum(each.family == family for each in told.operators)


def later_in_int8(subject: Subject) -> dict[str, float]:
    """Seconds that layers take longer in int8 than in float32, of those that do."""
    there, here = subject.in_float.by_place(), subject.profile.by_place()
    return {
        name: here[name] - there[name]
        for name in subject.profile.layers
        if name in here and name in there and here[name] > SLOWER * there[name]
    }


def suggestions(subject: Subject) -> Iterator[Suggestion]:
    """What might help, each for a cause that the profile shows; the cheapest to try first."""
    told, setting = subject.profile, subject.setting
    total = told.total_s
    yield from _calls(subject, total)
    if told.operators and setting.precision == "int8":
        yield from _less_int8(subject, total)
    if told.layers and told.operators:
        yield from _fewer_channels(subject, total)
    yield from _other_ways(subject)


def _calls(subject: Subject, total: float) -> Iterator[Suggestion]:
    told, setting = subject.profile, subject.setting
    floor = min((each.operator.seconds for each in told.operators), default=0.0)
    fixed = told.overhead_s + floor * len(told.operators)
    if setting.batch == 1 and (fixed > SHARE * total or not told.operators):
        farther = sum(_farther_s(told, each.operator.bytes or 0, BATCH) for each in told.operators)
        predicted = (fixed / BATCH + total - fixed + farther) / total if told.operators else None
        larger = replace(setting, batch=BATCH)
        yield Suggestion(
            "call overhead",
            f"give it {BATCH} images in a call",
            functools.partial(_in_setting, subject, larger),
            predicted,
        )
    counts = [1] if setting.threads > 1 else [2] if (os.cpu_count() or 1) > 1 else []
    for threads in counts:
        shared = told.seconds(bound="arithmetic") + told.seconds(bound="memory")
        factor = setting.threads / threads
        options = {**dict(setting.options), "threads": threads}
        way = Setting.of(setting.backend, setting.precision, options, setting.batch)
        yield Suggestion(
            "arithmetic" if threads > 1 else "call overhead",
            f"threads: {threads}",
            functools.partial(_in_setting, subject, way),
            (total - shared + shared * factor) / total if told.operators and threads > 1 else None,
        )


def _farther_s(told: Profile, moved: int, batch: int) -> float:
    """Seconds an image by which data come from farther away in a batch, whose tensors are so many times as large."""
    return told.roofline.memory_s(batch * moved) / batch - told.roofline.memory_s(moved)


def _in_setting(subject: Subject, way: Setting) -> tuple[CompiledModel, int]:
    return subject.compile(subject.network, way), way.batch


def _less_int8(subject: Subject, total: float) -> Iterator[Suggestion]:
    told, setting = subject.profile, subject.setting
    plain = replace(setting, precision="fp32")
    later, order = later_in_int8(subject), list(told.layers)
    there = subject.in_float
    casts = told.seconds(family="cast")
    if sum(later.values()) + casts > SHARE * total:
        yield Suggestion(
            "slow int8 kernels" if sum(later.values()) > casts else "casts",
            "leave it in float32",
            lambda: (subject.compile(subject.plain, plain), plain.batch),
            there.total_s / total,
        )
    if later and len(later) < len(order) and sum(later.values()) > SHARE * total:
        yield Suggestion(
            "slow int8 kernels",
            f"keep in float: {_named(later)}",
            lambda: (subject.compile(_partly(subject, later), setting), setting.batch),
            1 - sum(later.values()) / total,
        )
    islands = _islands(told)
    if islands and len(islands) < len(order):
        here, float_s = told.by_place(), there.by_place()
        gain = sum(cost + here[name] - float_s.get(name, here[name]) for name, cost in islands.items())
        yield Suggestion(
            "casts",
            f"drop the casts around {_named(islands)}, which stays in float then",
            lambda: (subject.compile(_partly(subject, islands), setting), setting.batch),
            1 - gain / total,
        )


def _islands(told: Profile) -> dict[str, float]:
    """Layers in int8 right between two casts, with the seconds of these."""
    found = {}
    operators = told.operators
    for before, each, after in zip(operators, operators[1:], operators[2:], strict=False):
        if each.layer is not None and before.family == after.family == "cast":
            found[each.layer] = before.operator.seconds + after.operator.seconds
    return found


def _partly(subject: Subject, kept: Mapping[str, Any]) -> nn.Module:
    """The network with static int8 layers, but for those that are kept in float."""
    prepared, _ = prepare(subject.plain, subject.images)
    names = [name for name in prepared.layers() if name not in kept]
    entries = {name: entry_of("static", prepared.ranges[name], group_size=32, symmetric=True) for name in names}
    return put(prepared.model, entries)


def _fewer_channels(subject: Subject, total: float) -> Iterator[Suggestion]:
    told = subject.profile
    dense = sum(each.zeros * each.macs for each in told.layers.values()) / max(
        1, sum(each.macs for each in told.layers.values())
    )
    if told.awkward and _wasted_s(told) > SHARE / 5 * total:
        yield from _pruned(subject, "awkward widths", "round_to: 8", {"ratio": TOUCH, "round_to": 8})
    if dense > 0.2:
        share = min(0.9, round(dense, 2))
        yield from _pruned(
            subject,
            "zeros",
            f"prune channels in place of weights: macs_ratio: {share}, round_to: 8",
            {"macs_ratio": share, "round_to": 8},
        )
    slowest = _slowest(told)
    others = [name for name in told.layers if name not in slowest]
    if others and slowest:
        options = {"ratio": 0.5, "round_to": 8}
        yield from _pruned(
            subject,
            "arithmetic",
            f"prune {_named(slowest)} by half, and not the others",
            {**options, "exclude": others},
        )


def _named(names: Iterable[str]) -> str:
    there = list(names)
    more = len(there) - NAMES
    return ", ".join(there[:NAMES]) + (f" and {more} more" if more > 0 else "")


def _slowest(told: Profile) -> list[str]:
    """The layers that take half of the time of all layers, the fewest of them."""
    spent = {name: seconds for name, seconds in told.by_place().items() if name in told.layers}
    found, left = list[str](), sum(spent.values()) / 2
    for name, seconds in sorted(spent.items(), key=lambda entry: -entry[1]):
        if left <= 0:
            break
        found.append(name)
        left -= seconds
    return [name for name in told.layers if name in found]


def _pruned(subject: Subject, cause: str, change: str, options: dict[str, Any]) -> Iterator[Suggestion]:
    """A suggestion to cut channels; none where nothing of this network can be cut so."""
    example = subject.task.one_input(2, seed=0)
    try:
        smaller, _ = Prune(**options).apply(subject.plain, Context(example[:1]))
        layers = layers_of(smaller, subject.task.one_input(subject.setting.batch, seed=0))
    except (UserError, WorkFailed):
        return
    if sum(each.macs for each in layers.values()) >= sum(each.macs for each in subject.profile.layers.values()):
        return
    yield Suggestion(
        cause,
        change,
        lambda: (subject.compile(smaller, subject.setting), subject.setting.batch),
        predicted_with(subject.profile, layers),
    )


def predicted_with(told: Profile, layers: Mapping[str, Layer]) -> float:
    """The time of a model with other widths, as a multiple of what it is, by its profile.

    A product takes as long as it is executed multiply-adds, padded to the width of the vectors, beyond what the fastest
    operator takes for being one; other operators follow the channels of the layer before them; a call keeps its
    overhead.
    """
    total = told.total_s
    floor = min((each.operator.seconds for each in told.operators), default=0.0)
    predicted, wide = total - told.operators_s, 1.0
    for each in told.operators:
        share = wide
        if each.layer is not None and each.layer in layers:
            before, after = told.layers[each.layer], layers[each.layer]
            share = _padded(after) / _padded(before)
            wide = after.channels[1] / before.channels[1]
        predicted += floor + (each.operator.seconds - floor) * share
    return predicted / total


def _padded(layer: Layer) -> float:
    """Multiply-adds that are executed if output channels fill whole vectors."""
    lanes = 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8
    width = layer.channels[1]
    return layer.macs * math.ceil(width / lanes) * lanes / width


def _wasted_s(told: Profile) -> float:
    """Seconds of awkward layers that lanes without a channel take."""
    return sum(
        each.operator.seconds * (1 - told.layers[each.layer].macs / _padded(told.layers[each.layer]))
        for each in told.awkward
        if each.layer is not None
    )


def _other_ways(subject: Subject) -> Iterator[Suggestion]:
    told, setting = subject.profile, subject.setting
    reorders = told.seconds(family="reorder") / told.total_s
    layouts = setting.backend == "onnxruntime" and setting.precision == "fp32" and reorders > SHARE
    ways = []
    for name, values in choices(setting.backend).items():
        options, now = dict(setting.options), setting.values()[name]
        for value in values:
            if value == now or name == "trials" or value == "max-autotune":
                continue  # they take long
            way = Setting.of(setting.backend, setting.precision, {**options, name: value}, setting.batch)
            blocked = layouts and value == "extended"  # the level above it computes in blocks of channels
            ways.append(("layouts" if blocked else "the way it runs", f"{name}: {value}", way, blocked))
    for name in backends.names():
        quick = backends.find(name).compile_s <= QUICK_S
        way = Setting.of(name, setting.precision, {"threads": setting.threads}, setting.batch)
        if name != setting.backend and name != "eager" and quick and why_not(way) is None:
            ways.append(("the way it runs", f"backend {name}", way, False))
    for cause, change, way, blocked in ways:
        make = functools.partial(_in_setting, subject, way)
        yield Suggestion(cause, change, make, 1 - reorders if blocked else None)


def measured(
    subject: Subject,
    tried: Sequence[Suggestion] | Iterator[Suggestion],
    *,
    max_s: float = math.inf,
    on_begin: Callable[[str], None] = lambda change: None,
) -> list[dict[str, Any]]:
    """Try suggestions, each timed in turn with the model as it is.

    Args:
        subject: the model.
        tried: what to try.
        max_s: seconds for all, after which suggestions are named and not tried.
        on_begin: is told what is tried next.

    Returns:
        JSON: `cause`, `change`, `predicted` ratio of the time of an image, `measured` ratio with its interval, and a
        `verdict`: "helps", "did not help", or "not tried" with the `reason`. Those that help most come first.
    """
    made, began = [], time.monotonic()
    for each in tried:
        entry: dict[str, Any] = {"cause": each.cause, "change": each.change, "predicted": each.predicted}
        if time.monotonic() - began > max_s:
            made.append({**entry, "measured": None, "verdict": "not tried", "reason": "there was no time left"})
            continue
        on_begin(each.change)
        try:
            compiled, batch = each.make()
            ratio = against(subject, compiled, batch)
        except (UserError, WorkFailed) as error:
            made.append({**entry, "measured": None, "verdict": "not tried", "reason": str(error)})
            continue
        verdict = "helps" if ratio.high < 1 else "did not help"
        made.append({**entry, "measured": ratio.to_json(), "verdict": verdict, "reason": None})
    order = {"helps": 0, "did not help": 1, "not tried": 2}
    return sorted(
        made, key=lambda entry: (order[entry["verdict"]], entry["measured"]["ratio"] if entry["measured"] else 0)
    )


def tried_in_words(network: nn.Module, compiled: CompiledModel, bench: Workbench) -> str | None:
    """What was tried on a stage of a recipe that saved nothing, for its report; None if there was nothing to try.

    Args:
        network: of the stage.
        compiled: its artefact on the device of the bench.
        bench: that it was judged on.
    """
    device = bench.device
    if device is None or device.name != "cpu":
        return None
    precision = "int8" if is_quantized(network) else "fp32"
    setting = Setting.of(device.runtime, precision, {"threads": device.threads}, device.batch)
    inputs = bench.task.one_input(device.batch, seed=0)
    try:
        told = profile(compiled, setting, inputs, measure_roofline(device.threads), network)
        subject = Subject(network, bench.task, setting, compiled, told, bench.calibration())
        # A recipe does not decide how many images a call brings.
        these = [each for each in suggestions(subject) if (each.predicted or 1.0) < PROMISES]
        mine = sorted(these, key=lambda each: each.predicted or 1.0)
        made = measured(subject, [each for each in mine if each.cause != "call overhead"][:FEW])
    except (UserError, WorkFailed):
        return None
    tried = [
        f"{each['change']}: {each['verdict']}, {each['measured']['ratio']:.2f} of its time "
        f"({each['measured']['low']:.2f} to {each['measured']['high']:.2f})"
        for each in made
        if each["measured"] is not None
    ]
    return f"tried on it, in turn: {'; '.join(tried)}" if tried else None


def against(subject: Subject, compiled: CompiledModel, batch: int) -> Ratio:
    """The time for an image in another artefact as a multiple of what it is now, in the quietest turns of both."""
    return in_turn(Runner(subject.compiled, subject.setting.batch), Runner(compiled, batch), subject.task)


def in_turn(reference: Runner, other: Runner, task: Task) -> Ratio:
    """The time for an image in `other` as a multiple of that in `reference`; see `nasbench.devices.rounds`."""
    turns = time_in_rounds([reference.call(task), other.call(task)], budget_s=2 * SECONDS * ROUNDS)
    first, second = (Quiet.of(taken) for taken in turns)
    share = reference.batch / other.batch
    ratio = second.over(first)
    return Ratio(ratio.ratio * share, ratio.low * share, ratio.high * share)
