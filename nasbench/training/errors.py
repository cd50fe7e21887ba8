"""Why a training ends before its last epoch."""

from __future__ import annotations


class Diverged(Exception):
    """The loss stopped being a finite number, or the network does no better than guessing."""


class TimedOut(Exception):
    """The time that a training was given is over."""
