"""FBNet, Once-for-All, ResNet and ViT: what each owes to its paper."""

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.costs.cost import cost
from nasbench.deploy.network_checks import NETWORK_CHECKS
from nasbench_registry import UserError
from search_spaces import Architecture, Task, check_space, get_space
from search_spaces.chains import strides_for

IMAGENET, LARGE = Task((3, 224, 224), 1000), Task((3, 236, 236), 1000)
CIFAR, DIGITS, ODD = Task((3, 32, 32), 10), Task((1, 8, 8), 10), Task((3, 33, 47), 5)

# The authors' definitions: github.com/facebookresearch/mobile-vision, fbnet_modeldef_cls_fbnet.py.
FBNET_A = (
    "skip-k3_e3-k3_e1-skip-skip-k5_e6-k3_e3-k5_e1-k3_e3-k5_e6-k5_e3-k5_e1_g2-k5_e6-k3_e6-k5_e1_g2-k5_e3-k3_e1_g2-"
    "k5_e6-k5_e6-k5_e3-k5_e6-k5_e6"
)
FBNET_B = (
    "k3_e1-k3_e6-k5_e1-k3_e1-k3_e1-k5_e6-k5_e3-k3_e6-k5_e6-k5_e6-k5_e6-skip-k5_e3-k5_e6-k3_e1-k5_e1-k5_e3-"
    "k5_e6-k5_e1-k5_e6-k5_e6-k3_e6"
)
FBNET_C = (
    "k3_e1-k3_e6-skip-k3_e1-k3_e1-k5_e6-k5_e3-k5_e6-k3_e6-k5_e6-k5_e3-k5_e6-k5_e6-k5_e6-k5_e6-k5_e6-k5_e3-"
    "k5_e6-k5_e6-k5_e6-k5_e6-k3_e6"
)
# The network of the authors' model zoo called flops@595M_top1@80.0_finetune@75, from its net.config and run.config.
OFA_595 = "r236-d3,4,4,4,4-ks3,5,3,5,5,3,5,7,5,3,5,3,5,7,3,3,3,5,3-e3,4,3,4,4,6,3,6,6,3,4,6,6,6,4,6,6,6,3"
VIT_TI = f"e192-d12-h{','.join('3' * 12)}-m{','.join('4' * 12)}"
VIT_S = f"e384-d12-h{','.join('6' * 12)}-m{','.join('4' * 12)}"
SMALL_SUPERNET = {"embeddings": (320, 384, 448), "heads": (5, 6, 7), "mlp_ratios": (3, 3.5, 4)}
IMAGENET_RESNET = {
    "depths": (2, 3, 4, 6),
    "widths": ((64,), (128,), (256,), (512,)),
    "shortcut": "projection",
}


@pytest.mark.parametrize(
    ("name", "options", "text", "task", "params", "params_within", "macs", "macs_within"),
    [
        # Table 3 of the paper. Built from the authors' definitions, B has 4.80 M parameters, not the 4.5 M of the
        # table, so only its multiply-adds are compared; the parameters of C are those of timm's fbnetc_100.
        ("fbnet", {"head": 1504}, FBNET_A, IMAGENET, 4.3e6, 0.01, 249e6, 0.02),
        ("fbnet", {}, FBNET_B, IMAGENET, None, None, 295e6, 0.02),
        ("fbnet", {}, FBNET_C, IMAGENET, 5.57e6, 0.001, 375e6, 0.01),
        # The name of this network, at the image size of its run.config.
        ("mobilenet_ofa", {"width": 1.2, "resolutions": (236,)}, OFA_595, LARGE, None, None, 595e6, 0.001),
        # Parameters of table 6 of the paper; multiply-adds as the literature on pruning gives them.
        ("resnet", {}, "basic-3,3,3-16,32,64", CIFAR, 0.27e6, 0.01, 41e6, 0.02),
        ("resnet", {}, "basic-9,9,9-16,32,64", CIFAR, 0.85e6, 0.01, 126e6, 0.01),
        ("resnet", {}, "basic-18,18,18-16,32,64", CIFAR, 1.7e6, 0.02, 253e6, 0.01),
        # What torchvision gives for its resnet18 and resnet50: 1.81 and 4.09 G.
        ("resnet", IMAGENET_RESNET, "basic-2,2,2,2-64,128,256,512", IMAGENET, 11_689_512, 0, 1.81e9, 0.005),
        ("resnet", IMAGENET_RESNET, "bottleneck-3,4,6,3-64,128,256,512", IMAGENET, 25_557_032, 0, 4.09e9, 0.005),
        # timm's deit_tiny_patch16_224 and deit_small_patch16_224: 5.72 M and 1.26 G, 22.05 M and 4.6 G, with attention
        # and normalization among the multiply-adds.
        ("vit", {}, VIT_TI, IMAGENET, 5_717_416, 0, 1.26e9, 0.01),
        ("vit", SMALL_SUPERNET, VIT_S, IMAGENET, 22.05e6, 0.001, 4.6e9, 0.01),
    ],
)  # fmt: skip
def test_networks_cost_what_was_published(name, options, text, task, params, params_within, macs, macs_within):
    space = get_space(name, **options)
    arch = space.parse(text)
    assert space.format(arch) == text
    costs = cost(space.build(arch, task), task)
    if params is not None:
        assert costs.params == pytest.approx(params, rel=params_within)
    assert costs.macs == pytest.approx(macs, rel=macs_within)


def test_sizes_are_those_of_the_papers():
    assert get_space("fbnet").size == 9**22
    assert get_space("mobilenet_ofa").size == 25 * 7371**5
    assert get_space("vit").size == 3 * (4**12 + 4**13 + 4**14)
    assert get_space("resnet", blocks=("basic",), depths=(3, 9), widths=((16,), (32,), (64,))).size == 8


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fbnet", {"width": 0.25, "head": 64, "operations": ("k3_e1_g2", "k5_e3", "skip")}),
        ("mobilenet_ofa", {"width": 0.25, "depths": (1, 2)}),
        ("resnet", {"depths": (1, 2), "widths": ((8, 12), (8, 16), (16, 24))}),
        ("resnet", {"depths": (1, 2), "widths": ((8, 12), (8, 16)), "shortcut": "projection"}),
        ("vit", {"embeddings": (16, 24), "depths": (1,), "heads": (1, 2), "mlp_ratios": (2, 3.5), "head_width": 8}),
    ],
)
def test_networks_are_counted_exported_and_pruned(name, options):
    assert check_space(get_space(name, **options), task=ODD, networks=NETWORK_CHECKS) == []


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (224, [2, 1, 2, 2, 2]),
        (128, [2, 1, 2, 2, 2]),
        (64, [2, 1, 2, 2, 2]),
        (63, [1, 1, 2, 2, 2]),
        (32, [1, 1, 2, 2, 2]),
        (8, [1, 1, 1, 1, 2]),
        (3, [1, 1, 1, 1, 1]),
    ],
)
def test_small_images_are_not_halved_at_first(side, expected):
    assert strides_for(Task((3, side, side + 5), 10), [2, 1, 2, 2, 2]) == expected


@pytest.mark.parametrize(
    ("task", "side", "changes"),
    [
        (IMAGENET, 7, [1, 5, 9, 13, 17, 21]),
        (CIFAR, 4, [1, 5, 9, 13, 17, 21]),
        (DIGITS, 4, [1, 9, 13, 17, 21]),  # not halved at 5, where 16 channels stay 16
        (ODD, 5, [1, 5, 9, 13, 17, 21]),
    ],
)
def test_fbnet_skip_is_the_identity_only_where_the_shape_stays(task, side, changes):
    space = get_space("fbnet", width=0.5)
    with torch.device("meta"):
        network = space.build(space.parse("-".join(["skip"] * 22)), task)
        maps = network[:23](torch.zeros(1, *task.input_shape))
    assert maps.shape[1:3] == (176, side)
    assert [at for at, layer in enumerate(network[1:23]) if not isinstance(layer, nn.Identity)] == changes


def test_fbnet_groups_are_shuffled():
    space = get_space("fbnet")
    text = "-".join(["k3_e1", *["k3_e1_g2"] * 21])
    network = space.build(space.parse(text), DIGITS)
    last = [module for module in network[3].modules() if isinstance(module, nn.Conv2d)][-1]
    assert (last.groups, last.kernel_size) == (2, (1, 1))
    shuffle = network[3].body[0]
    assert shuffle(torch.arange(6.0).reshape(1, 6, 1, 1)).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_ofa_layers_beyond_the_depth_do_not_matter():
    space, rng = get_space("mobilenet_ofa"), np.random.default_rng(0)
    for _ in range(20):
        arch = space.sample(rng)
        flags = space.layout.active(arch.picks)
        picks = [pick if flag else int(rng.integers(3)) for pick, flag in zip(arch.picks, flags, strict=True)]
        changed = space.architecture(picks)
        assert space.canonical(changed) == space.canonical(arch)
        assert space.format(changed) == space.format(arch)


@pytest.mark.parametrize(
    ("image", "resolution", "size"),
    [
        ((224, 224), 224, (224, 224)),
        ((224, 224), 128, (128, 128)),
        ((256, 320), 224, (224, 280)),
        ((32, 32), 224, (32, 32)),
        ((32, 32), 128, (18, 18)),
        ((33, 47), 160, (24, 34)),
        ((8, 8), 128, (5, 5)),
    ],
)
def test_ofa_resolutions_are_pixels_or_shares_of_a_small_image(image, resolution, size):
    space = get_space("mobilenet_ofa", depths=(1,), resolutions=(128, 160, 224))
    arch = space.parse(f"r{resolution}-d1,1,1,1,1-ks3,3,3,3,3-e3,3,3,3,3")
    resized = space.build(arch, Task((3, *image), 10))[0](torch.rand(1, 3, *image))
    assert resized.shape[2:] == size


def test_resnet_pads_without_parameters_and_never_narrows():
    space = get_space("resnet", widths=((16, 32), (16, 32)), depths=(2,), blocks=("basic",))
    rng = np.random.default_rng(0)
    assert {space.format(space.sample(rng)) for _ in range(200)} == {
        "basic-2,2-16,16", "basic-2,2-16,32", "basic-2,2-32,32",
    }  # fmt: skip
    block = space.build(space.parse("basic-2,2-16,32"), CIFAR)[3]
    assert list(block.shortcut.parameters()) == []
    x = torch.randn(2, 16, 7, 7)
    passed = block.shortcut(x)
    assert torch.equal(passed[:, :16], x[:, :, ::2, ::2])
    assert passed.shape == (2, 32, 4, 4) and not passed[:, 16:].any()
    with pytest.raises(UserError, match="narrower than the one before"):
        space.parse("basic-2,2-32,16")
    with pytest.raises(UserError, match="not an architecture"):
        space.require_valid(Architecture("resnet", (0, 0, 0, 1, 0)))
    wider = get_space("resnet", widths=((16, 32), (16, 32)), depths=(2,), blocks=("basic",), shortcut="projection")
    assert wider.build(wider.parse("basic-2,2-32,16"), CIFAR)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("task", "tokens"), [(IMAGENET, 197), (CIFAR, 65), (DIGITS, 17), (ODD, 109)])
def test_vit_patches_suit_the_image(task, tokens):
    space = get_space("vit", embeddings=(16,), depths=(1,), head_width=8)
    with torch.device("meta"):
        network = space.build(space.parse("e16-d1-h3-m4"), task)
        assert network[:2](torch.zeros(2, *task.input_shape)).shape == (2, tokens, 16)


def test_vit_sees_the_order_of_its_patches():
    torch.manual_seed(0)
    space = get_space("vit", embeddings=(16,), depths=(1,), head_width=8, patch=4)
    network = space.build(space.parse("e16-d1-h3-m4"), DIGITS).eval()
    images = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(network(images), network(images.roll(4, dims=3)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("fbnet", "k3_e1-skip", "2 operations; space 'fbnet' has 22"),
        ("fbnet", "-".join(["k3_e4"] * 22), "unknown operation 'k3_e4'"),
        ("mobilenet_ofa", "d2,2,2,2,2", "write it like 'r224-"),
        ("mobilenet_ofa", "r224-d2,2,2,2,5-ks3-e3", "unknown depth '5'"),
        ("mobilenet_ofa", "r224-d2,2,2,2,2-ks3,3-e3,3", "as many kernels and expansions as layers"),
        ("mobilenet_ofa", f"r130-d2,2,2,2,2-ks{','.join('3' * 10)}-e{','.join('3' * 10)}", "unknown resolution '130'"),
        ("resnet", "basic-9,9,9", "write it like 'basic-9,9,9-16,32,64'"),
        ("resnet", "basic-9,9-16,32,64", "3 depths, then 3 widths"),
        ("resnet", "wide-9,9,9-16,32,64", "unknown block 'wide'"),
        ("vit", "e192-d12-h3,3-m4,4", "as many heads and MLP ratios as layers"),
        ("vit", VIT_TI.replace("e192", "e200"), "unknown embedding '200'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(name, text, message):
    with pytest.raises(UserError, match=message):
        get_space(name).parse(text)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fbnet", {"operations": ("k3_e2",)}, "unknown operation"),
        ("fbnet", {"width": 0}, "width above 0"),
        ("mobilenet_ofa", {"kernels": (4,)}, "must be odd"),
        ("mobilenet_ofa", {"depths": ()}, "depths of space 'mobilenet_ofa' must be numbers from 1"),
        ("resnet", {"shortcut": "none"}, "unknown shortcut"),
        ("resnet", {"widths": ((16,), ())}, "a list of widths from 1"),
        ("vit", {"heads": (0,)}, "heads of space 'vit' must be numbers from 1"),
        ("vit", {"head_width": 0}, "head_width and a patch from 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        get_space(name, **options)


def test_drawings_name_the_choices():
    expected = {
        "fbnet": (FBNET_A, {"head": 1504}, [("skip", "16x32x32"), ("inverted residual", "k3 e3, 24x32x32")]),
        "mobilenet_ofa": (
            OFA_595,
            {"resolutions": (236,)},
            [("resize", "3x32x32"), ("inverted residual", "k5 e4 SE, 40x16x16")],
        ),
        "resnet": ("bottleneck-1,1,1-16,32,64", {}, [("bottleneck", "w16, 64x32x32"), ("linear", "10")]),
        "vit": (VIT_TI, {}, [("patches", "4x4, 64x192"), ("encoder layer", "3 heads, mlp x4, 65x192")]),
    }
    for name, (text, options, boxes) in expected.items():
        space = get_space(name, **options)
        (graph,) = space.diagram(space.parse(text), CIFAR)
        nodes = [(node.label, node.detail) for node in graph.nodes]
        assert graph.is_chain and set(boxes) <= set(nodes), nodes
