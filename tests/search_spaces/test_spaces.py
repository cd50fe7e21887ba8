"""What each space owes to its paper."""

import gzip
import itertools

import numpy as np
import pytest
import torch

from nasbench_registry import UserError
from search_spaces import Task, check_space, get_space

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
    """All 15,625 cells with 16 channels and 5 cells a stage, against the benchmark's own table.

    Parameters are added up over the edges: those of the network without any, and what each operation on each edge adds
    to it. That they do add up is seen on 200 random cells, whose networks are built.
    """
    path = data_file("nasbench201/nasbench201.csv.gz")
    with gzip.open(path, "rt") as file:
        header = file.readline().strip().split(",")
        rows = [dict(zip(header, line.strip().split(","), strict=True)) for line in file]
    space, task = get_space("nasbench201"), Task((3, 32, 32), 10)

    def count(picks):
        with torch.device("meta"):
            return sum(p.numel() for p in space.build(space.architecture(picks), task).parameters())

    empty = count([0] * 6)
    added = [[count([0] * edge + [pick] + [0] * (5 - edge)) - empty for pick in range(5)] for edge in range(6)]
    archs = [space.parse(row["arch"]) for row in rows]
    assert len(set(archs)) == len(archs) == 15_625
    for arch, row in zip(archs, rows, strict=True):
        assert empty + sum(map(list.__getitem__, added, arch.picks)) == round(float(row["params"])), row["arch"]
    for index in np.random.default_rng(0).choice(len(rows), size=200, replace=False):
        assert count(archs[index].picks) == round(float(rows[index]["params"])), rows[index]["arch"]


def test_nasbench201_diagram_shows_the_cell_without_zeros():
    space = get_space("nasbench201", cells=1)
    cell, network = space.diagram(
        space.parse("|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"),
        Task((1, 8, 8), 10),
    )
    assert [node.kind for node in cell.nodes] == ["input", "value", "value", "output"]
    assert [(edge.source, edge.target, edge.label) for edge in cell.edges] == [
        ("node0", "node1", "avg pool 3x3"),
        ("node1", "node2", "conv 3x3"),
        ("node0", "node3", "skip"),
        ("node2", "node3", "conv 1x1"),
    ]
    assert network.is_chain
    assert [node.label for node in network.nodes].count("cell") == 3
    assert (network.nodes[3].label, network.nodes[3].detail) == ("cell", "16x8x8")


def test_mobile_identity_has_neither_kernel_nor_width():
    space = get_space("mobile")
    text = "convolution_k3_w1.0-identity/repvgg_k3_w1.0-transformer_encoder_w0.5/convnext_k3_w1.0-ghost_module_k5_w1.0"
    first = space.parse(text)
    assert space.format(first) == text
    names = [decision.name for decision in space.decisions]
    picks = list(first.picks)
    picks[names.index("s0l1_kernel")], picks[names.index("s0l1_width")] = 1, 2
    changed = space.architecture(picks)
    assert changed != first and space.format(changed) == text
    assert space.canonical(changed) == space.canonical(first)
    assert "s0l1_kernel" not in space.choices(changed) and "s1l1_kernel" not in space.choices(changed)


def test_mobile_follows_its_options():
    space = get_space("mobile", widths=(8, 16), layers=3, kernels=(7,), blocks=("ghost_module", "identity"))
    assert len(space.decisions) == 18
    assert space.decisions[0].options == ("ghost_module",)
    assert space.decisions[3].options == ("ghost_module", "identity")
    assert space.size == (3 * 4 * 4) ** 2


def test_mobile_takes_a_block_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "own_blocks.py").write_text(
        "from torch import nn\n\n\n"
        "def plain(inputs, outputs, *, kernel=3, stride=1):\n"
        '    """Convolution and SiLU."""\n'
        "    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.SiLU())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    space = get_space("mobile", blocks=("own_blocks:plain", "identity"))
    assert check_space(space, task=Task((1, 8, 8), 10)) == []
    arch = space.parse(
        "own_blocks:plain_k5_w0.5-identity/own_blocks:plain_k3_w1.0-identity/own_blocks:plain_k3_w1.0-identity"
    )
    assert space.choices(arch)["s0l0_kernel"] == 5
    assert [node.label for node in space.diagram(arch, Task((1, 8, 8), 10))[0].nodes][2:4] == ["plain", "identity"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("convolution_k3_w1.0", "has 1 layers"),
        ("convolutoin_k3_w1.0-identity/fire_k3_w1.0-identity/fire_k3_w1.0-identity", "Did you mean 'convolution'"),
        ("convolution_k9_w1.0-identity/fire_k3_w1.0-identity/fire_k3_w1.0-identity", "unknown s0l0_kernel '9'"),
        ("convolution_k3-identity/fire_k3_w1.0-identity/fire_k3_w1.0-identity", "unknown s0l0_width ''"),
        ("convolution_k3_w1.0-identity_k3/fire_k3_w1.0-identity/fire_k3_w1.0-identity", "gives s0l1_kernel = '3'"),
    ],
)
def test_mobile_names_what_is_wrong_in_a_text(text, message):
    with pytest.raises(UserError, match=message):
        get_space("mobile").parse(text)
