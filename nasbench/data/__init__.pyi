from nasbench.data.dataset import Data as Data
from nasbench.data.registry import (
    DATASETS as DATASETS,
    check_data as check_data,
    load_data as load_data,
    why_missing as why_missing,
)
from nasbench.data.split import Split as Split
