"""doctor: what is wrong with this installation and this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from nasbench.cli.options import Json
from nasbench.cli.output import show

MARKS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


def doctor(
    imports: Annotated[bool, typer.Option(help="Import the packages, too, in a process of their own.")] = True,
    json: Json = False,
) -> None:
    """Look at Python, packages, runtimes, the GPU, counters, the processor, disk and data; say what to mend."""
    from nasbench.doctor.examine import examine

    findings = list(examine(imports=imports))
    problems = [finding for finding in findings if finding.state == "problem"]
    table = Table()
    for column in ("", "looked at", "what there is", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in sorted(findings, key=lambda finding: finding.state != "problem"):
        table.add_row(MARKS[finding.state], finding.check, finding.text, finding.mend or "")
    show(
        {"problems": len(problems), "findings": [finding.to_json() for finding in findings]},
        table,
        as_json=json,
    )
    if problems:
        raise typer.Exit(1)
