"""Is a compression step of one's own sound? Checks for any class derived from `Step`, on a small network."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import CompiledModel
from nasbench_compression.registry import get_step
from nasbench_compression.step import MEANING, Context, Step, given
from nasbench_compression.surgery import inference
from nasbench_registry import UserError

Network = Callable[[], nn.Module]


def small_network() -> nn.Module:
    """Two convolutions with batch norm and a linear layer, for images (n, 3, 8, 8) and four classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        )


def small_context(network: nn.Module) -> Context:
    """A context with random images, one step of gradient descent for fine-tuning, and accuracy on random labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 3, 8, 8, generator=generator)
    labels = torch.randint(4, (32,), generator=generator)

    def finetune(model: nn.Module, loss: Any = None, **options: Any) -> None:
        model.train()
        optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.01)
        outputs = model(images)
        value = nn.functional.cross_entropy(outputs, labels) if loss is None else loss(images, outputs, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        model.eval()

    def evaluate(model: nn.Module | CompiledModel) -> float:
        return 100 * float((_outputs(model, images).argmax(1) == labels).float().mean())

    return Context(
        example_inputs=images[:1],
        calibration=images,
        finetune=finetune,
        evaluate=evaluate,
        seed=0,
        teacher=copy.deepcopy(network),
        labels=labels,
    )


def check_step(kind: type[Step], network: Network = small_network, **options: Any) -> list[str]:
    """What is wrong with a step, in a sentence each; an empty list if it keeps the contract.

    The network that it is given stays as it was; its note is JSON, and `restore` rebuilds the structure from it, so
    that the weights load and the outputs are equal; the same seed gives the same result, and the global random
    generators stay as they were; its options make the same step again; it needs nothing of a context but what it names.

    Args:
        kind: Class of the step.
        network: Function that makes the network on which the step is tried, always the same.
        options: Options of the step.
    """
    problems = []
    for check in CHECKS:
        try:
            problems += list(check(kind(**options), network))
        except Exception as error:  # whatever a user's class raises is a finding
            words = " ".join(str(error).split()) or "no message"
            problems.append(f"{check.__name__}: it raised {type(error).__name__}: {words}")
    return problems


def _outputs(model: nn.Module | CompiledModel, images: Tensor) -> Tensor:
    if isinstance(model, CompiledModel):
        return torch.from_numpy(model(images.numpy()))
    with inference(model):
        outputs: Tensor = model(images)
    return outputs


def input_stays_as_it_was(step: Step, network: Network) -> Iterator[str]:
    """Check that weights, modules and modes of the network stay as they were."""
    model = network().train()
    context = small_context(model)
    state = copy.deepcopy(model.state_dict())
    modules = {name: (type(module), module.training) for name, module in model.named_modules()}
    step.apply(model, context)
    if {name: (type(module), module.training) for name, module in model.named_modules()} != modules:
        yield "apply() changes modules or modes of the network that it is given; work on a copy."
    elif any(not torch.equal(value, state.get(name, value + 1)) for name, value in model.state_dict().items()):
        yield "apply() changes weights of the network that it is given; work on a copy."


def note_restores_the_structure(step: Step, network: Network) -> Iterator[str]:
    """Check that the note, after JSON, rebuilds the structure in a new network, with equal outputs."""
    model = network().eval()
    context = small_context(model)
    result, note = step.apply(model, context)
    try:
        stored = json.loads(json.dumps(note, allow_nan=False))
    except (TypeError, ValueError) as error:
        yield f"its note is not JSON: {error}."
        return
    if stored != note:
        yield "its note is another one after JSON; use lists for tuples, and texts for keys."
    if isinstance(result, CompiledModel):
        return
    restored = step.restore(network(), stored)
    restored.load_state_dict(result.state_dict())
    images = given(context.calibration)
    difference = float((_outputs(restored, images) - _outputs(result, images)).abs().max())
    if not difference <= 1e-5:
        yield f"restore() rebuilds a network whose outputs differ by {difference:.1e} from those of apply()."


def same_seed_same_result(step: Step, network: Network) -> Iterator[str]:
    """Check that the same seed gives the same result, and that the global generators are left alone."""
    model = network().eval()
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    first, _ = step.apply(model, small_context(model))
    if not torch.equal(states[0], torch.get_rng_state()):
        yield "it uses the global generator of torch; make one from the seed of the context."
    if states[1:] != (str(np.random.get_state()), random.getstate()):
        yield "it uses a global random generator; make one from the seed of the context."
    torch.rand(1)
    images = given(small_context(model).calibration)
    second, _ = step.apply(model, small_context(model))
    if not torch.equal(_outputs(first, images), _outputs(second, images)):
        yield "the same seed gives another result; take every random choice from the seed of the context."


def options_make_the_same_step(step: Step, network: Network) -> Iterator[str]:
    """Check that the options, as a recipe writes them, make the same step again."""
    written = json.loads(json.dumps(step.options()))
    kind = type(step)
    name = step.name if get_known(step.name) is kind else f"{kind.__module__}:{kind.__qualname__}"
    importable = "<locals>" not in name and not name.startswith("__main__")
    rebuilt = get_step(name, **written) if importable else kind(**written)
    if rebuilt != step:
        yield "its options, written and read again, make another step; it has to be a frozen dataclass of its options."


def needs_name_all_that_it_uses(step: Step, network: Network) -> Iterator[str]:
    """Check that the step runs in a context that has nothing but what it says it needs."""
    unknown = sorted(set(step.needs) - set(MEANING))
    if unknown:
        yield f"`needs` has {', '.join(unknown)}; it may have {', '.join(MEANING)}."
        return
    model = network().eval()
    whole = small_context(model)
    used = {name: getattr(whole, name) for name in step.needs}
    if "labels" in used:
        used["calibration"] = whole.calibration
    try:
        step.apply(model, Context(whole.example_inputs, **used))
    except (TypeError, AttributeError, AssertionError) as error:
        yield f"it uses of the context what `needs` does not name ({type(error).__name__}: {error})."


def get_known(name: str) -> type[Step] | None:
    """The step of ours with this name, if there is one."""
    from nasbench_compression.registry import steps

    try:
        return steps.find(name)
    except UserError:
        return None


CHECKS = (
    input_stays_as_it_was,
    note_restores_the_structure,
    same_seed_same_result,
    options_make_the_same_step,
    needs_name_all_that_it_uses,
)
