"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was checked, in a word or two.
        state: "ok"; "note", where something optional is missing or may disturb measurements; or "problem", with which
            work fails or results are wrong.
        text: What there is, in one sentence.
        mend: Command or action that mends it; None where nothing has to be done.
    """

    check: str
    state: State
    text: str
    mend: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"check": self.check, "state": self.state, "text": self.text, "mend": self.mend}
