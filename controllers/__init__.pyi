from controllers.core import (
    Controller as Controller,
    Outcome as Outcome,
    Proposal as Proposal,
    SearchFinished as SearchFinished,
    dominates as dominates,
    stalled as stalled,
)
from controllers.registry import (
    CONTROLLERS as CONTROLLERS,
    controllers as controllers,
    get_controller as get_controller,
)
