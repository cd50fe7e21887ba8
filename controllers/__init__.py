"""What to try next: search algorithms behind ask and tell."""

from controllers.core import Controller, Outcome, Proposal, SearchFinished, dominates, stalled
from controllers.registry import CONTROLLERS, controllers, get_controller

__all__ = [
    "CONTROLLERS",
    "Controller",
    "Outcome",
    "Proposal",
    "SearchFinished",
    "controllers",
    "dominates",
    "get_controller",
    "stalled",
]
