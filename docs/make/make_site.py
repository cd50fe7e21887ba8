"""The site: python docs/make/make_site.py writes site/, and fails if a page, a link or a text is missing.

The pages of ``docs`` are copied into ``build/docs`` and joined there by pages that the code itself gives: every key,
command, public name and paper. MkDocs makes the site of them.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly
import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "compression")]

from commands import command_pages  # noqa: E402  # the project is found beside this folder, installed or not
from examples import example_pages, page_of_example  # noqa: E402
from keys import key_pages  # noqa: E402
from messages import forgotten_messages  # noqa: E402
from names import api_pages, name_pages  # noqa: E402
from notebooks import notebook_page  # noqa: E402
from papers import paper_pages  # noqa: E402

SOURCE, BUILD = ROOT / "docs", ROOT / "build"
PLOTLY = "assets/plotly.min.js"
OF_THE_PROJECT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages beside the folder of the documentation, and what they are called in the site."""


def pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of every page of the site.

    Args:
        missing: List to which a sentence is appended for everything that has no description.
    """
    for path in sorted(SOURCE.glob("*.md")):
        yield path.name, path.read_text(encoding="utf-8")
    for file, path in OF_THE_PROJECT.items():
        yield path, (ROOT / file).read_text(encoding="utf-8")
    for notebook in sorted(SOURCE.glob("notebooks/*.ipynb")):
        yield f"notebooks/{notebook.stem}.md", notebook_page(notebook, f"../{PLOTLY}")
    for made in (key_pages, command_pages, api_pages, name_pages, paper_pages, example_pages):
        yield from made(missing)


def with_links(page: str, text: str) -> str:
    """The text of a page, whose links to files of the project lead to the pages of the site that hold the same."""
    here = posixpath.dirname(page)
    folder = "" if page in OF_THE_PROJECT.values() else posixpath.join("docs", here)

    def link(found: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, found[1]))
        to = _page_of(place)
        return f"]({os.path.relpath(to, here or '.')}{found[2] or ''})" if to else found[0]

    return re.sub(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)", link, text)


def _page_of(place: str) -> str | None:
    """The page of the site that holds a file of the project; None where there is none."""
    if place == "README.md":
        return "index.md"
    if place.startswith("experiments"):
        return page_of_example(place)
    return OF_THE_PROJECT.get(place) or (place.removeprefix("docs/") if place.startswith("docs/") else None)


def navigation(entries: list[Any], places: list[str]) -> list[Any]:
    """The navigation, in which a name with a star is replaced by all pages of such names that stand nowhere else."""
    named = {entry for entry in _leaves(entries) if "*" not in entry}
    rest = [place for place in places if place not in named and "/" not in place.removeprefix("notebooks/")]

    def written(entries: list[Any]) -> list[Any]:
        out: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                ((title, value),) = entry.items()
                inner = written(value) if isinstance(value, list) else value
                out += [{title: inner}] if inner else []
            elif "*" in entry:
                matching = fnmatch.filter(rest, entry)
                rest[:] = [place for place in rest if place not in matching]
                out += matching
            else:
                out.append(entry)
        return out

    return written(entries)


def _leaves(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    values = entries.values() if isinstance(entries, dict) else entries or ()
    return [leaf for value in values for leaf in _leaves(value)]


def main() -> int:
    """Write the site; 0 if nothing is missing in it."""
    shutil.rmtree(BUILD / "docs", ignore_errors=True)
    shutil.copytree(SOURCE, BUILD / "docs", ignore=shutil.ignore_patterns("make", "numbers", "__pycache__"))
    missing: list[str] = []
    texts = dict(pages(missing))
    for place, text in texts.items():
        (BUILD / "docs" / place).parent.mkdir(parents=True, exist_ok=True)
        (BUILD / "docs" / place).write_text(with_links(place, text), encoding="utf-8")
    missing += forgotten_messages(texts["troubleshooting.md"])
    script = Path(plotly.__file__).parent / "package_data/plotly.min.js"
    shutil.copyfile(script, BUILD / "docs" / PLOTLY)
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config["nav"] = navigation(config["nav"], sorted(texts))
    config |= {"docs_dir": str(BUILD / "docs"), "site_dir": str(ROOT / "site")}
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    for sentence in missing:
        print(f"not documented: {sentence}", file=sys.stderr)
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(BUILD / "mkdocs.yml")]
    built = subprocess.run(command, env=environment, check=False)
    return 1 if missing else built.returncode


if __name__ == "__main__":
    sys.exit(main())
