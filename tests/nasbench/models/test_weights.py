"""Weights of files that other scripts wrote: read safely, and refused where they are of another network."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nasbench.models.weights import load_weights, read_weights
from nasbench_registry import UserError


def network(width=8):
    torch.manual_seed(width)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 36, 2))


class Trainer:
    """Something that a training script keeps beside the weights."""


FORMS = {
    "state_dict": lambda state: state,
    "lightning": lambda state: {"epoch": 3, "state_dict": {f"model.{name}": value for name, value in state.items()}},
    "data_parallel": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {"net": {f"_orig_mod.{name}": value for name, value in state.items()}, "step": 7},
    "without_counters": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_form_in_which_weights_are_kept(form, suffix, tmp_path):
    trained, file = network(), tmp_path / f"weights{suffix}"
    stored = FORMS[form](trained.state_dict())
    if suffix == ".safetensors":
        inner = next((value for value in stored.values() if isinstance(value, dict)), stored)
        save_file(inner, file)
    else:
        torch.save(stored, file)
    torch.manual_seed(1)
    fresh = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 2)).eval()
    load_weights(fresh, read_weights(file), "it")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(fresh(images), trained.eval()(images))


def test_names_that_begin_with_a_prefix_of_their_own_keep_it(tmp_path):
    trained = nn.ModuleDict({"model": nn.Linear(3, 2)})
    fresh = nn.ModuleDict({"model": nn.Linear(3, 2)})
    load_weights(fresh, trained.state_dict(), "it")
    assert torch.equal(fresh["model"].weight, trained["model"].weight)


def test_weights_of_another_network(tmp_path):
    with pytest.raises(
        UserError, match=r"0.weight has shape \(4, 3, 3, 3\) in the file and \(8, 3, 3, 3\).*as have 6 more"
    ):
        load_weights(network(), network(4).state_dict(), "w.pt")
    state = network().state_dict()
    state["head.weight"] = state.pop("3.weight")
    with pytest.raises(UserError, match=r"lacks 1 of 9, such as 3.weight; the network has no head.weight"):
        load_weights(network(), state, "w.pt")


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(UserError, match="there is no file of weights"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    torch.save({"model": network(), "trainer": Trainer()}, tmp_path / "objects.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "objects.pt").read_bytes()[:200])
    for name, words in {
        "text.pt": "text.pt (is not a file of weights|holds more than tensors)",
        "cut.pt": "cut.pt is not a file of weights",
        "text.safetensors": "not a sound safetensors file",
        "numbers.pt": "holds no state dict but 'a'",
        "objects.pt": "holds more than tensors, and unpickling it could run any code",
    }.items():
        with pytest.raises(UserError, match=words):
            read_weights(tmp_path / name)
