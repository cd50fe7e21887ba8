"""Names that a user types, and what they stand for.

Four kinds of things are named in an experiment: spaces, controllers, compression steps and compilation
backends. Each kind has one explicit table of names; other packages add to it through an entry-point group, and a
class of the user's own is named ``module:Class``. This package is the one place that resolves such a name and
the one place that words the error for a name or an option that does not exist.
"""

from nasbench_registry.lazy import Entries
from nasbench_registry.names import UserError, WorkFailed, check_options, nearest, one_of, raised, unknown
from nasbench_registry.registry import Names, Registry

__all__ = [
    "Entries",
    "Names",
    "Registry",
    "UserError",
    "WorkFailed",
    "check_options",
    "nearest",
    "one_of",
    "raised",
    "unknown",
]
