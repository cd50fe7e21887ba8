"""A BERT from a seed: tokens and a mask through steps, runtimes, folders and a problem; its output is a ModelOutput."""

import json

import numpy as np
import pytest
import torch

import nasbench as nb
from nasbench.models.outside import transformers
from nasbench_compression import Context, get_backend, get_step
from nasbench_compression.inputs import Packed, packed, parts_of
from nasbench_registry import UserError

SMALL_BERT = {
    "architecture": "BertForSequenceClassification",
    **{"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    **{"max_position_embeddings": 16, "num_labels": 3},
}
BUILD = "nasbench.models.outside:transformers"


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    return transformers(**SMALL_BERT).eval()


@pytest.fixture(scope="module")
def sentences():
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(16, 10, dtype=torch.int64)
    mask[::2, 7:] = 0
    return {"input_ids": torch.randint(40, (16, 10), generator=generator), "attention_mask": mask}


def test_several_inputs_lie_side_by_side_in_one(bert, sentences):
    parts = parts_of(sentences)
    flat, whole = packed(sentences, parts), Packed(bert, parts)
    assert flat.shape == (16, 20) and flat.dtype == torch.int64
    with torch.no_grad():
        expected = bert(**sentences).logits
        torch.testing.assert_close(whole(flat).logits, expected, rtol=0, atol=0)
        torch.testing.assert_close(whole(*sentences.values()).logits, expected, rtol=0, atol=0)
        assert not torch.equal(bert(input_ids=sentences["input_ids"]).logits, expected)  # the mask counts
    floats = packed((torch.ones(2, 3, 4), np.zeros((2, 1))), parts_of((torch.ones(2, 3, 4), np.zeros((2, 1)))))
    assert floats.shape == (2, 13) and floats.dtype == torch.float32


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"input_ids": torch.zeros(1, 10)}, "the inputs are input_ids; give input_ids, attention_mask"),
        ((torch.zeros(1, 10),), "1 inputs are given, and the network takes 2"),
        ((torch.zeros(1, 10), torch.zeros(1, 9)), r"attention_mask has shape \(1, 9\); give \(1, 10\)"),
        ((torch.zeros(1, 10), torch.zeros(2, 10)), r"attention_mask has shape \(2, 10\); give \(1, 10\)"),
    ],
)
def test_other_inputs_are_refused(sentences, inputs, words):
    with pytest.raises(UserError, match=words):
        packed(inputs, parts_of(sentences))


def test_inputs_that_cannot_be_packed():
    mixed = (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(UserError, match="whole numbers and of others"):
        packed(mixed, parts_of(mixed))
    with pytest.raises(UserError, match="input 1 of the example has shape"):
        parts_of((torch.ones(2, 3), torch.tensor(3)))
    with pytest.raises(UserError, match="has no inputs"):
        parts_of({})


def test_heads_whose_result_is_read_outside_of_their_module_are_pruned(bert, sentences):
    parts = parts_of(sentences)
    flat = packed(sentences, parts)
    pruned, note = get_step("prune", ratio=0.5, heads=True).apply(Packed(bert, parts), Context(flat[:2]))
    assert note["left_out"] == {}
    first = pruned.network.bert.encoder.layer[0].attention
    assert first.self.num_attention_heads == 2 and first.output.dense.in_features == 16
    assert note["layers"]["network.bert.encoder.layer.1.attention.self.query"]["channels"] == [32, 16]


def test_from_tokens_to_an_int8_artefact_without_a_problem(bert, sentences, tmp_path):
    recipe = [nb.Prune(macs_ratio=0.5, heads=True), nb.Decompose(method="svd", ratio=0.5)]
    small = nb.compress(bert, recipe, example=sentences, build=BUILD, options=SMALL_BERT)
    expected = small.predict(sentences)
    assert expected["logits"].shape == (16, 3)
    small.save(tmp_path / "small")
    loaded = nb.load(tmp_path / "small")
    for inputs in (sentences, tuple(sentences.values())):
        np.testing.assert_array_equal(loaded.predict(inputs)["logits"], expected["logits"])
    flat = packed(sentences, parts_of(sentences))
    eight, _ = get_step("quantize", precision="int8").apply(loaded.network, Context(flat[:1], calibration=flat))
    artefact = get_backend("onnxruntime").compile(eight, flat[:1], "int8", flat)
    off = np.abs(np.asarray(artefact(flat.numpy())["logits"]) - expected["logits"]).max()
    assert off < 0.1 * np.abs(expected["logits"]).max()
    loaded.export("onnxruntime").save(tmp_path / "artefact")
    again = nb.load(tmp_path / "artefact").predict(sentences)
    np.testing.assert_allclose(again["logits"], expected["logits"], atol=1e-4 * np.abs(expected["logits"]).max())


def test_a_problem_of_several_inputs(tmp_path, monkeypatch):
    """Trained, judged and compressed with its data; commands take its folder."""
    (tmp_path / "reviews.py").write_text(
        "import torch\n\n\ndef reviews():\n"
        "    generator = torch.Generator().manual_seed(0)\n"
        "    tokens = torch.randint(2, 40, (240, 10), generator=generator)\n"
        "    labels = torch.arange(240) % 3\n"
        "    tokens[:, 3] = 10 * labels\n"
        "    mask = (torch.arange(10) < torch.randint(5, 11, (240, 1), generator=generator)).long()\n"
        "    return (tokens, mask), labels\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    problem = nb.image_classification("reviews:reviews", epochs=1)
    torch.manual_seed(0)
    network = transformers(**SMALL_BERT)
    problem.fit(network, epochs=1, seed=0)
    recipe = [nb.Prune(macs_ratio=0.3, epochs=1), nb.Quantize("int8")]
    small = nb.compress(network, recipe, problem=problem, build=BUILD, options=SMALL_BERT)
    assert [report["stage"] for report in small.reports] == ["pruned", "quantized"]
    artefact = small.export("onnxruntime")
    assert 0 <= problem.score(artefact.compiled, "test")["test_acc_pct"] <= 100
    small.save(tmp_path / "small")
    assert json.loads((tmp_path / "small/model.json").read_text())["task"]["inputs"][0]["shape"] == [20]
    examples = problem.examples(4)
    again = nb.load(tmp_path / "small").compress([nb.Distill(epochs=1)])  # with the data that its folder names
    assert again.reports[0]["stage"] == "distilled" and again.predict(examples)["logits"].shape == (4, 3)
