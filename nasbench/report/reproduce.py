"""The section on how to get the same run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from nasbench.report.page import facts_table, missing, safe

Record = Mapping[str, Any]

ABOUT_THE_RUN = ("started", "seed", "commit", "run_id", "code_folder", "machine", "system", "cores")


def reproduce(report: Record) -> str:
    """Commands to type, versions, and the experiment with every default (HTML)."""
    environment, experiment = report.get("environment") or {}, report.get("experiment") or {}
    if not environment and not experiment:
        return missing("Neither the environment nor the experiment was recorded.")
    facts = {key: environment[key] for key in ABOUT_THE_RUN if environment.get(key) is not None}
    facts.setdefault("seed", experiment.get("seed", "not recorded"))
    versions: dict[str, object] = {}
    for key, value in environment.items():
        if isinstance(value, Mapping):
            versions |= value
        elif key not in (*ABOUT_THE_RUN, "command"):
            versions[key] = value
    plain = json.loads(json.dumps(experiment, default=str))
    written = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return "\n".join(
        [
            _commands(environment),
            f'<div class="columns"><div>{facts_table("The run", facts)}</div>',
            f"<div>{facts_table('Versions', versions)}</div></div>",
            f"<h3>The experiment, resolved</h3>\n<pre>{safe(written)}</pre>",
        ]
    )


def _commands(environment: Record) -> str:
    command = environment.get("command")
    if isinstance(command, Sequence) and not isinstance(command, str):
        command = shlex.join(str(word) for word in command)
    lines = [f"git checkout {environment['commit']}"] if environment.get("commit") else []
    if command:
        typed = f"<pre>{safe(chr(10).join([*lines, command]))}</pre>"
    else:
        typed = missing("The command was not recorded.") + (f"<pre>{safe(lines[0])}</pre>" if lines else "")
    return (
        f"{typed}\n<p>Or, with the experiment below, in which every default and override is written out, saved as "
        f"<code>again.yaml</code>{_beside(environment)}:</p>\n"
        f"<pre>nasbench search again.yaml --run runs/again</pre>\n"
        '<p class="note">With one worker and a reward that holds no measured quantity, the same versions give the same '
        "candidates and the same numbers on one machine. Measured latencies are never the same twice, and with several "
        "workers the order in which results arrive steers the controller.</p>"
    )


def _beside(environment: Record) -> str:
    folder = environment.get("code_folder")
    return f" in <code>{safe(folder)}</code>, where the code of a space of your own is found" if folder else ""
