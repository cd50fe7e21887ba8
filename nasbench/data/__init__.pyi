from nasbench.data.images import ImageData as ImageData, Split as Split
from nasbench.data.registry import (
    DATASETS as DATASETS,
    check_data as check_data,
    load_data as load_data,
    why_missing as why_missing,
)
