from nasbench.supernet.differentiable.controller import Differentiable as Differentiable
from nasbench.supernet.differentiable.method import Method as Method, Step as Step
from nasbench.supernet.differentiable.mixed import EdgeWeights as EdgeWeights
from nasbench.supernet.differentiable.registry import METHODS as METHODS
from nasbench.supernet.differentiable.search import DifferentiableSearch as DifferentiableSearch
