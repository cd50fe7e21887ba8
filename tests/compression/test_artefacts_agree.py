"""An artefact computes what its network computes, all outputs of it, or it is refused with the number."""

import collections
import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nasbench_compression import get_backend, get_step
from nasbench_compression.compilation.agreement import examine
from nasbench_compression.compilation.eager import Eager, EagerModel
from nasbench_compression.compilation.tvm_backend import Tvm
from nasbench_registry import UserError, WorkFailed

QUICK = ("eager", "onnxruntime", "openvino")
"""Backends that compile a small network in a fraction of a second, and import in different ways."""

Named = collections.namedtuple("Named", "logits features")  # as users write it


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    aux: torch.Tensor | None = None


class Net(nn.Module):
    """A function of (images, features, logits), and perhaps of further modules."""

    def __init__(self, function, *modules) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)
        self.others = nn.ModuleList(modules)

    def forward(self, x):
        features = self.convolution(x)
        return self.function(x, features, self.head(features.mean((2, 3))), *self.others)


def images(count: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def flat(value) -> list:
    if isinstance(value, dict):
        value = tuple(value.values())
    return [value] if not isinstance(value, tuple) else [tensor for part in value for tensor in flat(part)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faulty(Eager):
    """Eager, with what `spoil` makes of its outputs."""

    spoil: object = None

    def _compile(self, model, example_inputs, precision, calibration):
        compiled = super()._compile(model, example_inputs, precision, calibration)
        spoil = self.spoil

        class Spoilt(EagerModel):
            def _run(self, batch):
                return spoil(super()._run(batch))

        return Spoilt(compiled.model, compiled.precision, compiled.threads)


def last_of_a_batch_lost(outputs):
    return [np.concatenate([output[:-1], 0 * output[-1:]]) if len(output) > 1 else output for output in outputs]


FAULTS = {
    "another function": lambda outputs: [-output for output in outputs],
    "weights in half": lambda outputs: [(output.astype(np.float16)).astype(np.float32) for output in outputs],
    "images in another order": lambda outputs: [output[::-1].copy() for output in outputs],
    "the last of a batch lost": last_of_a_batch_lost,
    "not a number": lambda outputs: [output * np.nan for output in outputs],
    "another shape": lambda outputs: [output[:, :1] for output in outputs],
    "the first output only": lambda outputs: outputs[:1],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_computes_something_else_is_refused_with_its_number(fault) -> None:
    network = Net(lambda x, features, logits: (logits, features))
    Faulty(spoil=lambda outputs: outputs).compile(network, images()[:1], "fp32", images())
    with pytest.raises((WorkFailed, ValueError)) as refused:
        Faulty(spoil=FAULTS[fault]).compile(network, images()[:1], "fp32", images())
    if fault in ("another shape", "the first output only"):
        return
    numbers = re.search(r"off by (\S+) of its size, where fp32 explains (\S+) in this network", str(refused.value))
    assert numbers and float(numbers[1]) > 5 * float(numbers[2])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_right_artefacts_keep_the_limits_at_any_depth(precision) -> None:
    for depth in (1, 12):
        torch.manual_seed(0)
        layers = [layer for _ in range(depth) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
        network = nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        compiled = Eager().compile(network, images()[:1], precision, images())
        assert compiled.agreement.difference <= compiled.agreement.allowed / 2
        assert compiled.agreement.images == 8


FORMS = {
    "tuple": lambda x, features, logits: (logits, features),
    "list": lambda x, features, logits: [features, logits],
    "dict": lambda x, features, logits: {"logits": logits, "aux": features},
    "named tuple": lambda x, features, logits: Named(logits, features),
    "dataclass": lambda x, features, logits: Output(logits, features),
    "nothing in one place": lambda x, features, logits: Output(logits),
    "nested": lambda x, features, logits: (logits, {"maps": [features, logits]}),
    "one in a tuple": lambda x, features, logits: (logits,),
    "the same twice": lambda x, features, logits: (logits, logits),
    "the input": lambda x, features, logits: (logits, x),
    "whole numbers": lambda x, features, logits: (logits.argmax(1), logits > 0),
    "float64": lambda x, features, logits: logits.double(),
}


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("form", FORMS)
def test_all_outputs_come_out_in_the_form_of_the_network(name, form, tmp_path) -> None:
    network = Net(FORMS[form])
    compiled = get_backend(name).compile(network, images()[:2], "fp32", images())
    models = [compiled]
    if name != "eager":
        models.append(get_backend(name).load(compiled.save(tmp_path)))
    for model in models:
        inputs = images(5)
        outputs = model(inputs.numpy())
        with torch.no_grad():
            expected = network.eval()(inputs)
        if isinstance(expected, dict | Named | Output) or form == "nested":
            assert isinstance(outputs, dict)
        else:
            assert isinstance(outputs, np.ndarray if isinstance(expected, torch.Tensor) else tuple)
        if isinstance(expected, Output):
            expected = tuple(tensor for tensor in (expected.logits, expected.aux) if tensor is not None)
        wanted = flat(tuple(expected) if isinstance(expected, list) else expected)
        if form == "nested":
            wanted = [expected[0], *expected[1]["maps"]]
        assert len(flat(outputs)) == len(wanted)
        for output, wanted_output in zip(flat(outputs), wanted, strict=True):
            np.testing.assert_allclose(output, wanted_output.numpy(), atol=1e-5)


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "named tuple", "dataclass", "nested"])
def test_to_numpy_several_outputs_are_the_logits(form) -> None:
    network = Net(FORMS[form])
    outputs = get_backend("onnxruntime").compile(network, images()[:2], "fp32", images())(images(5).numpy())
    with torch.no_grad():
        logits = Net(lambda x, features, logits: logits).eval()(images(5)).numpy()
    np.testing.assert_allclose(np.array(outputs), logits, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_images_need_not_lie_along_the_first_axis(name) -> None:
    network = Net(lambda x, features, logits, layer: layer(features.mean(2).permute(2, 0, 1)), nn.GRU(8, 6))
    compiled = get_backend(name).compile(network, images()[:2], "fp32", images())
    outputs = compiled(images(5).numpy())
    with torch.no_grad():
        expected = network.eval()(images(5))
    for output, expected_output in zip(outputs, expected, strict=True):  # (steps, n, 6) and (layers, n, 6)
        np.testing.assert_allclose(output, expected_output.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(
    "function",
    [
        lambda x, features, logits: logits - logits.mean(0),
        lambda x, features, logits: functional.batch_norm(features, None, None, training=True).amax((2, 3)),
        lambda x, features, logits: (logits, features.abs().mean()),
        lambda x, features, logits: logits @ logits.T,
    ],
    ids=["mean of the batch", "batch norm without statistics", "one number of all", "images with images"],
)
def test_a_batch_whose_images_hang_together_stays_whole(name, function) -> None:
    network = Net(function)
    compiled = get_backend(name).compile(network, images()[:4], "fp32", images())
    with torch.no_grad():
        expected = network.eval()(images(4))
    for output, expected_output in zip(flat(compiled(images(4).numpy())), flat(expected), strict=True):
        np.testing.assert_allclose(output, expected_output.numpy(), atol=1e-5)
    if compiled.batch is not None:
        with pytest.raises(UserError, match=r"compiled for batches of 4, and 3 image\(s\).*the others of its batch"):
            compiled(images(3).numpy())


@pytest.mark.parametrize("name", QUICK)
def test_a_network_of_one_batch_size_takes_that_one(name) -> None:
    network = Net(lambda x, features, logits: logits.view(2, 5))
    compiled = get_backend(name).compile(network, images()[:2], "fp32", images())
    assert compiled(images(2).numpy()).shape == (2, 5)
    with pytest.raises(UserError, match=r"compiled for batches of 2, and 3 image\(s\).*takes no other number"):
        compiled(images(3).numpy())


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("kind", ["tokens", "vectors", "sequences", "bytes"])
def test_inputs_are_any_tensor(name, kind) -> None:
    torch.manual_seed(0)
    network = {
        "tokens": nn.Sequential(nn.Embedding(50, 6), nn.Flatten(), nn.Linear(30, 4)),
        "vectors": nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 4)),
        "sequences": nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten()),
        "bytes": Net(lambda x, features, logits: logits),
    }[kind]
    if kind == "bytes":
        network.convolution.register_forward_pre_hook(lambda module, args: (args[0].float() / 255,))
    inputs = {
        "tokens": torch.randint(0, 50, (9, 5)),
        "vectors": torch.randn(9, 7),
        "sequences": torch.randn(9, 3, 11),
        "bytes": torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8),
    }[kind]
    compiled = get_backend(name).compile(network, inputs[:2])
    with torch.no_grad():
        np.testing.assert_allclose(compiled(inputs.numpy()), network(inputs).numpy(), atol=1e-5)
    with pytest.raises(UserError, match="images have shape"):
        compiled(inputs.numpy()[0])


@pytest.mark.parametrize("name", QUICK)
def test_neither_inputs_nor_weights_are_shared_with_the_caller(name) -> None:
    network = Net(
        lambda x, features, logits, layer: (x.flatten(1), layer.weight, functional.relu_(x - 1) + x), nn.Linear(2, 2)
    )
    inputs = images(3)
    before = inputs.clone()
    compiled = get_backend(name).compile(network, inputs, "fp32", images())
    assert torch.equal(inputs, before)
    first = compiled(inputs.numpy())
    assert torch.equal(inputs, before)
    for output in first[:2]:
        output[...] = 0
    assert torch.equal(inputs, before)
    assert all(output.any() for output in compiled(inputs.numpy()))


@pytest.mark.parametrize("name", QUICK)
def test_a_network_may_write_into_its_input(name) -> None:
    network = Net(lambda x, features, logits: logits + x.relu_().mean())
    inputs = images(3)
    compiled = get_backend(name).compile(network, inputs, "fp32", inputs)
    output = compiled(inputs.numpy())
    assert torch.equal(inputs, images(3))
    with torch.no_grad():
        np.testing.assert_allclose(output, network.eval()(inputs).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_networks_of_other_types_are_compiled_in_float32(name, dtype) -> None:
    network = Net(lambda x, features, logits: logits).to(dtype)
    compiled = get_backend(name).compile(network, images()[:1].to(dtype), "fp32", images().to(dtype))
    output = compiled(images(3).numpy())
    assert output.dtype == np.float32 and {weight.dtype for weight in network.parameters()} == {dtype}
    with torch.no_grad():
        expected = network.eval()(images(3).to(dtype)).float().numpy()
    np.testing.assert_allclose(output, expected, atol=max(1e-5, 20 * torch.finfo(dtype).eps))


@pytest.mark.parametrize("name", QUICK)
def test_a_network_without_parameters_is_compiled(name) -> None:
    class Means(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    compiled = get_backend(name).compile(Means(), images()[:1], "fp32", images())
    np.testing.assert_allclose(compiled(images(3).numpy()), images(3).mean((2, 3)).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_what_cannot_be_compared_is_refused_with_the_reason(name) -> None:
    backend = get_backend(name)
    chance = Net(lambda x, features, logits: functional.dropout(logits, 0.5))
    with pytest.raises(UserError, match="other outputs for the same images each time"):
        backend.compile(chance, images()[:1], "fp32", images())
    broken = Net(lambda x, features, logits: logits)
    broken.head.weight.data[1, 2] = float("nan")
    with pytest.raises(UserError, match=r"8 of 40 values.*not finite.*head.weight has 1 that are not"):
        backend.compile(broken, images()[:1], "fp32", images())
    several = Net(lambda x, features, logits, scale=None: logits * scale)
    with pytest.raises(UserError, match=r"does not run on the example inputs.*NoneType.*takes such a tensor alone"):
        backend.compile(several, images()[:1], "fp32", images())
    with pytest.raises(UserError, match="example_inputs is tuple; give one tensor"):
        backend.compile(several, (images(), images()))
    nothing = Net(lambda x, features, logits: "logits")
    with pytest.raises(UserError, match="gives no tensor"):
        backend.compile(nothing, images()[:1])


def test_random_inputs_for_which_there_is_no_number_prove_nothing() -> None:
    network = Net(lambda x, features, logits: logits + x.mean((1, 2, 3), keepdim=True)[:, 0, 0].log())
    assert examine(network, torch.zeros(1, 3, 8, 8), None, "fp32").limits is None
    with pytest.raises(UserError, match="not finite"):
        examine(network, images()[:1], images(), "fp32")


@pytest.mark.skipif(Tvm.why_unavailable() is not None, reason=str(Tvm.why_unavailable()))
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda kind: kind.__name__)
def test_the_last_step_of_a_recurrent_network_is_right_in_tvm(kind) -> None:
    network = Net(
        lambda x, features, logits, layer: (layer(features[:, :, 0, -2:].mT)[0][:, -1], features[:, [-1, 0]]),
        kind(8, 4, batch_first=True),
    )
    compiled = get_backend("tvm").compile(network, images()[:1], "fp32", images())
    with torch.no_grad():
        expected = network.eval()(images(3))
    for output, expected_output in zip(compiled(images(3).numpy()), expected, strict=True):
        np.testing.assert_allclose(output, expected_output.numpy(), atol=1e-5)


def test_the_note_of_a_recipe_says_how_it_agrees(plain, context) -> None:
    _, note = get_step("compile", precision="fp32").apply(plain, context)
    agreement = note["agreement"]
    assert agreement["difference"] <= agreement["allowed"] and agreement["same_class_pct"] == 100


def test_what_exporters_print_when_they_fail_stays_with_them(capfd) -> None:
    network = Net(lambda x, features, logits: functional.avg_pool2d(features, 3, 2, 1, divisor_override=5).mean((2, 3)))
    with pytest.raises(WorkFailed, match="cannot be exported to ONNX"):
        get_backend("onnxruntime").compile(network, images()[:1])
    assert capfd.readouterr() == ("", "")
