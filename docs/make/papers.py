"""Reference pages of papers: the tables that can be reproduced, and the source of each method."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstrings import sentence, table

from nasbench.report.paper_page import pair, precision

FOLDER = "reference/papers"
NUMBERS = Path(__file__).parents[1] / "numbers"
"""A file for each table with our numbers: commands, and the rows of each. ``store_numbers.py`` writes it."""
SECTIONS = {
    "time_budget": "what-is-measured",
    "queries": "what-is-measured",
    "best_of_queries": "what-is-measured",
    "latency_ranking": "latency-on-unseen-devices",
    "latency_limit": "latency-on-unseen-devices",
    "hypervolume": "fronts-on-real-devices",
    "joint_replay": "joint-and-sequential-searches",
    "zero_cost_ranking": "zero-cost-proxies",
    "compression": "compression",
    "elastic_front": "elastic-networks",
    "one_shot": "weight-sharing",
    "shared_ranking": "ranks-with-shared-weights",
}
"""By the kind of a protocol: the section of ``docs/tables.md`` that describes it."""


def paper_pages(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Path and Markdown of each page.

    Args:
        missing: List to which nothing is appended: the page of a table without stored numbers says how to measure them.
    """
    from nasbench.tables.paper_table import load_paper_table, table_files

    rows = []
    for about in map(load_paper_table, table_files()):
        stored = NUMBERS / f"{about.name}.json"
        runs = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else []
        yield f"{FOLDER}/{about.name}.md", _table_page(about, runs)
        ours = "yes" if runs else "no"
        rows.append((f"[{about.title}]({about.name}.md)", about.paper, f"`{about.name}`", ours))
    text = [
        "# Papers and their tables",
        "## Tables that can be reproduced",
        "[Read a row of a paper's table](../../read-a-table.md) explains the output, and [Tables of papers]"
        "(../../tables.md) how the tables are measured. Our numbers are stored for tables whose command takes a few "
        "minutes of one core; the pages of the other tables have the command.",
        table(("table", "paper", "name", "page has our numbers"), rows),
        "## Sources of the methods",
        table(("method", "kind", "paper"), _sources()),
    ]
    yield f"{FOLDER}/index.md", "\n\n".join(text) + "\n"


def _table_page(about: Any, runs: list[dict[str, Any]]) -> str:
    parts = [f"# {about.title}", sentence(f"{about.paper}; {about.where}"), about.protocol.text.strip()]
    commands = [run["command"] for run in runs] or [f"nasbench reproduce {about.name}"]
    parts.append("```text\n" + "\n".join(commands) + "\n```")
    section = SECTIONS[about.protocol.kind]
    parts.append(f"More about how this table is measured: [Tables of papers](../../tables.md#{section}).")
    measured = {(row["row"], row["column"]): row for run in runs for row in run["rows"]}
    columns = [column.name for column in about.columns]
    lines = []
    for row in about.rows:
        for column in columns:
            said, ours = row.published.get(column), measured.get((row.name, column), {})
            value = ours.get("measured")
            if said is None and value is None:
                continue
            digits = precision(column)
            published = "" if said is None else pair(said.mean, said.std, digits) + f" [{said.trust}]"
            count = ours.get("n")
            tail = f", 95 %: {ours['p95']:.0f}" if ours.get("p95") else ""
            mine = "" if value is None else pair(value, ours.get("std"), digits) + f"{tail}, n = {count}"
            broken = column.replace("_", "_<wbr>")  # a narrow screen breaks it there
            lines.append((row.name, f"<code>{broken}</code>", published, mine))
        if row.reason:
            lines.append((row.name, "", "", sentence(row.reason)))
    heads = ["row", "column", "published", "ours" if runs else "ours (not stored here; the command prints them)"]
    shown = [index for index in range(4) if index != 2 or any(line[2] for line in lines)]
    cells = [[line[index].replace("|", "\\|") for index in shown] for line in lines]
    parts.append(table([heads[index] for index in shown], cells))
    parts.append(
        "The numbers are means and standard deviations; `n` is the number of runs, or of cells where nothing is run "
        "more than once. A letter says how we know a "
        "published number: V was read in the paper, V2 in another source that quotes it, and M is from memory and was "
        "not checked."
    )
    if about.notes:
        parts += ["## Notes", "\n".join(f"- {sentence(' '.join(note.split()))}" for note in about.notes)]
    return "\n\n".join(parts) + "\n"


def _sources() -> list[tuple[str, str, str]]:
    from names import kinds

    rows = []
    for kind, (title, _, things) in kinds().items():
        for name, thing in things.items():
            source = getattr(thing, "source", "")
            if isinstance(source, str) and source:
                rows.append((f"[`{name}`](../names/{kind}.md#{name})", title.partition(":")[0], source))
    return rows
