"""Multiply-adds are counted once, by fvcore: for reports and for steps."""

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from nasbench.costs.cost import counts
from nasbench_compression.macs import count_macs, multiply_adds
from search_spaces import Task, get_space, spaces


@pytest.mark.parametrize("name", ["mobile", "nasbench201", "vit", "resnet", "mobilenet_ofa"])
def test_agrees_with_the_count_of_reports(name) -> None:
    assert name in spaces.names()
    space, task = get_space(name), Task((3, 32, 32), 10)
    for seed in (0, 4):  # the first cell of nasbench201 has convolutions without a way to the output
        network = space.build(space.sample(np.random.default_rng(seed)), task)
        macs = count_macs(network, torch.zeros(2, *task.input_shape))
        assert macs == counts(network, task).macs > 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
        nn.ConvTranspose2d(6, 4, 3, stride=2),
        nn.Sequential(nn.Conv2d(6, 6, 5, groups=6), nn.Conv2d(6, 10, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(6 * 9 * 9, 5)),
        nn.Linear(9, 4),
    ],
    ids=["grouped", "transposed", "separable", "linear", "rows"],
)
def test_is_that_of_fvcore_on_plain_layers(layer) -> None:
    image = torch.zeros(1, 6, 9, 9)
    assert count_macs(layer.eval(), image) == FlopCountAnalysis(layer, image).total() > 0


class Token(nn.Module):
    """Gives a layer a view of a parameter, as vision transformers do with the token of the class."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.token = nn.Parameter(torch.zeros(1, 8))
        self.layer = nn.Linear(8, 10)

    def forward(self, images):
        return self.layer(self.token.expand(len(images), -1)) + self.layer(self.token[:1])


def test_views_of_parameters_are_counted_and_what_is_trained_stays_so() -> None:
    model = Token()
    model.layer.bias.requires_grad_(False)
    assert count_macs(model, torch.zeros(2, 3, 4, 4)) == 2 * 80
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False]


class Named(nn.Module):
    """Gives its outputs by name, as networks of other libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 10)

    def forward(self, rows):
        return {"logits": self.layer(rows), "loss": None, "hidden": [rows]}


def test_outputs_by_name_are_counted() -> None:
    assert multiply_adds(Named(), torch.zeros(3, 8)).by_operator == {"linear": 80}


class Last(nn.Module):
    """Reads the end of a sequence; without recurrence it would need 48 multiply-adds."""

    def __init__(self, kind, **options) -> None:
        super().__init__()
        self.recurrent = kind(8, 16, batch_first=True, **options)
        self.layer = nn.Linear(32 if options.get("bidirectional") else 16, 3)

    def forward(self, rows):
        return self.layer(self.recurrent(rows)[0][:, -1])


@pytest.mark.parametrize(
    ("kind", "gates", "options"),
    [(nn.LSTM, 4, {}), (nn.GRU, 3, {}), (nn.RNN, 1, {}), (nn.RNN, 1, {"nonlinearity": "relu"})],
)
def test_recurrent_layers_are_counted_at_each_position(kind, gates, options) -> None:
    positions = torch.zeros(2, 7, 8)
    assert count_macs(Last(kind, **options), positions) == 7 * gates * 16 * (8 + 16) + 48
    both = 7 * 2 * gates * 16 * (8 + 16 + 32 + 16) + 96
    assert count_macs(Last(kind, num_layers=2, bidirectional=True, **options), positions) == both


class Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(1, 8, 5)), nn.Parameter(torch.zeros(5))

    def forward(self, rows):
        return torch.baddbmm(self.bias, rows, self.weight.expand(len(rows), -1, -1))


def test_products_and_attention_are_counted_however_they_are_written() -> None:
    assert count_macs(Products(), torch.zeros(2, 7, 8)) == 7 * 8 * 5
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)  # in evaluation torch has one operator for it
    assert count_macs(layer, torch.zeros(2, 7, 8)) == 7 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 7 * 7 * 8
    assert multiply_adds(layer, torch.zeros(2, 7, 8)).attention == 2 * 7 * 7 * 8
