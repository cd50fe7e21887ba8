"""``python -m benchmarks.explain``: is the cause that `nasbench explain` names the right one?

Ten pairs of a network and what a recipe made of it, each in a backend. The causes whose removal the profile of what was
made promises most of are removed, and the ratio that is measured then stands beside the one that was predicted.
"""

from __future__ import annotations

import itertools
import json as json_
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from torch import nn

from benchmarks.command import run_command
from nasbench.cli.options import Json
from nasbench.cli.output import err, show
from nasbench_registry import one_of

CLASSES = 10
WORTH = 0.97  # of the time, below which a prediction is one that promises something
NEAR = 0.10  # how far the interval of what is measured may be from what was predicted
REMOVED = 2  # causes of each pair, those that promise most


def convolutions(widths: Sequence[int], channels: int = 3) -> nn.Module:
    """3x3 convolutions with batch norm and ReLU, halving the image after each."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def separable(widths: Sequence[int]) -> nn.Module:
    """Depthwise and pointwise convolutions in turn, as in MobileNet."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.ReLU()]
    for before, width in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, before, 3, padding=1, groups=before), nn.ReLU(), nn.Conv2d(before, width, 1)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))


class Bottleneck(nn.Module):
    """A residual bottleneck without batch norm (He et al. 2016)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images of the same shape as `images`."""
        return torch.relu(images + self.body(images))


def bottlenecks(width: int, inner: int, depth: int) -> nn.Module:
    """Many small residual blocks."""
    blocks = [Bottleneck(width, inner) for _ in range(depth)]
    stem = [nn.Conv2d(3, width, 3, padding=1, stride=2), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


@dataclass(frozen=True)
class Pair:
    """A network, what is done to it, and where it runs."""

    network: str
    build: Callable[[], nn.Module]
    recipe: tuple[dict[str, Any], ...]
    backend: str
    shape: tuple[int, int, int] = (3, 32, 32)

    @property
    def name(self) -> str:
        """Name of the pair in a row."""
        steps = ", ".join(f"{name} {options}".strip() for step in self.recipe for name, options in step.items())
        return f"{self.network}; {steps.replace('{', '').replace('}', '')}; {self.backend}"


INT8 = ({"quantize": {"precision": "int8"}},)
THIRD = ({"prune": {"ratio": 0.3}},)
PAIRS = (
    Pair("tiny", lambda: convolutions((16, 32), 1), INT8, "onnxruntime", (1, 8, 8)),
    Pair("tiny", lambda: convolutions((16, 32), 1), ({"prune": {"ratio": 0.5}},), "eager", (1, 8, 8)),
    Pair("24 channels", lambda: convolutions((24, 24, 48)), THIRD, "onnxruntime"),
    Pair("bottlenecks", lambda: bottlenecks(48, 12, 8), THIRD, "onnxruntime"),
    Pair("bottlenecks", lambda: bottlenecks(48, 12, 8), INT8, "openvino"),
    Pair("separable", lambda: separable((16, 32, 64)), INT8, "onnxruntime"),
    Pair("separable", lambda: separable((16, 32, 64)), INT8, "eager"),
    Pair("64 channels", lambda: convolutions((64, 64, 128)), ({"sparsify": {"sparsity": 0.5}},), "onnxruntime"),
    Pair("64 channels", lambda: convolutions((64, 64, 128)), INT8, "onnxruntime"),
    Pair("64 channels", lambda: convolutions((64, 64, 128)), THIRD, "openvino"),
)


def command(
    number: Annotated[list[int] | None, typer.Argument(help="Pairs by their number [all].", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of rows; those that are in it are not made again.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Explain ten compressed networks, remove the causes that are named, and compare prediction and measurement."""
    numbers = number or list(range(1, len(PAIRS) + 1))
    for pair_number in numbers:
        one_of("pair", str(pair_number), [str(index + 1) for index in range(len(PAIRS))])
    rows_by_number = {}
    if out is not None and out.exists():
        rows_by_number = {row["number"]: row for row in map(json_.loads, out.read_text(encoding="utf-8").splitlines())}
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=err, transient=True
    ) as bar:
        task = bar.add_task("explain", total=len(numbers))
        for pair_number in numbers:
            pair = PAIRS[pair_number - 1]
            bar.update(task, description=pair.name)
            if pair_number not in rows_by_number:
                rows_by_number[pair_number] = {"number": pair_number, "pair": pair.name, **explained(pair)}
                if out is not None:
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json_.dumps(rows_by_number[pair_number]) + "\n")
            bar.advance(task)
    rows = [rows_by_number[pair_number] for pair_number in numbers]
    show({"pairs": rows, **summed_up(rows)}, _table(rows), as_json=json)


def explained(pair: Pair, *, seconds: float = 1.5) -> dict[str, Any]:
    """Whether a recipe made a network faster, the causes that are named, and what removing them does.

    Returns:
        JSON: `ratio` of the time after and before, with its interval; `faster`; `causes` by share; and in `removed`, of
        each of the causes that promise most, what `measured` of `nasbench.deploy.advice` says.
    """
    from nasbench.deploy.advice import Subject, causes, in_turn, measured, suggestions
    from nasbench.deploy.explain import profile
    from nasbench.deploy.race import Runner
    from nasbench.deploy.setting import Setting
    from nasbench.devices.roofline import measure_roofline
    from nasbench_compression import Context, Recipe
    from nasbench_compression.quantization.modules import is_quantized
    from search_spaces import Task

    torch.manual_seed(0)
    task = Task(pair.shape, CLASSES)
    images = torch.randn(32, *pair.shape)
    before = pair.build().eval()
    after = before
    for step in Recipe.parse([dict(step_entry) for step_entry in pair.recipe]).steps:
        compressed, _ = step.apply(after, Context(images[:1], calibration=images))
        assert isinstance(compressed, nn.Module), "no recipe here compiles"
        after = compressed
    runners = {}
    for name, network in (("before", before), ("after", after)):
        setting = Setting.of(pair.backend, "int8" if is_quantized(network) else "fp32")
        compiled = setting.make().compile(network, task.one_input(1, seed=0), setting.precision, images)
        runners[name] = Runner(compiled, 1)
    ratio = in_turn(runners["before"], runners["after"], task)
    operator_profile = profile(
        runners["after"].compiled, setting, task.one_input(1, seed=0), measure_roofline(), after, seconds=seconds
    )
    subject = Subject(after, task, setting, runners["after"].compiled, operator_profile, images)
    promising = [
        suggestion
        for suggestion in suggestions(subject)
        if suggestion.predicted is not None and suggestion.predicted < WORTH
    ]
    most = sorted(promising, key=lambda suggestion: suggestion.predicted or 1.0)
    first = {suggestion.cause: suggestion for suggestion in reversed(most)}  # of each cause what promises most
    chosen = sorted(first.values(), key=lambda suggestion: suggestion.predicted or 1.0)[:REMOVED]
    return {
        "ratio": ratio.to_json(),
        "faster": ratio.high < 1,
        "causes": causes(subject),
        "removed": measured(subject, chosen),
    }


def moved_as_predicted(removed: Mapping[str, Any]) -> bool:
    """Whether the whole interval of what was measured is below 1, and no farther than `NEAR` from the prediction."""
    measured, predicted = removed["measured"], removed["predicted"]
    return measured is not None and bool(
        measured["high"] < 1 and measured["low"] - NEAR <= predicted <= measured["high"] + NEAR
    )


def summed_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many pairs are not faster, and of how many a cause was shown to be the right one by removing it."""
    return {
        "count": len(rows),
        "not_faster": sum(not row["faster"] for row in rows),
        "shown": sum(_shown(row) for row in rows),
        "not_faster_shown": sum(_shown(row) and not row["faster"] for row in rows),
    }


def _shown(row: Mapping[str, Any]) -> bool:
    return any(moved_as_predicted(removed) for removed in row["removed"])


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    from rich.console import Group

    table = Table(title="Predicted and measured: the time of an image, as a multiple of what it was")
    for column in ("", "network; recipe; backend", "after : before", "cause", "removed by"):
        table.add_column(column)
    for column in ("predicted", "measured", "95 % interval", "as predicted"):
        table.add_column(column, justify="right")
    for row in rows:
        ratio = row["ratio"]
        head = [
            str(row["number"]),
            row["pair"],
            f"{ratio['ratio']:.2f} ({ratio['low']:.2f} - {ratio['high']:.2f})",
        ]
        for removed in row["removed"] or [None]:
            if removed is None:
                table.add_row(*head, "none promises anything")
                continue
            measured = removed["measured"]
            table.add_row(
                *head,
                removed["cause"],
                removed["change"],
                f"{removed['predicted']:.2f}",
                "" if measured is None else f"{measured['ratio']:.2f}",
                str(removed["reason"]) if measured is None else f"{measured['low']:.2f} - {measured['high']:.2f}",
                "yes" if moved_as_predicted(removed) else "no",
            )
            head = ["", "", ""]
    summary = summed_up(rows)
    return Group(
        table,
        Text(
            f"{summary['not_faster']} of {summary['count']} are not faster. Removing a named cause moved the time as "
            f"predicted, to within {NEAR:g} of the interval, in {summary['shown']} of all and in "
            f"{summary['not_faster_shown']} of those."
        ),
    )


if __name__ == "__main__":
    run_command(command, "explain")
