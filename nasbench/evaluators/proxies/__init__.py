"""Zero-cost proxies: what an untrained network says of itself; larger is better. One file a proxy."""

from nasbench.evaluators.proxies.probe import IMAGES, Probe
from nasbench.evaluators.proxies.registry import PROXIES, probe_of, proxy, scores

__all__ = ["IMAGES", "PROXIES", "Probe", "probe_of", "proxy", "scores"]
