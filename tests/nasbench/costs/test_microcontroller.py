"""RAM and flash on a microcontroller, against what the interpreter of TensorFlow Lite Micro reported."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.explain import bottlenecks, convolutions, separable
from nasbench.costs.microcontroller import ALIGNMENT, Buffer, footprint, greedy_by_size
from nasbench.evaluators.costs import paper_costs
from nasbench.objectives.objective import Objective
from nasbench.search.feasibility import check_feasible
from nasbench_registry import UserError
from search_spaces import Task, get_space


def strided():
    norm = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(norm, nn.Conv2d(8, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(588, 10))


def hard_swish():
    first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1), nn.Hardswish())
    return nn.Sequential(first, nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))


def vgg():
    first = [nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1536, 32)]
    return nn.Sequential(*first, *second, nn.ReLU(), nn.Linear(32, 10))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def searched():
    text = (
        "resolution=2,stem=24,width0=32,blocks0=2,kernel0=5,width1=32,blocks1=2,kernel1=5,width2=48,blocks2=1,kernel2=5"
    )
    space = get_space("micro")
    return space.build(space.parse(text), Task((1, 28, 28), 10))


# The whole arena and its activations as tflite-micro 0.dev20261023182759 reports them (`print_allocations`) of the int8
# files that the backend litert makes, with integer ends, and the bytes of these.
REPORTED = {
    "convolutions": (lambda: convolutions((16, 32), 1), (1, 8, 8), 3888, 1280, 9696),
    "on a larger image": (lambda: convolutions((8, 16), 1), (1, 28, 28), 10256, 7840, 6936),
    "separable": (lambda: separable((8, 16, 32)), (3, 32, 32), 28128, 24576, 10088),
    "wider": (lambda: separable((16, 24, 40, 40)), (3, 28, 28), 36528, 31360, 18344),
    "strided": (strided, (1, 28, 28), 6640, 4160, 14040),
    "residual": (lambda: bottlenecks(24, 8, 2), (3, 32, 32), 22832, 18432, 16088),
    "deeper": (lambda: bottlenecks(32, 16, 4), (3, 24, 24), 21488, 13824, 40272),
    "hard swish": (hard_swish, (1, 16, 16), 6640, 4096, 5928),
    "flattened": (vgg, (3, 32, 32), 27968, 24576, 61768),
    "of the space micro": (searched, (1, 28, 28), 23888, 16640, 26344),
    "linear layers": (mlp, (1, 28, 28), 3552, 1568, 55064),
}


@pytest.mark.parametrize("name", REPORTED)
def test_the_arena_is_what_the_interpreter_reports(name):
    build, shape, ram, activations, flash = REPORTED[name]
    network = build()
    memory = footprint(network, Task(shape, 10))
    assert memory.activation_bytes == activations
    assert memory.ram_bytes == pytest.approx(ram, rel=0.05)
    assert memory.flash_bytes == pytest.approx(flash, rel=0.25)  # whose names of tensors are not known


def test_the_network_is_left_as_it_was():
    network = convolutions((8,), 1).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    footprint(network, Task((1, 8, 8), 10))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_lives_at_the_same_time_does_not_overlap():
    """The plan is at least as large as what lives at any moment, and no larger than everything."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = rng.integers(0, 10, 8)
        buffers = [Buffer(int(rng.integers(1, 500)), int(at), int(at + rng.integers(0, 5))) for at in starts]
        sizes = [-(-buffer.bytes // ALIGNMENT) * ALIGNMENT for buffer in buffers]
        alive = [
            sum(size for size, buffer in zip(sizes, buffers, strict=True) if buffer.first <= now <= buffer.last)
            for now in range(15)
        ]
        assert max(alive) <= greedy_by_size(buffers) <= sum(sizes)
    chain = [Buffer(64, at, at + 1) for at in range(6)]
    assert greedy_by_size(chain) == 128
    assert greedy_by_size([]) == 0


def test_buffers_of_one_time_are_stacked():
    for sizes in itertools.permutations((16, 32, 160)):
        assert greedy_by_size([Buffer(size, 0, 0) for size in sizes]) == 208


def test_they_are_costs_of_a_candidate():
    network, task = convolutions((8,), 1), Task((1, 8, 8), 10)
    memory = footprint(network, task)
    known = paper_costs(network, task, micro=True)
    assert (known["ram_bytes"], known["flash_bytes"]) == (memory.ram_bytes, memory.flash_bytes)
    assert "ram_bytes" not in paper_costs(network, task)


def limit(metric, most):
    return Objective(metric=metric, goal="min", limit=most)


def test_a_limit_that_nothing_meets_is_refused_and_one_that_is_met_is_not():
    space, task = get_space("micro"), Task((1, 28, 28), 10)
    tight = [limit("ram_bytes", 2048), limit("flash_bytes", 262144)]
    with pytest.raises(UserError, match="ram_bytes <= 2,048"):
        check_feasible(space, task, tight, None, seed=0, budget_s=0.1)
    candidate = check_feasible(space, task, [limit("ram_bytes", 12000)], None, seed=0, budget_s=5)
    assert candidate.costs["ram_bytes"] <= 12000
    assert footprint(space.build(candidate.arch, task), task).ram_bytes <= 12000
