"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What came of one look.

    Attributes:
        check: what was looked at, in a word or two.
        state: "ok"; "note", where something optional is missing or may disturb measurements; or "problem", with which
            work fails or results are wrong.
        text: what there is, in one sentence.
        mend: the command, or what to do; None where nothing has to be done.
    """

    check: str
    state: State
    text: str
    mend: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"check": self.check, "state": self.state, "text": self.text, "mend": self.mend}
