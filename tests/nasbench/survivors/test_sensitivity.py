"""What each layer bears: numbers equal those of the steps, applied to this layer alone."""

import json
import re

import pytest
import torch
from bounds import check_learned
from typer.testing import CliRunner

from nasbench.cli.app import app
from nasbench.models import Origin, load_model, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.training.config import TrainingConfig
from nasbench_compression import Recipe, get_step
from nasbench_compression.quantization.modules import quantize_weight
from nasbench_compression.sensitivity import fake_quantize, sensitivity
from nasbench_registry import UserError
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

OPTIONS = {"widths": [16, 32], "layers": 1}
BENCH = Workbench(image_classification("digits", training=TrainingConfig(learning_rate=0.01)), seed=0)


def trained(text: str, epochs: int):
    space = get_space("mobile", **OPTIONS)
    model = fresh_model(space, space.parse(text), BENCH.problem.data.task, 0)
    BENCH.finetune(model, epochs=epochs)
    return model


def save(folder, model, text, steps=()):
    arch = get_space("mobile", **OPTIONS).parse(text)
    origin = Origin({"name": "digits"}, {"epochs": 1})
    save_model(
        folder,
        model,
        build=SpaceBuild("mobile", OPTIONS, arch),
        task=BENCH.problem.data.task,
        steps=steps,
        origin=origin,
    )


TEXT = "convolution_k3_w1.0/inverted_residual_k3_w1.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model_folder = tmp_path_factory.mktemp("model")
    save(model_folder, trained(TEXT, 5), TEXT)
    return model_folder


@pytest.fixture(scope="module")
def result(folder):
    words = ["--ratios", "0.25,0.5", "--shares", "0.75,0.25", "--bits", "8,4,2", "--html", str(folder / "page.html")]
    done = CliRunner().invoke(app, ["sensitivity", str(folder), *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def numbers(result, technique):
    (entry,) = (listed for listed in result["techniques"] if listed["technique"] == technique)
    return {
        layer["layer"]: {tried["setting"]: tried["val_acc_pct"] for tried in layer["tried"]}
        for layer in entry["layers"]
    }, entry


@pytest.mark.parametrize("technique, setting", [("prune", 0.5), ("decompose", 0.25)])
def test_the_numbers_are_those_of_the_step_with_one_layer(folder, result, technique, setting) -> None:
    model = load_model(folder).model
    accuracies, entry = numbers(result, technique)
    changed = {layer["layer"]: {layer["layer"], *layer["coupled"]} for layer in entry["layers"]}
    every = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)}
    assert set().union(*changed.values(), entry["left_out"]) == every
    assert any(len(names) > 1 for names in changed.values()) == (technique == "prune")
    options = {"decompose": {"method": "svd"}}.get(technique, {})
    checked = 0
    for layer, names in changed.items():
        if accuracies[layer][setting] is None:
            continue
        step = get_step(technique, ratio=setting, exclude=sorted(every - names), **options)
        compressed, _ = step.apply(model, BENCH.context())
        assert accuracies[layer][setting] == pytest.approx(BENCH.validate(compressed)), layer
        checked += accuracies[layer][setting] != result["val_acc_pct"]
    assert checked > 1


def test_bits_by_hand(folder, result) -> None:
    model = load_model(folder).model
    accuracies, _ = numbers(result, "quantize")
    assert result["val_acc_pct"] == pytest.approx(BENCH.validate(model))
    check_learned("accuracy", result["val_acc_pct"], images=len(BENCH.problem.data.val))
    lost = {bits: sum(result["val_acc_pct"] - layer[bits] for layer in accuracies.values()) for bits in (8, 4, 2)}
    assert max(lost[8], lost[4]) < lost[2]
    layer = min(accuracies, key=lambda name: accuracies[name][2])
    weight = model.get_submodule(layer).weight
    with torch.no_grad():
        for channel in weight:  # of two bits, three levels are used
            step = channel.abs().max()
            channel.copy_(torch.where(channel.abs() > step / 2, channel.sign() * step, 0.0))
    assert accuracies[layer][2] == pytest.approx(BENCH.validate(model))


def test_eight_bits_are_those_of_the_step_quantize() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    values, scale = quantize_weight(weight)
    torch.testing.assert_close(fake_quantize(weight, 8), values * scale.view(-1, 1, 1, 1), atol=1e-6, rtol=0)
    assert len(fake_quantize(weight, 3)[0].unique()) <= 7


def test_the_page_and_the_table(folder, result) -> None:
    page = (folder / "page.html").read_text()
    _, pruned = numbers(result, "prune")
    assert pruned["left_out"] and all(
        re.search(rf"<t[dh][^>]*>{re.escape(layer)}</t[dh]>", page) for layer in pruned["left_out"]
    )
    for entry in result["techniques"]:
        for layer in entry["layers"]:
            assert f'<td class="text">{layer["layer"]}' in page
    printed = CliRunner().invoke(
        app, ["sensitivity", str(folder), "--technique", "quantize", "--bits", "2", "--images", "60"]
    )
    assert printed.exit_code == 0, printed.output
    accuracies, _ = numbers(result, "quantize")
    assert all(f" {layer} " in printed.stdout for layer in accuracies)
    assert "60 images, so that one is 1.7 points" in printed.stdout and "prune" not in printed.stdout


def test_branches_that_merge_are_one_layer_where_the_step_merges_them() -> None:
    model = trained("repvgg_k3_w1.0/convolution_k3_w1.0", 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    context = BENCH.context()
    merged = sensitivity(model, context, "quantize", [2])
    whole = sensitivity(model, context, "prune", [0.5])
    assert {layer.layer for layer in merged.layers} != {layer.layer for layer in whole.layers}
    assert len(merged.layers) < sum(1 + len(layer.coupled) for layer in whole.layers) + len(whole.left_out)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_mistakes(folder, tmp_path) -> None:
    for words, message in [
        (["--technique", "prun"], "Did you mean 'prune'"),
        (["--ratios", "half"], "--ratios is 'half'"),
        (["--technique", "prune", "--ratios", "1.5"], "removed is 1.5; give"),
        (["--technique", "quantize", "--bits", "1"], "at least 2"),
        (["--technique", "decompose", "--method", "sdv"], "Did you mean 'svd'"),
    ]:
        done = CliRunner().invoke(app, ["sensitivity", str(folder), *words])
        assert isinstance(done.exception, UserError) and message in str(done.exception), words
    stored = load_model(folder)
    (quantized,) = Recipe.parse(["quantize"]).apply(stored.model, BENCH.context())
    save(tmp_path, quantized.model, TEXT, [(quantized.step, quantized.note)])
    done = CliRunner().invoke(app, ["sensitivity", str(tmp_path)])
    assert "quantized already; take the stage before" in str(done.exception)
