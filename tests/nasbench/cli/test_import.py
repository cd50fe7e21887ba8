"""nasbench import: a network from outside becomes a model folder, and every command takes it."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tests_support import SMALL_RESNET, TRANSFORMERS

from nasbench.models.outside import transformers


def words(options=SMALL_RESNET):
    return [word for key, value in options.items() for word in ("-o", f"{key}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(3)
    return transformers(**SMALL_RESNET)


def test_imported_with_weights_and_data_it_takes_every_command(nasbench, tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    options = [
        "--weights",
        "w.safetensors",
        "--data",
        "digits",
        "--training",
        "epochs=1",
        "--mean",
        "0.3",
        "--std",
        "0.4",
    ]
    code, out, err = nasbench("import", TRANSFORMERS, *words(), *options, "--out", "model", "--json")
    assert code == 0, err
    imported = json.loads(out)
    assert imported["task"] == {"input_shape": [1, 8, 8], "classes": 10} and 0 <= imported["val_acc_pct"] <= 100
    assert json.loads((tmp_path / "model/model.json").read_text())["normalization"]["mean"] == pytest.approx(
        [0.3 * 16 / 255]
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump([{"prune": {"ratio": 0.5, "epochs": 1}}, {"quantize": {}}]))
    for command in (
        ["export", "model", "--backend", "onnxruntime", "--out", "exported"],
        ["benchmark", "model", "--backend", "onnxruntime", "--seconds", "0.05"],
        ["compress", "model", "recipe.yaml", "--out", "small"],
        ["sensitivity", "model", "--technique", "quantize", "--bits", "8", "--images", "20"],
        ["matrix", "model", "--variant", "dense", "--backend", "eager", "--seconds", "0.05", "--out", "matrix"],
    ):
        code, out, err = nasbench(*command, "--json")
        assert code == 0, err
        json.loads(out)


def test_without_data_it_is_measured_and_nothing_more(nasbench, tmp_path):
    shape = ["--input-shape", "1,16,16"]
    code, out, err = nasbench("import", TRANSFORMERS, *words(), *shape, "--out", "model", "--json")
    assert code == 0, err
    assert json.loads(out)["task"] == {"input_shape": [1, 16, 16], "classes": 10}
    assert nasbench("benchmark", "model", "--backend", "onnxruntime", "--seconds", "0.05", "--json")[0] == 0
    code, _, err = nasbench("export", "model", "--backend", "onnxruntime", "--out", "exported")
    assert code == 2 and "names no data set" in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--training", "epochs=1"], "--training is given without --data"),
        (["--data", "digits", "--training", "epoch=1"], "unknown option 'epoch' of the training"),
        (["--data", "digits", "--training", "epochs=0"], "epochs of the training is 0"),
        (["--data", "digts"], "Did you mean 'digits'?"),
        (["--data", "digits", "--mean", "0.3"], "give both, a number for each of the 1 channels"),
        (["--data", "digits", "--mean", "half", "--std", "1"], "--mean is 'half'; give numbers"),
        (["--data", "digits", "--input-shape", "1,8,8"], "the data say it; leave it out"),
        (["--data", "digits", "-o", "num_labels=7"], "gives 7 for each input, and the data want 10"),
        (["--data", "digits", "--weights", "other.pt"], "these are the weights of another network"),
        (["--data", "digits", "--weights", "none.pt"], "there is no file of weights none.pt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_one_sentence(nasbench, tmp_path, options, sentence):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    code, _, err = nasbench("import", TRANSFORMERS, *words(), *options, "--out", "model")
    assert code == 2 and sentence in err and "Traceback" not in err, err
    assert not (tmp_path / "model").exists()
