"""benchmarks.zoo: networks of other libraries go the whole way, and what fails is told."""

import json

import pytest
import yaml

pytestmark = pytest.mark.slow  # each network has a process of its own, which imports its library


def test_networks_of_three_libraries_go_the_whole_way(benchmark, tmp_path):
    names = ["mobilenetv3_small_050", "transformers-vit", "smp-fpn"]
    code, out, err = benchmark("zoo", *names, "--out", tmp_path / "rows.jsonl", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["count"] == result["halved"] == result["restored"] == 3 and result["exported"] >= 2, out
    for row in result["networks"]:
        # Without training, the roundings of int8 may be all that a transformer gives; then its artefact is refused.
        assert "int8_exported_off" in row or "where int8 explains 1 " in row["errors"]["int8"], out
    assert [row["name"] for row in result["networks"]] == sorted(names, key=out.index)
    page = tmp_path / "zoo.md"
    code, again, _ = benchmark("zoo", *names, "--out", tmp_path / "rows.jsonl", "--page", page, "--json")
    assert json.loads(again) == result  # nothing is measured twice
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == [row["name"] for row in result["networks"]]


def test_what_cannot_be_built_is_told_and_the_rest_goes_on(benchmark, tmp_path):
    zoo = tmp_path / "zoo.yaml"
    networks = [
        {"name": "none", "build": "timm:create_model", "options": {"model_name": "no_such"}, "input": [3, 32, 32]},
        {
            "name": "linear",
            "build": "torch.nn:Linear",
            "options": {"in_features": 32, "out_features": 2},
            "input": [32],
        },
    ]
    zoo.write_text(yaml.safe_dump({"networks": networks}))
    code, out, err = benchmark("zoo", "--zoo", zoo, "--json")
    assert code == 0, err
    first, second = json.loads(out)["networks"]
    assert "no_such" in first["errors"]["process"]
    assert "removes nothing from this network" in second["errors"]["prune"] and second["int8_layers"] == 1
    code, _, err = benchmark("zoo", "nobody", "--zoo", zoo)
    assert code == 2 and "the zoo has no nobody; it has none, linear." in err
