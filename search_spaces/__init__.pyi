from search_spaces.check import check_space as check_space
from search_spaces.core import (
    Architecture as Architecture,
    Decision as Decision,
    DecisionSpace as DecisionSpace,
    NoValidArchitecture as NoValidArchitecture,
    SearchSpace as SearchSpace,
    Task as Task,
)
from search_spaces.diagram import Edge as Edge, Graph as Graph, Node as Node
from search_spaces.edges import EdgeSpace as EdgeSpace, MixedEdge as MixedEdge, Zero as Zero
from search_spaces.language import inside as inside, repeated as repeated
from search_spaces.product import ProductSpace as ProductSpace
from search_spaces.registry import SPACES as SPACES, get_space as get_space, spaces as spaces
from search_spaces.task import TensorSpec as TensorSpec
