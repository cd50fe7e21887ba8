"""What makes the pages of the site, and says what nothing is said about; `make docs` runs it on the whole project."""

import re
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs/make"))

pytest.importorskip("griffe", reason="the packages of the site are missing; run: make docs")

import docstrings  # noqa: E402  # the folder of the site is no package
import keys  # noqa: E402
import messages  # noqa: E402
from make_site import navigation, with_links  # noqa: E402
from store_numbers import replaced  # noqa: E402


class Section(BaseModel):
    """A section.

    Attributes:
        width: channels of
            a layer.
    """

    width: Annotated[int, Field(ge=1, le=8)] = 4
    forgotten: float | None = None


def test_a_key_has_its_type_its_limits_its_default_and_its_meaning():
    width, forgotten = docstrings.model_rows(Section)
    assert width == ("width", "integer from 1 up to 8", "`4`", "channels of a layer.")
    assert forgotten == ("forgotten", "number or null", "`null`", "")


def test_a_key_without_a_meaning_is_told(monkeypatch):
    import nasbench.experiment.experiment as module

    class Experiment(BaseModel):
        """An experiment file."""

        section: Section = Section()

    monkeypatch.setattr(module, "Experiment", Experiment)
    missing = []
    pages = dict(keys.key_pages(missing))
    assert missing == ["the key section.forgotten has no meaning in the docstring of its section"]
    assert set(pages) == {"reference/keys/section.md", "reference/keys/index.md"}


def test_a_message_that_no_code_says_any_more_is_told():
    page = (ROOT / "docs/troubleshooting.md").read_text()
    assert not messages.forgotten_messages(page)
    (forgotten,) = messages.forgotten_messages("### `the frobnication of ... is over`\n")
    assert "frobnication" in forgotten


def test_a_page_that_no_entry_names_is_found_by_a_star():
    entries = [
        {"Start": ["start.md"]},
        {"Tables": ["tables.md", "tables-*.md"]},
        {"None": ["z*.md"]},
        {"More": ["*.md"]},
    ]
    places = ["new.md", "reference/keys/index.md", "start.md", "tables-new.md", "tables.md"]
    assert navigation(entries, places) == [
        {"Start": ["start.md"]},
        {"Tables": ["tables.md", "tables-new.md"]},
        {"More": ["new.md"]},
    ]


def test_links_to_files_of_the_project_lead_to_pages_of_the_site():
    text = "[a](../experiments/quickstart.yaml) [b](../README.md#x) [c](data.md#y) [d](https://e.org)"
    pages = "[a](examples/quickstart.md) [b](index.md#x) [c](data.md#y) [d](https://e.org)"
    assert with_links("joint.md", text) == pages
    assert with_links("joint.md", "[a](../CONTRIBUTING.md)") == "[a](contributing.md)"
    assert with_links("contributing.md", "[a](docs/data.md)") == "[a](data.md)"


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ("space of my own", "Tutorial: write a space and search it"),
        ("own network", "Compress my network"),
        ("own metric", "Score with my own metric"),
        ("resume a search on a cluster", "Run and resume on a cluster"),
        ("row of such a table", "Read a row of a paper's table"),
    ],
)
def test_the_start_page_leads_to_each_task_by_its_title(task, title):
    (row,) = [line for line in (ROOT / "docs/index.md").read_text().splitlines() if task in line]
    (page,) = re.findall(r"\]\((.*?)\)", row)
    assert title in row
    assert (ROOT / "docs" / page).read_text().startswith(f"# {title}\n")


def test_numbers_of_a_table_are_those_of_the_last_command_that_gave_their_row():
    rows = [{"row": name, "measured": 1.0} for name in ("random", "nsga2")]
    again = {"command": "second", "rows": [{"row": "random", "measured": 2.0}]}
    assert replaced([{"command": "first", "rows": rows}], again) == [{"command": "first", "rows": rows[1:]}, again]
    assert replaced([{"command": "first", "rows": rows[:1]}], again) == [again], "a command without rows is gone"
