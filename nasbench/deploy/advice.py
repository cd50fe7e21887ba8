"""What would make a model faster: each suggestion is tried, timed in turn with the model as it is, and gets its ratio.

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

from nasbench.deploy.explain import VECTOR, Profile, profile
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

SECONDS = 0.5  # seconds of timing, for each of the two models in each of the rounds
ROUNDS = 2
QUICK_S = 6.0  # longest time that a backend may take to compile a small network, to be tried
BATCH = 8
SHARE = 0.05  # share of the time below which a cause is not worth a trial
SLOWER = 1.1  # multiple of its time in float32 from which a layer is better off in float32
NAMES = 4  # most names of layers in a sentence
PROMISES, FEW = 0.97, 2  # predicted ratio below which a trial within a recipe is worthwhile; most trials there
FEWER_BITS = {"fp32": ("bf16", "int8"), "fp16": ("int8",), "bf16": ("int8",), "int8": ()}
"""Precisions that may be faster than each precision; fp16 is computed in float32 on a CPU, and is not."""
TOUCH = 0.02  # share of the channels: a pruning ratio that does no more than round the widths


@dataclass(frozen=True)
class Subject:
    """A network that is to be faster.

    Attributes:
        network: Network in eval mode, quantized or not.
        task: Shapes of its inputs and outputs.
        setting: Setting in which it is compiled.
        calibration: (m, ...) real inputs; None draws random ones, which are as good for timing.
        compiled: Artefact that runs now.
        profile: Profile of the artefact, with the roofline of this machine.
    """

    network: nn.Module
    task: Task
    setting: Setting
    compiled: CompiledModel
    profile: Profile
    calibration: torch.Tensor | None = None

    @property
    def images(self) -> torch.Tensor:
        """Images for calibration."""
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
        cause: What costs time.
        change: What to change against it.
        make: Function that compiles the changed model; it returns the artefact and the number of images of one call.
        predicted: Expected time of an image as a multiple of the present time, if the cause is the right one; None
            where the profile does not tell.
        why_not_tried: Reason for which the change is only named; None if it is tried.
    """

    cause: str
    change: str
    make: Callable[[], tuple[CompiledModel, int]] = field(repr=False)
    predicted: float | None = None
    why_not_tried: str | None = None


def causes(subject: Subject) -> list[dict[str, Any]]:
    """The causes on which the time of a model is spent besides the work itself, the largest share first.

    Returns:
        JSON: `cause`, `share` of a call, and a `sentence`.
    """
    model_profile, total = subject.profile, subject.profile.total_s
    if not model_profile.operators:
        return []
    starts = sum(
        profiled.operator.seconds - profiled.roof_s
        for profiled in model_profile.operators
        if profiled.bound == "overhead"
    )
    casts, reorders = model_profile.seconds(family="cast"), model_profile.seconds(family="reorder")
    in_float = sum(profiled.operator.seconds for profiled in model_profile.float_left)
    slower = sum(late for late in later_in_int8(subject).values()) if model_profile.setting.precision == "int8" else 0.0
    zeros = sum(
        profiled.operator.seconds * model_profile.layers[profiled.layer].zeros
        for profiled in model_profile.operators
        if profiled.layer
    )
    shares = [
        ("call overhead", model_profile.overhead_s, "the runtime and Python around the operators"),
        ("small operators", starts, "operators far from the roofs of this machine: kernels start and arrange data"),
        ("casts", casts, f"operators that only change types or scales: {_count(model_profile, 'cast')}"),
        ("layouts", reorders, f"operators that only change the layout of data: {_count(model_profile, 'reorder')}"),
        (
            "float inside int8",
            in_float,
            f"operators that stayed in float inside the int8 graph: {len(model_profile.float_left)}",
        ),
        ("slow int8 kernels", slower, "layers that take longer in int8 than in float32"),
        (
            "awkward widths",
            _wasted_s(model_profile),
            f"layers with widths that do not fill vector units: {len(model_profile.awkward)}",
        ),
        ("zeros", zeros, "weights that are zero are multiplied like any others"),
        ("memory", model_profile.seconds(bound="memory"), "operators that wait for memory"),
        (
            "arithmetic",
            model_profile.seconds(bound="arithmetic"),
            "operators near the peak of arithmetic: less work, fewer bits or more threads may help",
        ),
    ]
    rows = [{"cause": name, "share": spent / total, "sentence": text} for name, spent, text in shares if spent > 0]
    return sorted(rows, key=lambda row: -float(str(row["share"])))


def _count(model_profile: Profile, family: str) -> int:
    return sum(profiled.family == family for profiled in model_profile.operators)


def later_in_int8(subject: Subject) -> dict[str, float]:
    """Seconds that layers take longer in int8 than in float32, of those that do."""
    float_s, current_s = subject.in_float.by_place(), subject.profile.by_place()
    return {
        name: current_s[name] - float_s[name]
        for name in subject.profile.layers
        if name in current_s and name in float_s and current_s[name] > SLOWER * float_s[name]
    }


def suggestions(subject: Subject) -> Iterator[Suggestion]:
    """Changes that might help, each for a cause that the profile shows; the cheapest to try first."""
    model_profile, setting = subject.profile, subject.setting
    total = model_profile.total_s
    slow_to_compile = backends.find(setting.backend).compile_s > QUICK_S
    if slow_to_compile:
        yield from _other_backends(subject)
    yield from _calls(subject, total)
    if model_profile.operators and setting.precision == "int8":
        yield from _less_int8(subject, total)
    if model_profile.layers and model_profile.operators:
        yield from _fewer_channels(subject, total)
    if not slow_to_compile:
        yield from _other_backends(subject)
    yield from _other_options(subject)


def _calls(subject: Subject, total: float) -> Iterator[Suggestion]:
    model_profile, setting = subject.profile, subject.setting
    floor = min((profiled.operator.seconds for profiled in model_profile.operators), default=0.0)
    fixed = model_profile.overhead_s + floor * len(model_profile.operators)
    called_s = model_profile.overhead_s + model_profile.seconds(bound="overhead")
    if setting.batch == 1 and (called_s > SHARE * total or not model_profile.operators):
        farther_s = sum(
            _farther_s(model_profile, profiled.operator.bytes or 0, BATCH) for profiled in model_profile.operators
        )
        predicted = (fixed / BATCH + total - fixed + farther_s) / total if model_profile.operators else None
        larger = replace(setting, batch=BATCH)
        yield Suggestion(
            "call overhead",
            f"give it {BATCH} images in a call",
            functools.partial(_in_setting, subject, larger),
            predicted,
        )
    counts = [1] if setting.threads > 1 else [2] if (os.cpu_count() or 1) > 1 else []
    for threads in counts:
        shared = model_profile.seconds(bound="arithmetic") + model_profile.seconds(bound="memory")
        factor = setting.threads / threads
        options = {**dict(setting.options), "threads": threads}
        other_threads = Setting.of(setting.backend, setting.precision, options, setting.batch)
        yield Suggestion(
            "arithmetic" if threads > 1 else "call overhead",
            f"threads: {threads}",
            functools.partial(_in_setting, subject, other_threads),
            (total - shared + shared * factor) / total if model_profile.operators and threads > 1 else None,
        )


def _farther_s(model_profile: Profile, moved: int, batch: int) -> float:
    """Seconds an image by which data come from farther away in a batch, whose tensors are so many times as large."""
    return model_profile.roofline.memory_s(batch * moved) / batch - model_profile.roofline.memory_s(moved)


def _in_setting(subject: Subject, changed: Setting) -> tuple[CompiledModel, int]:
    return subject.compile(subject.network, changed), changed.batch


def _less_int8(subject: Subject, total: float) -> Iterator[Suggestion]:
    model_profile, setting = subject.profile, subject.setting
    plain = replace(setting, precision="fp32")
    extra_s, layer_names = later_in_int8(subject), list(model_profile.layers)
    in_float = subject.in_float
    casts = model_profile.seconds(family="cast")
    if sum(extra_s.values()) + casts > SHARE * total:
        yield Suggestion(
            "slow int8 kernels" if sum(extra_s.values()) > casts else "casts",
            "leave it in float32",
            lambda: (subject.compile(subject.plain, plain), plain.batch),
            in_float.total_s / total,
        )
    if extra_s and len(extra_s) < len(layer_names) and sum(extra_s.values()) > SHARE * total:
        yield Suggestion(
            "slow int8 kernels",
            f"keep in float: {_named(extra_s)}",
            lambda: (subject.compile(_partly(subject, extra_s), setting), setting.batch),
            1 - sum(extra_s.values()) / total,
        )
    islands = _islands(model_profile)
    if islands and len(islands) < len(layer_names):
        current_s, float_s = model_profile.by_place(), in_float.by_place()
        gain = sum(cost + current_s[name] - float_s.get(name, current_s[name]) for name, cost in islands.items())
        yield Suggestion(
            "casts",
            f"drop the casts around {_named(islands)}, which stays in float then",
            lambda: (subject.compile(_partly(subject, islands), setting), setting.batch),
            1 - gain / total,
        )


def _islands(model_profile: Profile) -> dict[str, float]:
    """Layers in int8 right between two casts, with the seconds of these."""
    islands = {}
    operators = model_profile.operators
    for before, profiled, after in zip(operators, operators[1:], operators[2:], strict=False):
        if profiled.layer is not None and before.family == after.family == "cast":
            islands[profiled.layer] = before.operator.seconds + after.operator.seconds
    return islands


def _partly(subject: Subject, float_layers: Mapping[str, Any]) -> nn.Module:
    """The network with static int8 layers, but for those that stay in float."""
    prepared, _ = prepare(subject.plain, subject.images)
    names = [name for name in prepared.layers() if name not in float_layers]
    entries = {name: entry_of("static", prepared.ranges[name], group_size=32, symmetric=True) for name in names}
    return put(prepared.model, entries)


def _fewer_channels(subject: Subject, total: float) -> Iterator[Suggestion]:
    model_profile = subject.profile
    zero_share = sum(layer.zeros * layer.macs for layer in model_profile.layers.values()) / max(
        1, sum(layer.macs for layer in model_profile.layers.values())
    )
    if model_profile.awkward and _wasted_s(model_profile) > SHARE / 5 * total:
        for ratio in sorted({TOUCH, _share_beyond_multiples(model_profile)}):
            rounded = list(
                _pruned(
                    subject,
                    "awkward widths",
                    f"prune ratio: {ratio:g}, round_to: {VECTOR}",
                    {"ratio": ratio, "round_to": VECTOR},
                )
            )
            if rounded:
                yield from rounded
                break
    if zero_share > 0.2:
        share = min(0.9, round(zero_share, 2))
        yield from _pruned(
            subject,
            "zeros",
            f"prune channels in place of weights: macs_ratio: {share}, round_to: 8",
            {"macs_ratio": share, "round_to": 8},
        )
    slow_layers = _slowest(model_profile)
    other_layers = [name for name in model_profile.layers if name not in slow_layers]
    if other_layers and slow_layers:
        options = {"ratio": 0.5, "round_to": 8}
        yield from _pruned(
            subject,
            "arithmetic",
            f"prune {_named(slow_layers)} by half, and not the others",
            {**options, "exclude": other_layers},
        )


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - NAMES
    return ", ".join(listed[:NAMES]) + (f" and {more} more" if more > 0 else "")


def _share_beyond_multiples(model_profile: Profile) -> float:
    """The share of the channels that are left over beside whole vectors: a pruning ratio that removes about these.

    The last layer does not count, whose outputs are those of the network.
    """
    widths = [layer.channels[1] for layer in model_profile.layers.values()][:-1]
    beyond = sum(width % VECTOR for width in widths if width > VECTOR)
    return max(TOUCH, math.ceil(1000 * beyond / max(1, sum(widths))) / 1000)


def _slowest(model_profile: Profile) -> list[str]:
    """The layers that take half of the time of all layers, the fewest of them."""
    seconds_by_layer = {
        name: seconds for name, seconds in model_profile.by_place().items() if name in model_profile.layers
    }
    slowest, remaining_s = list[str](), sum(seconds_by_layer.values()) / 2
    for name, seconds in sorted(seconds_by_layer.items(), key=lambda entry: -entry[1]):
        if remaining_s <= 0:
            break
        slowest.append(name)
        remaining_s -= seconds
    return [name for name in model_profile.layers if name in slowest]


def _pruned(subject: Subject, cause: str, change: str, options: dict[str, Any]) -> Iterator[Suggestion]:
    """A suggestion to cut channels; none where nothing of this network can be cut so."""
    example = subject.task.one_input(2, seed=0)
    try:
        smaller, _ = Prune(**options).apply(subject.plain, Context(example[:1]))
        layers = layers_of(smaller, subject.task.one_input(subject.setting.batch, seed=0))
    except (UserError, WorkFailed):
        return
    if sum(layer.macs for layer in layers.values()) >= sum(layer.macs for layer in subject.profile.layers.values()):
        return
    yield Suggestion(
        cause,
        change,
        lambda: (subject.compile(smaller, subject.setting), subject.setting.batch),
        predicted_with(subject.profile, layers),
    )


def predicted_with(model_profile: Profile, layers: Mapping[str, Layer]) -> float:
    """The time of a model with other widths, as a multiple of what it is, by its profile.

    A product takes as long as it is executed multiply-adds, padded to the width of the vectors, beyond what the fastest
    operator takes for being one; other operators follow the channels of the layer before them; a call keeps its
    overhead.
    """
    total = model_profile.total_s
    floor = min((profiled.operator.seconds for profiled in model_profile.operators), default=0.0)
    predicted, wide = total - model_profile.operators_s, 1.0
    for profiled in model_profile.operators:
        share = wide
        if profiled.layer is not None and profiled.layer in layers:
            before, after = model_profile.layers[profiled.layer], layers[profiled.layer]
            share = _padded(after) / _padded(before)
            wide = after.channels[1] / before.channels[1]
        predicted += floor + (profiled.operator.seconds - floor) * share
    return predicted / total


def _padded(layer: Layer) -> float:
    """Multiply-adds that are executed if output channels fill whole vectors."""
    lanes = 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8
    width = layer.channels[1]
    return layer.macs * math.ceil(width / lanes) * lanes / width


def _wasted_s(model_profile: Profile) -> float:
    """Seconds of awkward layers that lanes without a channel take."""
    return sum(
        profiled.operator.seconds
        * (1 - model_profile.layers[profiled.layer].macs / _padded(model_profile.layers[profiled.layer]))
        for profiled in model_profile.awkward
        if profiled.layer is not None
    )


def _other_options(subject: Subject) -> Iterator[Suggestion]:
    """Fewer bits in the same backend, and its other options."""
    model_profile, setting = subject.profile, subject.setting
    for precision in FEWER_BITS.get(setting.precision, ()):
        if precision in backends.find(setting.backend).precisions:
            narrower = replace(setting, precision=precision)
            yield Suggestion("precision", f"precision: {precision}", functools.partial(_in_setting, subject, narrower))
    reorders = model_profile.seconds(family="reorder") / model_profile.total_s
    layouts = setting.backend == "onnxruntime" and setting.precision == "fp32" and reorders > SHARE
    for name, values in choices(setting.backend).items():
        options, now = dict(setting.options), setting.values()[name]
        for value in values:
            if value == now or name == "trials" or value == "max-autotune":
                continue  # they take long
            way = Setting.of(setting.backend, setting.precision, {**options, name: value}, setting.batch)
            blocked = layouts and value == "extended"  # the level above it computes in blocks of channels
            yield Suggestion(
                "layouts" if blocked else "options of the backend",
                f"{name}: {value}",
                functools.partial(_in_setting, subject, way),
                1 - reorders if blocked else None,
            )


def _other_backends(subject: Subject) -> Iterator[Suggestion]:
    """The other backends that are installed and have the precision; those that take long to compile are only named."""
    setting = subject.setting
    others = [name for name in backends.names() if name not in (setting.backend, "eager")]
    for name in sorted(others, key=lambda name: backends.find(name).compile_s):
        way = Setting.of(name, setting.precision, {"threads": setting.threads}, setting.batch)
        compile_s = backends.find(name).compile_s
        if why_not(way) is None:
            yield Suggestion(
                "backend",
                f"backend: {name}",
                functools.partial(_in_setting, subject, way),
                why_not_tried=None
                if compile_s <= QUICK_S
                else f"compiling takes about {compile_s:.0f} s or more; nasbench tune tries it",
            )


def measured(
    subject: Subject,
    proposed: Sequence[Suggestion] | Iterator[Suggestion],
    *,
    max_s: float = math.inf,
    on_begin: Callable[[str], None] = lambda change: None,
) -> list[dict[str, Any]]:
    """Try suggestions, each timed in turn with the model as it is.

    Args:
        subject: Model that the suggestions are for.
        proposed: Suggestions to try.
        max_s: Seconds for all trials, after which the other suggestions are named and not tried.
        on_begin: Function that is called with each change before it is tried.

    Returns:
        JSON: `cause`, `change`, `predicted` ratio of the time of an image, `measured` ratio with its interval, and a
        `verdict`: "helps", "did not help", or "not tried" with the `reason`. Those that help most come first.
    """
    outcomes, began = [], time.monotonic()
    for suggestion in proposed:
        entry: dict[str, Any] = {
            "cause": suggestion.cause,
            "change": suggestion.change,
            "predicted": suggestion.predicted,
        }
        no_time = "there was no time left; give more with --max-advice-s" if time.monotonic() - began > max_s else None
        if reason := suggestion.why_not_tried or no_time:
            outcomes.append({**entry, "measured": None, "verdict": "not tried", "reason": reason})
            continue
        on_begin(suggestion.change)
        try:
            compiled, batch = suggestion.make()
            ratio = against(subject, compiled, batch)
        except (UserError, WorkFailed) as error:
            outcomes.append({**entry, "measured": None, "verdict": "not tried", "reason": str(error)})
            continue
        verdict = "helps" if ratio.high < 1 else "did not help"
        outcomes.append({**entry, "measured": ratio.to_json(), "verdict": verdict, "reason": None})
    order = {"helps": 0, "did not help": 1, "not tried": 2}
    return sorted(
        outcomes, key=lambda entry: (order[entry["verdict"]], entry["measured"]["ratio"] if entry["measured"] else 0)
    )


def tried_in_words(network: nn.Module, compiled: CompiledModel, bench: Workbench) -> str | None:
    """The trials on a stage of a recipe that saved no time, as a sentence for its report; None if there were none.

    Args:
        network: Network of the stage.
        compiled: Artefact of the network on the device of the bench.
        bench: Workbench on which the network was judged.
    """
    device = bench.device
    if device is None or device.name != "cpu":
        return None
    precision = "int8" if is_quantized(network) else "fp32"
    setting = Setting.of(device.runtime, precision, {"threads": device.threads}, device.batch)
    inputs = bench.task.one_input(device.batch, seed=0)
    try:
        model_profile = profile(compiled, setting, inputs, measure_roofline(device.threads), network)
        subject = Subject(network, bench.task, setting, compiled, model_profile, bench.calibration())
        # A recipe does not decide how many images a call brings.
        promising = [suggestion for suggestion in suggestions(subject) if (suggestion.predicted or 1.0) < PROMISES]
        ranked = sorted(promising, key=lambda suggestion: suggestion.predicted or 1.0)
        outcomes = measured(subject, [suggestion for suggestion in ranked if suggestion.cause != "call overhead"][:FEW])
    except (UserError, WorkFailed):
        return None
    sentences = [
        f"{outcome['change']}: {outcome['verdict']}, {outcome['measured']['ratio']:.2f} of its time "
        f"({outcome['measured']['low']:.2f} to {outcome['measured']['high']:.2f})"
        for outcome in outcomes
        if outcome["measured"] is not None
    ]
    return f"tried on it, in turn: {'; '.join(sentences)}" if sentences else None


def against(subject: Subject, compiled: CompiledModel, batch: int) -> Ratio:
    """The time for an image in another artefact as a multiple of what it is now, in the quietest turns of both."""
    return in_turn(Runner(subject.compiled, subject.setting.batch), Runner(compiled, batch), subject.task)


def in_turn(reference: Runner, other: Runner, task: Task) -> Ratio:
    """The time for an image in `other` as a multiple of that in `reference`; see `nasbench.devices.rounds`."""
    turns = time_in_rounds([reference.call(task), other.call(task)], budget_s=2 * SECONDS * ROUNDS)
    first, second = (Quiet.of(turn) for turn in turns)
    share = reference.batch / other.batch
    ratio = second.over(first)
    return Ratio(ratio.ratio * share, ratio.low * share, ratio.high * share)
