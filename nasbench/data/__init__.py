"""Data sets: real images, divided into training, validation and test parts."""

from nasbench.data.images import ImageData, Split
from nasbench.data.registry import DATASETS, check_data, load_data, why_missing

__all__ = ["DATASETS", "ImageData", "Split", "check_data", "load_data", "why_missing"]
