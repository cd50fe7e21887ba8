from nasbench_compression.compilation.backend import Backend as Backend, CompiledModel as CompiledModel
from nasbench_compression.recipe import Recipe as Recipe, StepResult as StepResult
from nasbench_compression.registry import (
    BACKENDS as BACKENDS,
    STEPS as STEPS,
    backends as backends,
    get_backend as get_backend,
    get_step as get_step,
    steps as steps,
)
from nasbench_compression.step import (
    Context as Context,
    Finetune as Finetune,
    Loss as Loss,
    OnBatch as OnBatch,
    Step as Step,
)
