"""What each space owes to its paper."""

import gzip
import itertools

import numpy as np

from search_spaces import Task, get_space

BEST_CIFAR100 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_nasbench201_counts_as_the_paper_does():
    space = get_space("nasbench201")
    assert space.size == 15_625
    archs = [space.architecture(picks) for picks in itertools.product(range(5), repeat=6)]
    assert len({space.canonical(arch) for arch in archs}) == 6_466


def test_nasbench201_notation_is_the_papers():
    space = get_space("nasbench201")
    arch = space.parse(BEST_CIFAR100)
    assert space.format(arch) == BEST_CIFAR100
    assert space.choices(arch)["3<-0"] == "skip_connect"


def test_nasbench201_merges_a_skip_with_its_input():
    space = get_space("nasbench201")
    through = space.parse("|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|")
    direct = space.parse("|skip_connect~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|")
    assert space.canonical(through) == space.canonical(direct)


def test_nasbench201_parameters_equal_the_published_ones(data_file):
    """200 random cells with 16 channels and 5 cells a stage, against the benchmark's own table."""
    path = data_file("nasbench201/nasbench201.csv.gz")
    with gzip.open(path, "rt") as file:
        header = file.readline().strip().split(",")
        rows = [line.strip().split(",") for line in file]
    space, task = get_space("nasbench201"), Task((3, 32, 32), 10)
    for row in np.random.default_rng(0).choice(len(rows), size=200, replace=False):
        cell = dict(zip(header, rows[row], strict=True))
        model = space.build(space.parse(cell["arch"]), task)
        assert sum(p.numel() for p in model.parameters()) == round(float(cell["params"])), cell["arch"]


def test_mobile_identity_has_neither_kernel_nor_width():
    space = get_space("mobile")
    first = space.parse(
        "convolution_k3_w1.0-identity_k5_w0.75/convolution_k3_w1.0-identity_k3_w1.0/"
        "convolution_k3_w1.0-ghost_module_k3_w1.0"
    )
    second = space.canonical(first)
    assert space.format(second).startswith("convolution_k3_w1.0-identity_k3_w0.5/")
    count = [sum(p.numel() for p in space.build(arch, Task((1, 8, 8), 10)).parameters()) for arch in (first, second)]
    assert count[0] == count[1]


def test_mobile_follows_its_options():
    space = get_space("mobile", widths=(8, 16), layers=3, kernels=(7,), blocks=("ghost_module", "identity"))
    assert len(space.decisions) == 18
    assert space.decisions[0].options == ("ghost_module",)
    assert space.decisions[3].options == ("ghost_module", "identity")
