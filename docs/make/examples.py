"""Pages that show the experiment files and recipes of the folder `experiments`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from docstrings import table

FOLDER = "examples"
ROOT = Path(__file__).parents[2]


def page_of_example(place: str) -> str:
    """The page of a file of the folder `experiments`."""
    inside = place.removeprefix("experiments/").strip("/")
    if inside in ("", "recipes"):
        return f"{FOLDER}/{inside or 'experiments'}.md"
    return f"{FOLDER}/{inside.removesuffix('/README.md').removesuffix('.yaml')}.md"


def example_pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of each page.

    Args:
        missing: List to which a sentence is appended for each file without a comment at its top.
    """
    for folder, page, title in (("", "experiments", "Experiment files"), ("recipes", "recipes", "Recipes")):
        rows = []
        for file in sorted((ROOT / "experiments" / folder).glob("*.yaml")):
            code = file.read_text(encoding="utf-8")
            place = file.relative_to(ROOT).as_posix()
            comment = " ".join(line.lstrip("# ") for line in itertools.takewhile(_comment, code.splitlines()))
            about = comment.partition(". ")[0].rstrip(".:")
            if not about:
                missing.append(f"{place} does not say in its first comment what it is")
            yield page_of_example(place), f"# {place}\n\n```yaml\n{code.rstrip()}\n```\n"
            rows.append((f"[`{place}`]({Path(page_of_example(place)).relative_to(FOLDER).as_posix()})", about))
        text = [f"# {title}: examples", table(("file", "content"), rows)]
        readme = ROOT / "experiments" / folder / "README.md"
        if folder and readme.is_file():
            about = readme.read_text(encoding="utf-8").partition("\n")[2].replace("](../../docs/", "](../")
            text.append(re.sub(r"\]\(([\w-]+)\.yaml\)", rf"]({folder}/\1.md)", about))
        yield f"{FOLDER}/{page}.md", "\n\n".join(text) + "\n"


def _comment(line: str) -> bool:
    return line.startswith("#")
