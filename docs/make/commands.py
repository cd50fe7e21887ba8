"""Reference pages of every command, made of what typer knows about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docstrings import sentence, table

FOLDER = "reference/commands"


def command_pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of each page.

    Args:
        missing: List to which a sentence is appended for each argument or option without a help text.
    """
    from nasbench.cli.app import COMMANDS, LazyCommand

    rows = []
    for name, summary in COMMANDS.items():
        command = LazyCommand(name).load()
        yield f"{FOLDER}/{name}.md", _page(f"nasbench {name}", command, missing)
        rows.append((f"[`{name}`]({name}.md)", sentence(summary)))
    text = (
        "# Commands\n\nEvery command has `--help`, and every command with a result has `--json`, which prints one JSON "
        "document and nothing else. Exit codes: 0: success; 1: the work failed; 2: the usage or the configuration is "
        "wrong.\n\n" + table(("command", "what it does"), rows) + "\n"
    )
    yield f"{FOLDER}/index.md", text


def _plain(text: str) -> str:
    return text.replace("\\[", "[").replace("|", "\\|")


def _written(parameter: Any) -> str:
    """How an argument is written in the usage of its command."""
    return str(parameter.metavar or parameter.name.upper().rstrip("_"))


def _page(name: str, command: Any, missing: list[str]) -> str:
    parts = [f"# {name}", *_parts(name, command, missing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parts(name: str, command: Any, missing: list[str]) -> Iterator[str]:
    import click

    text = (command.help or "").replace("\\[", "[").replace("\f", "")
    if not text:
        missing.append(f"the command {name} says nothing about itself")
    yield sentence(text)
    context = click.Context(command, info_name=name)
    yield "```text\n" + " ".join([name, *command.collect_usage_pieces(context)]) + "\n```"
    rows = []
    for parameter in command.params:
        option = parameter.param_type_name == "option"
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        said = getattr(parameter, "help", None) or ""
        if not said:
            missing.append(f"{_written(parameter)} of the command {name} has no help text")
        words = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts)) if option else ""
        default = parameter.default
        shown = "" if default is None or callable(default) or not option else f"`{default}`"
        if getattr(parameter, "is_flag", False):
            shown = "off" if not default else "on"
        elif parameter.required:
            shown = "required"
        rows.append((words or f"`{_written(parameter)}`", shown, sentence(_plain(said))))
    if rows:
        yield table(("argument or option", "default", "meaning"), rows)
    for inner in getattr(command, "commands", {}).values():
        yield f"## {name} {inner.name}"
        yield from _parts(f"{name} {inner.name}", inner, missing)
