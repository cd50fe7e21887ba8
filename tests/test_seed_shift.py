"""NASBENCH_TEST_SEED_SHIFT changes weights, training, controllers and samples, in children, too; not golden tests."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

WHAT_SEEDS_DECIDE = """
    import json

    import numpy as np
    import torch

    from controllers import get_controller
    from nasbench.data import Split
    from nasbench.training import train
    from nasbench.training.config import TrainingConfig
    from nasbench_compression.step import seeded
    from search_spaces import Task, get_space
    from search_spaces.fresh_model import fresh_model

    torch.set_num_threads(1)
    space = get_space("mobile", widths=[8], layers=1)
    arch = space.sample(np.random.default_rng(0))
    weights = torch.nn.utils.parameters_to_vector
    proposed = get_controller("random", space, seed=0).ask().arch
    told = {"sample": space.format(arch), "controller": space.format(proposed)}
    fixed = space.architecture([0] * len(space.decisions))
    fresh = fresh_model(space, fixed, Task((1, 8, 8), 10), 0)
    told["weights"] = weights(fresh.parameters()).sum().item()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.fill_(0.1)
    images = torch.arange(64 * 64.0).sin().view(64, 1, 8, 8)
    train(fresh, Split(images, torch.arange(64) % 10), TrainingConfig(epochs=1, batch_size=16), seed=0)
    told["trained"] = weights(fresh.parameters()).sum().item()
    with seeded(0, device=torch.device("cpu")):
        told["step"] = torch.rand(()).item()
    print(json.dumps(told))
"""


def seeded_values(shift: int, tmp_path) -> dict:
    (tmp_path / "told.py").write_text(textwrap.dedent(WHAT_SEEDS_DECIDE))
    folder = os.path.join(os.path.dirname(__file__), "seed_shift")
    path = os.pathsep.join([folder, *filter(None, sys.path)])
    environment = os.environ | {"NASBENCH_TEST_SEED_SHIFT": str(shift), "PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, tmp_path / "told.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_shift_changes_all_that_seeds_decide_and_the_same_shift_nothing(tmp_path):
    unshifted, shifted, again = (seeded_values(shift, tmp_path) for shift in (0, 1, 1))
    assert shifted == again
    assert [name for name in shifted if shifted[name] == unshifted[name]] == []


@pytest.mark.fixed_seeds
def test_golden_values_keep_their_seeds():
    assert torch.randn(1, generator=torch.Generator().manual_seed(0)).item() == pytest.approx(1.5409961)
    assert np.random.default_rng(0).random() == pytest.approx(0.6369616873)
