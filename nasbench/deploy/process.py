"""A function of this package in a child process: what crashes or hangs there takes nothing else with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nasbench.deploy.fork_server import Job, start
from nasbench_compression.compilation.child import ChildError, converse

__all__ = ["ChildError", "ask"]


def ask(function: str, request: Mapping[str, Any], timeout_s: float) -> Any:
    """The answer of ``module:function`` to a request, from a child process that finds the modules that this one finds.

    Raises:
        ChildError: the child did not answer; the message is one sentence for the user.
    """
    try:
        return converse(lambda *files: start(Job(function, *files)), request, timeout_s)
    except ChildError as error:
        sentence = re.sub(r"^(UserError|WorkFailed): ", "", str(error))
        raise ChildError(sentence.rstrip(".")) from None
