"""Small networks that do what networks in the wild do, and a context for them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression import Context

IMAGES = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(32) % 5


class Net(nn.Module):
    """Two convolutions with norms, and a head; subclasses change what they do on the way."""

    convolution: type[nn.Conv2d] = nn.Conv2d
    norm: type[nn.Module] = nn.BatchNorm2d
    linear: type[nn.Linear] = nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_norm = self.convolution(3, 12, 3, padding=1), self.norm(12)
        self.b, self.b_norm = self.convolution(12, 16, 3, 2, 1, bias=False), self.norm(16)
        self.head = self.linear(16, 5)
        with torch.no_grad():
            for norm in (self.a_norm, self.b_norm):
                if getattr(norm, "running_mean", None) is not None:
                    norm.running_mean.normal_(0, 0.3)
                    norm.running_var.uniform_(0.3, 2)
                if getattr(norm, "weight", None) is not None:
                    norm.weight.uniform_(0.5, 1.5)
                    norm.bias.normal_(0, 0.3)

    def features(self, images: Tensor) -> Tensor:
        return functional.relu(self.b_norm(self.b(functional.relu(self.a_norm(self.a(images))))))

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


def context(images: Tensor = IMAGES, labels: Tensor = LABELS, **more) -> Context:
    def finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=learning_rate or 0.01)
        model.train()
        for _ in range(epochs):
            output = model(images)
            value = functional.cross_entropy(output, labels) if loss is None else loss(images, output, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        model.eval()

    fields = {"finetune": finetune, "evaluate": lambda model: 50.0, "seed": 0, "labels": labels} | more
    return Context(example_inputs=images[:2], calibration=images, **fields)


def outputs(model: nn.Module, images: Tensor = IMAGES):
    with torch.no_grad():
        return model.eval()(images)
