"""A module of this package in a child process: what crashes or hangs there takes nothing else with it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from nasbench_compression.compilation.child import ChildError, run_child

__all__ = ["ChildError", "ask"]


def ask(module: str, request: Mapping[str, Any], timeout_s: float) -> Any:
    """The answer of ``python -m module`` to a request; it finds the modules that this process finds.

    Raises:
        ChildError: the child did not answer; the message is one sentence for the user.
    """
    environment = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in sys.path if path))}
    try:
        return run_child(["-m", module], request, timeout_s=timeout_s, environment=environment)
    except ChildError as error:
        sentence = re.sub(r"^(UserError|WorkFailed): ", "", str(error))
        raise ChildError(sentence.rstrip(".")) from None
