"""Reference pages of every key of an experiment file, made of the models that check them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docstrings import all_text, code_rows, inner_models, model_rows, sentence, table
from pydantic import BaseModel

HEADS = ("key", "value", "default", "meaning")
FOLDER = "reference/keys"
NAMED = {
    "problem": "problems",
    "data": "data",
    "space": "spaces",
    "controller": "controllers",
    "evaluator": "evaluators",
    "recipe": "steps",
}
"""Keys that take one of our names with its options, and the page that lists them."""


def key_pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of each page.

    Args:
        missing: List to which a sentence is appended for each key that has no meaning.
    """
    from nasbench.experiment.experiment import Experiment

    index = []
    for name, kind, default, meaning in model_rows(Experiment):
        _note(missing, name, meaning)
        sections = inner_models(Experiment.model_fields[name].annotation)
        if sections:
            yield f"{FOLDER}/{name}.md", _page(name, sections, sentence(meaning), missing)
            link = f"[`{name}`]({name}.md)"
        else:
            link = f"`{name}`"
        if name in NAMED:
            kind = f"[{kind}](../names/{NAMED[name]}.md)"
        index.append((link, kind, default, sentence(meaning)))
    text = (
        "# Keys of an experiment file\n\nEvery key with its value, its default and its meaning. A key that is a "
        "section has its own page. [Experiment files](../../experiments.md) shows all of them in one file with their "
        "defaults.\n\n" + table(HEADS, index) + "\n"
    )
    yield f"{FOLDER}/index.md", text


def _page(name: str, sections: list[type[BaseModel]], meaning: str, missing: list[str]) -> str:
    parts = [f"# {name}: keys", meaning]
    seen: list[Any] = []
    waiting = [(name, section) for section in sections]
    while waiting:
        path, section = waiting.pop(0)
        if (path, section) in seen:
            continue
        seen.append((path, section))
        rows = model_rows(section)
        chosen = next((field.annotation for key, field in section.model_fields.items() if key == "name"), None)
        title = path
        if len(sections) > 1 and path == name and chosen is not None:
            title = f"{path}: {'; '.join(map(str, getattr(chosen, '__args__', ())))}"
        text = all_text(section)
        parts += [f"## {title}", text if text and text != meaning else "", table(HEADS, code_rows(rows))]
        for key, _, _, said in rows:
            _note(missing, f"{path}.{key}", said)
            waiting += [(f"{path}.{key}", inner) for inner in inner_models(section.model_fields[key].annotation)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _note(missing: list[str], key: str, meaning: str) -> None:
    if not meaning:
        missing.append(f"the key {key} has no meaning in the docstring of its section")
