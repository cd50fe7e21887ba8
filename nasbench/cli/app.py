"""The command line: ``nasbench COMMAND``. A command is imported when it is asked for, not before."""

from __future__ import annotations

import builtins
import functools
import importlib
import keyword
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from nasbench.cli.entry import run_app
from nasbench_registry.files import user_path

COMMANDS = {
    "init": "Write a commented experiment file to begin with.",
    "search": "Run an experiment: search, compress the survivors, report.",
    "resume": "Go on with a search that was interrupted or killed; -o changes where it runs and when it ends.",
    "status": "Show how far a run is.",
    "report": "Write report.json, report.html and trials.csv again from what the run holds.",
    "build-table": "Measure networks, and recipes on them, once each, into a table that searches look up; resumable.",
    "compare": "Put runs of one experiment side by side: hypervolume over time, and which way of searching was better.",
    "reorder": "Say whether a joint search will pay: whether networks keep their order when they are deployed.",
    "profile": "Show what the networks of a space cost before training, and what share of them meets the limits.",
    "calibrate": "Measure a sample of a space on a device, fit a latency predictor, and say how well it predicts.",
    "train": "Train one architecture from scratch as an experiment says, and judge it on test images.",
    "import": "Make a model folder of a network from outside: a function that builds it, weights, data.",
    "elastic": "Train all networks inside a trained one together: fewer channels and blocks, smaller images.",
    "compress": "Take a stored model through a recipe, measure every stage, and save them.",
    "export": "Compile a stored model for a runtime, check its accuracy, and save the artefact.",
    "matrix": "Accuracy, bytes, latency and conversion time of models x variants x backends x precisions.",
    "tune": "Search backends, precisions, threads and options for the fastest that keeps the accuracy.",
    "sensitivity": "Judge a model with one layer at a time pruned, decomposed, or in fewer bits, without fine-tuning.",
    "benchmark": "Measure latency and throughput of stored models; all models and backends are timed in turn.",
    "explain": "Tell where the time of a model goes in a runtime, what bounds it, and what helps, each tried.",
    "reproduce": "Measure a table of a paper again, its numbers beside ours; without TABLE list them.",
    "data": "Published measurements: list, fetch, verify.",
    "doctor": "Look at Python, packages, runtimes, the GPU, counters, the processor, disk and data; say what to mend.",
    "list": "List what an experiment or a command may name, or the runs below a folder.",
    "blocks": "Compare block modules on one input shape: params, MACs, FLOPs per byte, peak memory, measured latency.",
    "draw": "Draw an architecture of a space as SVG.",
    "count": "Count the distinct networks of a space, exactly.",
    "check-space": "Check that a search space keeps the contract; say what is wrong with it.",
}
"""The summaries of the commands by name: the first line of what each says about itself."""


def as_typed(function: Any) -> Any:
    """A command that takes what users type alike, whichever it is.

    In its paths ~ is the home folder, also where no shell says so, such as in --out=~/x; and ``module:attribute`` is
    found in the working folder.
    """

    @functools.wraps(function)
    def call(**values: Any) -> Any:
        from nasbench.cli.options import import_from

        import_from()
        return function(**{name: _with_home(value) for name, value in values.items()})

    return call


def _with_home(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_with_home(item) for item in value]
    return user_path(value) if isinstance(value, Path) else value


def plain_help(command: Any) -> Any:
    """The command, whose help shows [brackets] as they are written; Rich would take them for its markup."""
    for documented in (command, *command.params):
        if getattr(documented, "help", None):
            documented.help = escape(documented.help)
    for name, inner in getattr(command, "commands", {}).items():
        command.commands[name] = plain_help(inner)
    return command


class LazyCommand(TyperCommand):
    """A command that is known by its name and summary until it is called.

    Args:
        name: Key of `COMMANDS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name])

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """A context of the command itself, which is imported now."""
        return self.load().make_context(info_name, args, parent, **extra)

    def load(self) -> Any:
        """The command itself: the function, or the group of commands, that has the name of its module."""
        assert self.name is not None
        name = self.name.replace("-", "_")
        name += "_" if hasattr(builtins, name) or keyword.iskeyword(name) else ""
        command = getattr(importlib.import_module(f"nasbench.cli.{name}"), name)
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(add_completion=False)
            command.command(self.name)(function)
        for registered in command.registered_commands:
            registered.callback = as_typed(registered.callback)
        return plain_help(typer.main.get_command(command))


class LazyGroup(TyperGroup):
    """All commands of `COMMANDS`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands.update({name: LazyCommand(name) for name in COMMANDS})


app = typer.Typer(
    name="nasbench",
    help="Neural architecture search and model compression, rewarded on the artefact that is deployed.",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from nasbench import __version__

        typer.echo(f"nasbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Neural architecture search and model compression, rewarded on the artefact that is deployed."""


def main() -> NoReturn:
    """Exit 0 = done, 1 = the work failed, 2 = bad usage or configuration."""
    run_app(app, "nasbench")
