from nasbench.models.store import (
    Origin as Origin,
    StoredModel as StoredModel,
    load_compiled as load_compiled,
    load_model as load_model,
    read_description as read_description,
    save_model as save_model,
)
