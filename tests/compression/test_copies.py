"""Copies of networks that keep tensors, functions and references of their own."""

import functools
import threading
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from nasbench_compression.copying import copy_network
from nasbench_registry import UserError

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        return self.head(torch.relu(self.body(torch.relu(self.stem(images)))).mean((2, 3)))


class RemembersItsMap(Plain):
    last = None

    def forward(self, images):
        self.last = {"map": [self.stem(images)]}
        return super().forward(images)


class RemembersAView(Plain):
    def forward(self, images):
        self.transposed = self.head.weight.t()
        return super().forward(images)


class LooksByAWeakReference(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.stem.owner = weakref.ref(self.body)
        self.others = [weakref.ref(self.stem)]

    def forward(self, images):
        return super().forward(images) + self.stem.owner().bias.sum() + self.others[0]().bias.sum()


class CallsAPlainList(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.order = [self.stem, self.body]
        self.calls = [lambda images: self.order[0](images)]
        self.library = functional

    def forward(self, images):
        return self.head(self.library.relu(self.order[1](self.calls[0](images))).mean((2, 3)))


def with_a_patched_forward():
    network = Plain()
    plain = network.body.forward
    network.body.forward = lambda images: plain(images) * 0.5
    again = network.body.forward

    def repeated(images, times=1):  # knows itself
        return repeated(images, 0) if times else again(images) + network.stem.bias.view(1, -1, 1, 1)

    network.body.forward = repeated
    return network


def with_hooks():
    network = Plain()
    network.body.register_forward_hook(lambda module, args, output: output * network.stem.bias.view(1, -1, 1, 1))
    network.head.register_forward_pre_hook(functools.partial(lambda owner, module, args: (args[0] + 1,), network))
    network.stem.register_forward_pre_hook(lambda module, args, kwargs: (args, kwargs), with_kwargs=True)
    return network


def changed_by(change):
    network = Plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(network)
    return network


NETWORKS = {
    "a map that is remembered": RemembersItsMap,
    "a view that is remembered": RemembersAView,
    "weak references": LooksByAWeakReference,
    "modules in plain lists, closures in lists, a library": CallsAPlainList,
    "a forward of its own": with_a_patched_forward,
    "hooks": with_hooks,
    "old weight norm": lambda: changed_by(lambda network: weight_norm(network.body)),
    "old spectral norm": lambda: changed_by(lambda network: spectral_norm(network.body)),
    "masks of torch.nn.utils.prune": lambda: changed_by(lambda n: prune.l1_unstructured(n.body, "weight", amount=0.5)),
    "parametrized weight norm": lambda: changed_by(lambda network: parametrizations.weight_norm(network.body)),
    "parametrized spectral norm": lambda: changed_by(lambda network: parametrizations.spectral_norm(network.body)),
    "scripted": lambda: torch.jit.script(Plain()),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_copy_computes_the_same_and_shares_nothing(kind) -> None:
    torch.manual_seed(0)
    network = NETWORKS[kind]()
    network.train()(IMAGES).sum().backward()
    network.eval()
    expected = network(IMAGES).detach()
    copied = copy_network(network)
    torch.testing.assert_close(copied(IMAGES), expected)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    torch.testing.assert_close(network(IMAGES), expected)
    assert float(copied(IMAGES).detach().nan_to_num().abs().max()) == 0


def test_the_list_of_weights_of_a_recurrent_layer_is_that_of_the_copy() -> None:
    copied = copy_network(nn.LSTM(3, 4))
    assert all(weight is parameter for weight, parameter in zip(copied._flat_weights, copied.parameters(), strict=True))


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in range(3))], ids=["lock", "generator"])
def test_what_has_no_copy_is_named(value) -> None:
    network = Plain()
    network.body.kept = value
    with pytest.raises(UserError, match="'kept' of module 'body', a .* has no copy .*; keep it outside"):
        copy_network(network)
