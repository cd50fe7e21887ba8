"""blocks, count: the commands about what can be built."""

import json

import pytest

from search_spaces.blocks import BLOCKS

OWN_BLOCK = """
from torch import nn


def plain(inputs, outputs, *, kernel=3, stride=1):
    '''Convolution and SiLU.'''
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.SiLU())
"""


def test_blocks_compares_the_whole_zoo(nasbench):
    code, out, _ = nasbench("blocks", "--input-shape", "16,8,8", "--seconds", "0.01", "--json")
    assert code == 0
    rows = {row["block"]: row for row in json.loads(out)}
    assert set(rows) == set(BLOCKS)
    for name, row in rows.items():
        assert row["output_shape"] == [16, 8, 8]
        assert row["source"] and row["summary"]
        assert row["latency_ms"]["median"] > 0
        assert row["protocol"]["repeats"] >= 30 and "onnxruntime" in row["protocol"]["runtime"]
        assert row["peak_activation_bytes"] >= 16 * 8 * 8 * 4
        assert (row["macs"] > 0 and row["params"] > 0) or name == "identity"
    # By hand: 64 pixels, 3x3 kernels, 16 to 16 channels; and two products of 64 x 64 x 16 for the attention.
    assert rows["convolution"]["macs"] == 64 * 9 * 16 * 16
    assert rows["transformer_encoder"]["attention_macs"] == 2 * 64 * 64 * 16
    assert rows["repvgg"]["macs"] == rows["convolution"]["macs"]


def test_blocks_of_the_users_own_and_blocks_that_cannot(nasbench, tmp_path):
    (tmp_path / "own_blocks.py").write_text(OWN_BLOCK)
    words = ["own_blocks:plain", "identity", "--input-shape", "8,9,9", "--stride", "2", "--outputs", "16"]
    code, out, err = nasbench("blocks", *words, "--backend", "eager", "--seconds", "0.01", "--json")
    assert code == 0
    own, identity = json.loads(out)
    assert (own["output_shape"], own["summary"]) == ([16, 5, 5], "Convolution and SiLU.")
    assert own["params"] == 8 * 16 * 9 + 16
    assert "cannot go from 8 to 16 channels with stride 2" in identity["reason"]
    assert "left out: identity" in err


def test_blocks_prints_a_table(nasbench):
    code, out, _ = nasbench("blocks", "fire", "--input-shape", "16,8,8", "--seconds", "0.01")
    assert code == 0
    assert "fire" in out and "of them attention" in out and "timed in turn" in out


def test_count_counts_distinct_networks(nasbench):
    code, out, _ = nasbench("count", "nasbench201", "--json")
    assert (code, json.loads(out)) == (0, {"space": "nasbench201", "size": 15_625, "distinct": 6_466})
    code, out, _ = nasbench("count", "nasbench101")
    assert code == 0 and "423,624 distinct networks" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["blocks", "fir"], "Did you mean 'fire'?"),
        (["blocks", "--input-shape", "3,8"], "give channels,height,width"),
        (["blocks", "--kernel", "4"], "--kernel 4 is even"),
        (["blocks", "--backend", "onxruntime"], "Did you mean 'onnxruntime'?"),
        (["count", "vit"], "are not counted one by one"),
        (["count", "mobile"], "are not counted one by one"),
        (["count", "mobile", "--option", "layer=1"], "Did you mean 'layers'?"),
        (["check-space", "mobile", "--option", "widths"], "layers=4"),
    ],
)
def test_mistakes_cost_one_sentence(nasbench, words, message):
    code, _, err = nasbench(*words)
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err
