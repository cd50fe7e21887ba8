"""What can be built: search spaces, architectures and block modules."""

from search_spaces.check import check_space
from search_spaces.core import Architecture, Decision, DecisionSpace, NoValidArchitecture, SearchSpace, Task
from search_spaces.diagram import Edge, Graph, Node
from search_spaces.language import inside, repeated
from search_spaces.product import ProductSpace
from search_spaces.registry import SPACES, get_space, spaces

__all__ = [
    "SPACES",
    "Architecture",
    "Decision",
    "DecisionSpace",
    "Edge",
    "Graph",
    "NoValidArchitecture",
    "Node",
    "ProductSpace",
    "SearchSpace",
    "Task",
    "check_space",
    "get_space",
    "inside",
    "repeated",
    "spaces",
]
