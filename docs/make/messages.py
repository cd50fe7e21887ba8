"""Whether the messages that the page of troubleshooting explains are still said by the code."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("nasbench", "nasbench_registry", "search_spaces", "controllers", "compression")


def forgotten_messages(page: str) -> list[str]:
    """A sentence for each message in a heading of the page that no text of the code holds, its values left out."""
    headings = re.findall(r"^### `(.*)`$", page, flags=re.MULTILINE)
    assert headings, "the page explains messages"
    return [
        f"no code says {heading!r}, which troubleshooting.md explains"
        for heading in headings
        if not any(re.search(_pattern(heading), text) for text in all_texts())
    ]


@functools.cache
def all_texts() -> tuple[str, ...]:
    """Every text of the code, its white space as single blanks and its values as three dots."""
    return tuple(" ".join(text.split()) for package in PACKAGES for text in _texts(ROOT / package))


def _pattern(heading: str) -> str:
    return ".*".join(re.escape(part.strip()) for part in heading.split("..."))


def _texts(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
