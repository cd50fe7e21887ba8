"""One experiment from beginning to end."""

from nasbench.search.engine import Watcher, run_search
from nasbench.search.preflight import prepare

__all__ = ["Watcher", "prepare", "run_search"]
