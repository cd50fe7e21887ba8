"""Networks whose code is not at hand: programs of torch.export are taken apart, compressed, stored and restored."""

import json

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

import nasbench as nb
from nasbench.models.program import network_of, read_program
from nasbench.models.store import read_description
from nasbench_registry import UserError


class Residual(nn.Module):
    """Convolutions with batch norm, a residual, a gate, pooling and two linear maps."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.block = nn.Sequential(
            nn.Conv2d(16, 32, 3, padding="same"), nn.BatchNorm2d(32), nn.Hardswish(), nn.Conv2d(32, 16, 1)
        )
        self.gate = nn.Conv2d(16, 16, 1)
        self.scale = nn.Parameter(torch.full((16, 1, 1), 0.5))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.GELU(), nn.Dropout(0.1), nn.Linear(24, 10))

    def forward(self, x):
        x = self.stem(x)
        x = x + self.scale * self.block(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1))


class Sequences(nn.Module):
    """Tokens, an embedding that the last layer shares, layer norm, and several outputs."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 8, padding_idx=0)
        self.mixer = nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("offset", torch.arange(8.0))

    def forward(self, tokens):
        x = self.tokens(tokens) + self.offset
        x = self.norm(self.mixer(x.transpose(1, 2)).transpose(1, 2)[:, 1:])
        return {"logits": nn.functional.linear(x, self.tokens.weight), "pooled": x.max(1).values}


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 8)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)

    def forward(self, x):
        return self.up(torch.clamp(self.norm(self.down(x)), -float("inf"), 2.0))


EXAMPLES = {
    "residual": (Residual, torch.rand(3, 1, 8, 8)),
    "sequences": (Sequences, torch.randint(0, 11, (3, 6))),
    "transposed": (Transposed, torch.rand(3, 3, 8, 8)),
}


def network_and_program(name, *, train=False):
    torch.manual_seed(3)
    make, example = EXAMPLES[name]
    network = make().train(train)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    argument = "tokens" if name == "sequences" else "x"
    program = torch.export.export(network, (example,), dynamic_shapes={argument: {0: Dim("batch", min=1, max=512)}})
    return network.eval(), program, example


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_program_gives_the_same_outputs_and_keeps_names(name, train):
    network, program, example = network_and_program(name, train=train)
    read, build = read_program(program)
    rows = json.loads(json.dumps(build.options["operations"]))
    again = network_of(rows)
    again.load_state_dict(read.state_dict())
    with torch.no_grad():
        wanted = network(example[:2])
        for model in (read, again.eval()):
            outputs = model(example[:2])
            values = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
            outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
            assert all(torch.equal(one, two) for one, two in zip(values, outputs, strict=True))
    assert dict(read.named_parameters()).keys() == dict(network.named_parameters()).keys()
    kinds = {path: type(module) for path, module in read.named_modules()}
    layers = nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.GroupNorm | nn.Linear
    assert all(kinds[path] is type(module) for path, module in network.named_modules() if isinstance(module, layers))


def test_a_weight_that_two_operations_share_stays_shared():
    read, _ = read_program(network_and_program("sequences")[1])
    assert [name for name, _ in read.named_parameters() if "tokens" in name] == ["tokens.weight"]
    assert not isinstance(read.tokens, nn.Embedding), "an embedding alone would not know of its other use"


def test_training_mode_is_that_of_the_modules():
    """Dropout and batch norm do in training what they did in the network, whichever mode it was exported in."""
    read, _ = read_program(network_and_program("residual")[1])
    example = EXAMPLES["residual"][1]
    read.train()
    norm = read.get_submodule("stem.1")
    before = norm.running_mean.clone()
    torch.manual_seed(0)
    one, two = read(example), read(example)
    assert not torch.equal(one, two), "dropout draws"
    assert not torch.equal(before, norm.running_mean)


@pytest.fixture
def file(tmp_path):
    _, program, _ = network_and_program("residual")
    path = tmp_path / "network.pt2"
    torch.export.save(program, path)
    return path


def test_from_a_file_to_a_compressed_artefact(nasbench, file, tmp_path):
    """Import, halve, quantize, store, load, export: nothing of it knows the class."""
    code, out, err = nasbench(
        "import", file, "--data", "digits", "--training", "epochs=1", "--out", tmp_path / "model", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["params"] == sum(p.numel() for p in Residual().parameters())
    about = read_description(tmp_path / "model")
    assert about["build"]["function"] == "nasbench.models.program:network_of"
    file.unlink()  # what the folder has is enough
    model = nb.load(tmp_path / "model")
    small = model.compress([nb.Prune(macs_ratio=0.5), nb.Quantize("int8")], problem=nb.image_classification("digits"))
    small.save(tmp_path / "small")
    again = nb.load(tmp_path / "small")
    inputs = torch.rand(4, 1, 8, 8)
    assert (small.predict(inputs) == again.predict(inputs)).all()
    widths = [module.out_channels for module in again.network.modules() if hasattr(module, "out_channels")]
    assert sum(widths) < 0.9 * (16 + 32 + 16 + 16)
    artefact = again.export("onnxruntime")
    assert abs(artefact.predict(inputs) - again.predict(inputs)).max() < 0.3 * abs(again.predict(inputs)).max()


def test_from_python(tmp_path):
    _, program, example = network_and_program("residual")
    assert isinstance(program, ExportedProgram)
    nb.save(tmp_path / "model", program, example=example)
    assert nb.load(tmp_path / "model").predict(example).shape == (3, 10)
    model = nb.compress(program, [nb.Prune(ratio=0.5)], example=example)
    assert model.build.function == "nasbench.models.program:network_of"
    with pytest.raises(UserError, match="leave out build"):
        nb.save(tmp_path / "other", program, build="timm:create_model", example=example)


def test_a_fixed_batch_is_refused():
    torch.manual_seed(0)
    program = torch.export.export(Residual().eval(), (torch.rand(1, 1, 8, 8),))
    with pytest.raises(UserError, match=r"takes x of shape \(1, 1, 8, 8\) only.*dynamic_shapes=\{'x': \{0: "):
        read_program(program)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        (b"", "is not read as a program"),
        (b"PK\x03\x04 no archive", "is not read as a program"),
    ],
)
def test_files_that_are_no_programs(nasbench, tmp_path, content, words):
    file = tmp_path / "network.pt2"
    if content is not None:
        file.write_bytes(content)
    code, _, err = nasbench("import", file, "--out", tmp_path / "model")
    assert code == 2
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_options_and_weights_are_refused(nasbench, file, tmp_path):
    code, _, err = nasbench("import", file, "-o", "num_classes=3", "--out", tmp_path / "model")
    assert (code, "takes no options" in " ".join(err.split())) == (2, True)


def test_only_operations_of_pytorch_are_looked_up():
    rows = [{"name": "x", "kind": "input"}, {"name": "y", "kind": "os.system", "args": [], "options": {"options": {}}}]
    with pytest.raises(UserError, match=r"'os\.system' of the program is none of PyTorch"):
        network_of(rows)
