"""Outputs in every form: tensors, tuples, dicts, dataclasses."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch

from nasbench_compression.outputs import difference, logits_of, tensors_of
from nasbench_registry import UserError

LOGITS, MAP = torch.tensor([[1.0, -4.0]]), torch.ones(1, 2, 3, 3)
Named = namedtuple("Named", "features logits")


@dataclass
class Output:
    loss: None
    logits: torch.Tensor
    states: tuple


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (LOGITS, [""]),
        ((MAP, LOGITS), ["0", "1"]),
        ([LOGITS, MAP], ["0", "1"]),
        ({"map": MAP, "out": LOGITS}, ["map", "out"]),
        (Named(MAP, LOGITS), ["features", "logits"]),
        (Output(None, LOGITS, (MAP, MAP)), ["logits", "states.0", "states.1"]),
        (OrderedDict(states={"last": [MAP]}, logits=LOGITS), ["states.last.0", "logits"]),
    ],
)
def test_tensors_and_logits(output, names) -> None:
    assert list(tensors_of(output)) == names
    assert logits_of(output) is LOGITS


def test_an_output_without_a_tensor_is_refused() -> None:
    assert tensors_of([None, "text"]) == {}
    with pytest.raises(UserError, match="gives a list without any tensor"):
        logits_of([None, "text"])


def test_difference_is_in_units_of_the_largest_value_of_each_tensor() -> None:
    assert difference((LOGITS, MAP), (LOGITS, MAP)) == 0
    assert difference((LOGITS + 1, MAP), (LOGITS, MAP)) == pytest.approx(0.25)
    assert difference({"a": LOGITS, "b": MAP * 1.5}, {"a": LOGITS, "b": MAP}) == pytest.approx(0.5)


def test_other_shapes_names_and_infinities_are_infinitely_far() -> None:
    infinite = torch.tensor([[float("inf"), float("nan")]])
    assert difference(infinite, infinite.clone()) == 0
    assert difference(infinite, LOGITS) == difference(LOGITS, infinite) == float("inf")
    assert difference(LOGITS, MAP) == difference((LOGITS,), [LOGITS, MAP]) == float("inf")
    assert difference(torch.ones(2), torch.zeros(2)) == float("inf")
