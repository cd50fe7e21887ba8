"""What can be built: search spaces, architectures and block modules."""

from search_spaces.check import check_space
from search_spaces.core import Architecture, Decision, NoValidArchitecture, SearchSpace, Task
from search_spaces.registry import SPACES, get_space, spaces

__all__ = [
    "SPACES",
    "Architecture",
    "Decision",
    "NoValidArchitecture",
    "SearchSpace",
    "Task",
    "check_space",
    "get_space",
    "spaces",
]
