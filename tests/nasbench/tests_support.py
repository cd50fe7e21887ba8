"""What several test files of this folder share."""

RECIPE = [
    {"prune": {"ratio": 0.3, "epochs": 2}},
    {"distill": {"epochs": 2}},
    {"quantize": {"precision": "int8"}},
    {"compile": {"backend": "onnxruntime"}},
]


def experiment_of(**changes):
    """A search of a few seconds: digits, small `mobile` networks, one epoch, costs on paper only."""
    return {
        "name": "small",
        "space": {"name": "mobile", "widths": [8, 16], "layers": 1},
        "controller": {"name": "regularized_evolution", "population": 4, "tournament": 2},
        "objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "macs", "goal": "min"}],
        "reward": {"name": "weighted_product", "target": {"macs": 100_000}},
        "training": {"epochs": 1},
        "search": {"candidates": 6},
        "survivors": 0,
    } | changes
