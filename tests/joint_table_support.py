"""A table of networks with recipes whose numbers follow formulas: quick to make, and its true front is known."""

from pathlib import Path

import numpy as np
import pandas as pd

from nasbench.evaluators.compressed.recipe_space import RecipeSpace
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.experiment.build_table import distinct
from nasbench.tables.built import FORMAT, BuiltTable, counted, described, write_table
from search_spaces import get_space

SPACE = {"name": "mobile", "widths": [16, 32], "layers": 1, "kernels": [3], "blocks": ["convolution", "ghost_module"]}
RECIPE = [
    {"prune": {"ratio": {"choice": [0, 0.5]}}},
    {"quantize": {"precision": {"choice": ["fp32", "int8", "int4"]}}},
    {"compile": {"backend": {"choice": ["onnxruntime", "openvino"]}}},
]
TRAINING_S, RECIPE_S = 50.0, 2.0
UNITS = {"val_acc_pct": ("%", "max"), "latency_ms": ("ms", "min"), "size_bytes": ("B", "min"), "macs": ("", "min")}


def space() -> JointSpace:
    options = {key: value for key, value in SPACE.items() if key != "name"}
    return JointSpace(get_space("mobile", **options), RecipeSpace(RECIPE))


def joint_table(path: Path, *, leave_out: int = 0) -> BuiltTable:
    """All 36 networks, or without the first so many, with 12 recipes each; int4 turns the order of networks around."""
    whole, rng = space(), np.random.default_rng(0)
    networks = distinct(whole.network, None, rng)
    quality = dict(zip(networks, np.linspace(60, 90, len(networks)), strict=True))
    rows = []
    for network in networks[leave_out:]:
        for point in distinct(whole.recipes, None, rng):
            arch = whole.join([network, point])
            text, accuracy = whole.recipes.format(point), quality[network]
            pruned, backend = 0.5 if "ratio=0.5" in text else 1.0, 0.8 if "openvino" in text else 1.0
            bits = 8 if "int8" in text else 4 if "int4" in text else 32
            macs = 1e5 * (1 + networks.index(network)) * pruned
            rows.append(
                {
                    "network": whole.network.format(network),
                    "recipe": text,
                    "picks": list(whole.canonical(arch).picks),
                    "status": "done",
                    "error": "",
                    "training_seconds": TRAINING_S,
                    "recipe_seconds": RECIPE_S,
                    "trained_val_acc_pct": accuracy,
                    "val_acc_pct": (150 - accuracy if bits == 4 else accuracy) - 3 * (pruned < 1),
                    "latency_ms": 1e-6 * macs * backend * (0.7 if bits == 8 else 1.0),
                    "size_bytes": 0.02 * macs * bits / 8,
                    "macs": macs,
                }
            )
    frame = pd.DataFrame(rows)
    metrics = {
        name: {"unit": unit, "goal": goal, "summary": "", "protocol": ""} for name, (unit, goal) in UNITS.items()
    }
    card = {
        "format": FORMAT,
        "name": "formulas",
        "space": {**SPACE, "name": whole.name},
        "decisions": described(whole),
        "recipe": RECIPE,
        "metrics": metrics | {"trained_val_acc_pct": {"unit": "%", "goal": "max", "summary": "", "protocol": ""}},
        "seconds": {},
        "experiment": {"space": SPACE},
        **counted(frame),
    }
    return write_table(path, frame, card)
