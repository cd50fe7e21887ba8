"""The export matrix: a number or a reason in each cell, nothing measured twice, and one page that shows it."""

import json
import re

import pytest
from stored_digits import store_trained, write_backends

from nasbench.deploy.variants import VARIANTS, Variant, make_variant, model_key, read_variant
from nasbench.models import load_model
from nasbench.report.matrix_page import reasons, write_matrix_page
from nasbench_compression import Recipe
from nasbench_registry import UserError

WORDS = ["--variant", "dense", "--variant", "pruned", "--epochs", "1", "--seconds", "0.03", "--precision", "fp32"]
RUNTIMES = ["--backend", "eager", "--backend", "onnxruntime", "--backend", "mine:Missing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return store_trained(tmp_path_factory.mktemp("model"))


def test_the_short_form(nasbench, folder, tmp_path):
    write_backends(tmp_path)
    code, out, err = nasbench("matrix", folder, "--out", "m", *WORDS, *RUNTIMES, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert json.loads((tmp_path / "m/matrix.json").read_text()) == result
    cells = {(cell["variant"], cell["backend"]): cell for cell in result["cells"]}
    assert set(cells) == {(v, b) for v in ("dense", "pruned") for b in ("eager", "onnxruntime", "mine:Missing")}
    for (_, backend), cell in cells.items():
        if backend == "mine:Missing":
            assert "no_such_package" in cell["reason"] and "of_eager" not in cell
        else:
            assert cell["reason"] is None and cell["max_logit_diff"] < 1e-4 and cell["size_bytes"] > 0
            assert cell["of_eager"]["ratio"] > 0 and cell["latency_ms"]["p95"] >= cell["latency_ms"]["median"]
    assert cells["pruned", "onnxruntime"]["size_bytes"] < cells["dense", "onnxruntime"]["size_bytes"]
    assert "Relu" not in cells["dense", "onnxruntime"]["describe"]["operators_optimized"], "it is fused"

    page = (tmp_path / "m/matrix.html").read_text()
    assert page.count('<details name="cell">') == 4 and "no_such_package" in page
    assert "operators run" in page and result["command"].split()[1] == "matrix"
    own = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?https?:", own), "it asks the network nothing"

    # A run that was killed before its last cell goes on there, and nothing else is done again.
    files = sorted((tmp_path / "m/cells").glob("*.json"))
    variants = sorted((tmp_path / "m/variants").rglob("*"))
    times = {file: file.stat().st_mtime_ns for file in (*files, *variants)}
    gone = next(file for file in files if file.name.startswith("pruned-onnxruntime"))
    gone.unlink()
    code, out, _ = nasbench("matrix", folder, "--out", "m", *WORDS, *RUNTIMES)
    assert code == 0 and "unsupported because" in out and "pruned" in out
    assert sorted((tmp_path / "m/cells").glob("*.json")) == files
    assert [file for file, before in times.items() if file.stat().st_mtime_ns != before] == [gone]


def test_what_cannot_be_asked_for(nasbench, folder, tmp_path):
    (tmp_path / "dense.yaml").write_text("- quantize: {}\n")
    for words, message in (
        (["--variant", "prunned"], "unknown variant 'prunned'"),
        (["--precision", "fp23"], "unknown precision 'fp23'"),
        (["--backend", "onnx"], "unknown backend 'onnx'"),
        (["--variant", "dense", "--variant", "dense.yaml"], "--variant names dense twice"),
    ):
        code, out, err = nasbench("matrix", folder, "--out", "m", *words)
        assert code == 2 and message in err and out == ""
    code, _, err = nasbench("matrix", tmp_path, "--out", "m", "--variant", "dense", "--backend", "eager")
    assert code == 2 and "is no model folder" in err


def test_a_variant_is_made_once_and_keyed_by_what_it_is_made_from(folder, tmp_path):
    quantized = read_variant("quantized", 1)
    first = make_variant(folder, quantized, tmp_path, seed=0)
    assert first.reason is None and [step.name for step, _ in load_model(first.folder).steps] == ["quantize"]
    stages = []
    assert make_variant(folder, quantized, tmp_path, seed=0, on_stage=stages.append) == first and stages == []
    assert make_variant(folder, quantized, tmp_path, seed=1, on_stage=stages.append).folder != first.folder
    assert stages == ["quantized"]
    assert make_variant(folder, Variant("dense", Recipe(())), tmp_path, seed=0).folder == folder
    assert model_key(first.folder) != model_key(folder)
    # A quantized model is not quantized again, and that is the reason of its cells.
    again = make_variant(first.folder, quantized, tmp_path, seed=0)
    assert again.folder is None and "comes after 'quantize'" in again.reason


def test_a_step_that_fails_is_the_reason_of_its_cells(folder, tmp_path):
    failing = Variant("none", Recipe.parse([{"prune": {"max_macs": 1}}]))
    variant = make_variant(folder, failing, tmp_path, seed=0)
    assert variant.folder is None and variant.reason.startswith("the step to pruned fails: ")


def test_recipes_of_a_user(tmp_path):
    (tmp_path / "mine.yaml").write_text("recipe:\n  - quantize: {method: weight_only}\n")
    assert read_variant(str(tmp_path / "mine.yaml"), 5) == Variant(
        "mine", Recipe.parse([{"quantize": {"method": "weight_only"}}])
    )
    for text, message in (
        ("- compile: {}\n", "leave it out"),
        ("steps: []\n", "no key 'recipe'"),
        ("- prunes: {}\n", "unknown step"),
    ):
        (tmp_path / "wrong.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            read_variant(str(tmp_path / "wrong.yaml"), 5)


@pytest.mark.parametrize("name", VARIANTS)
def test_named_variants_train_as_long_as_they_are_told(name):
    for step in read_variant(name, 7).recipe.steps:
        trains = step.name in ("prune", "decompose") or getattr(step, "method", None) == "qat"
        assert step.epochs == (7 if trains else 1)


def cell_of(variant, backend, precision, reason):
    return {"model": "m", "variant": variant, "backend": backend, "precision": precision, "reason": reason}


def test_reasons_are_told_once(tmp_path):
    cells = [
        cell_of("dense", "a", "fp32", "it <died>"),
        cell_of("small", "a", "fp32", "it <died>"),
        cell_of("dense", "b", "int8", "it <died>"),
        cell_of("small", "b", "int8", "no"),
    ]
    assert reasons(cells) == [("it <died>", "a fp32; b int8 (dense)"), ("no", "b int8 (small)")]
    result = {"models": ["m"], "variants": [], "backends": ["a", "b"], "precisions": ["fp32", "int8"], "command": "c"}
    for backend, precision in (("a", "int8"), ("b", "fp32")):
        cells += [cell_of(variant, backend, precision, "no") for variant in ("dense", "small")]
    write_matrix_page({**result, "cells": cells}, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "No cell has numbers" in page and "it &lt;died&gt;" in page and "<died>" not in page
