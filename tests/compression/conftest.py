"""Digits, a training loop for a few seconds, and trained networks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from compression_networks import NETWORKS
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nasbench_compression import CompiledModel, Context


@dataclass(frozen=True, kw_only=True)
class Digits:
    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor


def pytest_collection_modifyitems(config, items):
    """Backends that compile for seconds see one of the trained networks, and one of them the file size in int8."""

    def left_out(item) -> bool:
        if item.path.name != "test_backends.py" or not hasattr(item, "callspec"):
            return False
        from test_backends import COSTLY

        chosen = item.callspec.params
        name = chosen.get("backend", chosen.get("int8_backend"))
        if name not in COSTLY:
            return False
        small = item.originalname == "test_int8_file_is_much_smaller" and name != "torch_compile"
        return small or chosen.get("network_name", "plain") != "plain"

    dropped = [item for item in items if left_out(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32))[:, None] / 16
    labels = torch.from_numpy(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, val = order[:1300], order[1300:]
    return Digits(
        train_images=images[train],
        train_labels=labels[train],
        val_images=images[val],
        val_labels=labels[val],
    )


def train(
    model: nn.Module, digits: Digits, loss=None, *, epochs: int, learning_rate: float | None = None, on_batch=None
) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate or 0.003)
    model.train()
    steps = -(-len(digits.train_images) // 64)
    for epoch in range(epochs):
        for index, batch in enumerate(torch.randperm(len(digits.train_images)).split(64)):
            inputs, labels = digits.train_images[batch], digits.train_labels[batch]
            logits = model(inputs)
            value = nn.functional.cross_entropy(logits, labels) if loss is None else loss(inputs, logits, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if on_batch is not None:
                on_batch(epoch * steps + index + 1, epochs * steps)
    model.eval()


def accuracy(model: nn.Module | CompiledModel, images: Tensor, labels: Tensor) -> float:
    """Percent."""
    if isinstance(model, CompiledModel):
        logits = torch.from_numpy(model(images.numpy()))
    else:
        training = model.training
        model.eval()
        with torch.no_grad():
            logits = model(images)
        model.train(training)
    return 100 * (logits.argmax(1) == labels).float().mean().item()


@pytest.fixture(scope="session")
def context(digits: Digits) -> Context:
    def finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None):
        train(model, digits, loss, epochs=epochs, learning_rate=learning_rate, on_batch=on_batch)

    return Context(
        example_inputs=digits.train_images[:4],
        calibration=digits.train_images[:256],
        finetune=finetune,
        evaluate=lambda model: accuracy(model, digits.val_images, digits.val_labels),
        seed=0,
        labels=digits.train_labels[:256],
    )


@pytest.fixture(scope="session")
def _trained(digits: Digits) -> Callable[[str], nn.Module]:
    networks: dict[str, nn.Module] = {}

    def get(name: str) -> nn.Module:
        if name not in networks:
            with torch.random.fork_rng():
                torch.manual_seed(1)
                model = NETWORKS[name]()
                train(model, digits, epochs=6, learning_rate=0.005)
            networks[name] = model
        return networks[name]

    return get


@pytest.fixture(params=sorted(NETWORKS))
def network_name(request) -> str:
    return request.param


@pytest.fixture
def trained(_trained, network_name) -> nn.Module:
    """Each of the networks after a short training, in evaluation mode; shared, so not to be changed."""
    return _trained(network_name)


@pytest.fixture
def plain(_trained) -> nn.Module:
    """The plain network, trained; shared, so not to be changed."""
    return _trained("plain")
