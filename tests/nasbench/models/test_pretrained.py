"""Weights of another implementation, taken in order: a pretrained EfficientNet-Lite0 knows what is on a photograph."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn

import nasbench as nb
from benchmarks.no_torchvision import without_torchvision
from nasbench.models.pretrained import efficientnet_lite0
from nasbench.models.weights import load_in_order
from nasbench_registry import UserError

with without_torchvision():
    import timm  # noqa: F401

PALACE, DAISY = 698, 985  # of ImageNet's classes
BUILD = "nasbench.models.pretrained:efficientnet_lite0"


def photograph(name):
    """The middle of a photograph that scikit-learn brings, as the network takes it: (1, 3, 224, 224)."""
    image = torch.tensor(load_sample_image(name)).permute(2, 0, 1).float()[None]
    side = min(image.shape[-2:])
    top, left = ((size - side) // 2 for size in image.shape[-2:])
    middle = image[..., top : top + side, left : left + side]
    return (nn.functional.interpolate(middle, (224, 224), mode="bicubic", antialias=True) - 127) / 128


@pytest.mark.parametrize(("name", "label"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_it_knows_what_is_on_a_photograph(name, label):
    with torch.no_grad():
        logits = efficientnet_lite0().eval()(photograph(name))
    assert int(logits.argmax()) == label


def test_another_number_of_classes_gets_a_new_last_layer(tmp_path):
    torch.manual_seed(0)
    network, known = efficientnet_lite0(10), efficientnet_lite0().state_dict()
    own = network.state_dict()
    same = {name for name, value in known.items() if value.shape == own[name].shape and torch.equal(value, own[name])}
    assert own.keys() - same == {"classifier.weight", "classifier.bias"}
    nb.save(tmp_path / "lite0", network, build=BUILD, options={"classes": 10, "pretrained": False})
    image = photograph("china.jpg")
    np.testing.assert_array_equal(nb.load(tmp_path / "lite0").predict(image), network.eval()(image).detach().numpy())


def test_weights_of_another_network_are_refused():
    small, large = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    with pytest.raises(
        UserError, match=r"^file: 0\.weight has shape \(5, 3\), and 0\.weight, .* \(4, 3\); they are of an"
    ):
        load_in_order(small, large.state_dict(), "file")
    with pytest.raises(UserError, match="are 2 tensors, and the network has 4"):
        load_in_order(small, large[0].state_dict(), "file")
