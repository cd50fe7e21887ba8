"""The section of the page on how to get the same run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

Record = Mapping[str, Any]

ABOUT_THE_RUN = ("started", "seed", "commit", "run_id", "code_folder", "machine", "system", "cores")


def again(report: Record) -> dict[str, Any] | None:
    """Command, facts, versions, and the experiment with every default; None where nothing of these was recorded."""
    environment, experiment = report.get("environment") or {}, report.get("experiment") or {}
    if not environment and not experiment:
        return None
    facts = {key: environment[key] for key in ABOUT_THE_RUN if environment.get(key) is not None}
    facts.setdefault("seed", experiment.get("seed", "not recorded"))
    versions: dict[str, object] = {}
    for key, value in environment.items():
        if isinstance(value, Mapping):
            versions |= value
        elif key not in (*ABOUT_THE_RUN, "command"):
            versions[key] = value
    command = environment.get("command")
    if isinstance(command, Sequence) and not isinstance(command, str):
        command = shlex.join(str(word) for word in command)
    plain = json.loads(json.dumps(experiment, default=str))
    return {
        "command": command,
        "commit": environment.get("commit"),
        "code_folder": environment.get("code_folder"),
        "facts": facts,
        "versions": versions,
        "experiment": yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100),
    }
