"""Models on disk."""

from nasbench.models.store import Origin, StoredModel, load_compiled, load_model, read_description, save_model

__all__ = ["Origin", "StoredModel", "load_compiled", "load_model", "read_description", "save_model"]
