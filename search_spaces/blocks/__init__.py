"""Block modules: what a layer of a chain can be. One file a family, each with its paper.

Every block is made by ``block(inputs, outputs, kernel=..., stride=...)`` and maps (n, inputs, h, w) to
(n, outputs, ceil(h/stride), ceil(w/stride)). What a paper lets one choose besides is a keyword of its function or
class in the file of its family.
"""

from nasbench_registry.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
