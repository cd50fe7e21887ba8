"""Every example of the documentation runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bounds import check_learned
from typer.testing import CliRunner

from nasbench.cli.app import COMMANDS, app
from nasbench.experiment.loading import parse_experiment

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from nasbench.cli.app import main; main()"]


def blocks(file: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), flags=re.DOTALL)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_space_and_the_experiment_of_a_beginner(tmp_path):
    (space,), (experiment,) = blocks("docs/first-experiment.md", "python"), blocks("docs/first-experiment.md", "yaml")
    assert len([line for line in space.splitlines() if line.strip()]) <= 20
    (tmp_path / "my_space.py").write_text(space)
    (tmp_path / "mine.yaml").write_text(experiment)
    checked = run(tmp_path, "check-space", "my_space:Tiny")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    searched = run(tmp_path, "search", "mine.yaml", "--run", "runs/mine")
    assert searched.returncode == 0, searched.stderr
    assert "Survivors of mine" in searched.stdout
    assert (tmp_path / "runs/mine/report.html").exists()
    assert (tmp_path / "runs/mine/survivors/1/compiled/model.onnx").exists()


def test_the_function_of_the_documentation_as_an_experiment_file(tmp_path):
    code, (experiment,) = blocks("docs/python.md", "python")[0], blocks("docs/python.md", "yaml")
    (tmp_path / "diabetes.py").write_text(code[: code.index("result = nb.search(")])
    (tmp_path / "diabetes.yaml").write_text(experiment)
    searched = run(tmp_path, "search", "diabetes.yaml", "--run", "runs/diabetes-yaml")
    assert searched.returncode == 0, searched.stderr
    report = json.loads((tmp_path / "runs/diabetes-yaml/report.json").read_text())
    assert {row["status"] for row in report["candidates"]} <= {"done", "stopped"}
    assert all(row["metrics"]["weights"] <= 1500 for row in report["candidates"] if row["status"] == "done")


def test_the_tutorial_writes_a_space_and_searches_it(tmp_path):
    """Every file and every command of the tutorial, in its order."""
    (space, product), (experiment,) = (
        blocks("docs/tutorial-space.md", "python"),
        blocks("docs/tutorial-space.md", "yaml"),
    )
    (tmp_path / "pyramid.py").write_text(space)
    (tmp_path / "product.py").write_text(product)
    (tmp_path / "pyramid.yaml").write_text(experiment)
    text = (ROOT / "docs/tutorial-space.md").read_text()
    commands = re.findall(r"^    nasbench (.*)$", text, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        "check-space",
        "count",
        "draw",
        "search",
    ]
    printed = {}
    for command in commands:
        done = run(tmp_path, *shlex.split(command))
        assert done.returncode == 0, done.stdout + done.stderr
        printed[command.split()[0]] = done.stdout
    assert "sound" in printed["check-space"]
    assert (tmp_path / "architecture.svg").read_text().startswith("<svg")
    assert (tmp_path / "runs/pyramid/survivors/1/compiled/model.onnx").exists()
    product_run = subprocess.run(
        [sys.executable, "product.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert product_run.returncode == 0, product_run.stderr
    assert "pairs" in product_run.stdout and "stage0.block=convolution" in product_run.stdout


def test_the_data_set_of_the_documentation(tmp_path):
    (script,) = blocks("docs/data.md", "python")
    (tmp_path / "make.py").write_text(script)
    subprocess.run([sys.executable, "make.py"], cwd=tmp_path, check=True, timeout=120)
    (named,) = re.findall(r"^    data: (\{name: arrays.*\})$", (ROOT / "docs/data.md").read_text(), flags=re.MULTILINE)
    experiment = {"name": "tiles", "space": "mobile", "controller": "random", "data": yaml.safe_load(named)}
    (tmp_path / "tiles.yaml").write_text(yaml.safe_dump(experiment))
    planned = run(tmp_path, "search", "tiles.yaml", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "'train': 336, 'val': 72, 'test': 72" in " ".join(planned.stdout.split())


def test_the_keys_of_the_documentation_are_the_defaults():
    (text,) = blocks("docs/experiments.md", "yaml")
    written = yaml.safe_load(text)
    least = parse_experiment({"name": "example", "space": "mobile", "controller": "random"})
    assert parse_experiment(written) == least
    assert set(written) == set(type(least).model_fields)


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(file):
    path = ROOT / file if (ROOT / file).exists() else ROOT / "docs" / file
    text = re.sub(r"`[^`\n]*`", "", path.read_text())  # code may look like a link
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        # Pages of the site that the code itself gives are checked when it is built: make docs.
        generated = target.startswith(("reference/", "examples/", "notebooks/")) or target in (
            "contributing.md",
            "changelog.md",
        )
        assert generated or (path.parent / target).exists(), f"{file} links to {target}"


def test_every_command_of_the_documentation_exists():
    named = {}
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for command in re.findall(r"(?:^ {4}|`)nasbench ([a-z][a-z-]+)", path.read_text(), flags=re.MULTILINE):
            named.setdefault(command, path.name)
    assert {"init", "search", "resume", "doctor"} <= set(named)
    unknown = {command: page for command, page in named.items() if command not in COMMANDS}
    assert not unknown
    shown = CliRunner().invoke(app, ["--help"]).output
    for command in COMMANDS:
        assert command in shown
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


@pytest.mark.parametrize("number", [0, 1])
def test_the_searches_for_other_tasks(number, tmp_path):
    """Regression of a table and segmentation: searched, compressed, int8, in 25 lines each."""
    code = blocks("docs/problems.md", "python")[number]
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    (tmp_path / "task.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "task.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "test_rmse" in done.stdout or "test_miou_pct" in done.stdout


@pytest.mark.parametrize("page", ["search-my-task", "my-data"])
def test_from_nothing_to_an_int8_artefact(page, tmp_path):
    """In 25 lines: both networks have learned something, and the second one is the smaller file."""
    (code,) = blocks(f"docs/{page}.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    (tmp_path / "mine.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    results = re.findall(r"([\d.]+) %, ([\d,]+) bytes, ([\d.]+) ms", done.stdout)
    (float_pct, int8_pct), sizes, _ = (
        [float(text.replace(",", "")) for text in column] for column in zip(*results, strict=True)
    )
    for accuracy_pct in (float_pct, int8_pct):
        check_learned("accuracy", accuracy_pct, images=270)
    assert sizes[1] < sizes[0]
    (artefact,) = tmp_path.glob("out/*/model.onnx")
    assert artefact.stat().st_size == sizes[1]


def test_the_problem_of_the_users_own(tmp_path):
    """The class of the page is named by the experiment of the page, and goes through the recipe."""
    code, (experiment,) = blocks("docs/problems.md", "python")[2], blocks("docs/problems.md", "yaml")
    (own,) = re.findall(r"^class Denoising.*?(?=^def )", code, flags=re.DOTALL | re.MULTILINE)
    assert len([line for line in own.splitlines() if line.strip()]) <= 20
    (tmp_path / "denoising.py").write_text(code)
    (tmp_path / "denoising.yaml").write_text(experiment)
    searched = run(tmp_path, "search", "denoising.yaml", "--run", "runs/denoising")
    assert searched.returncode == 0, searched.stderr
    report = json.loads((tmp_path / "runs/denoising/report.json").read_text())
    assert report["quality"] == "val_psnr_db"
    stages = {stage["name"]: stage["metrics"] for stage in report["survivors"][0]["stages"]}
    assert {"searched", "pruned", "quantized", "compiled"} <= set(stages)
    assert all(numbers["test_psnr_db"] > 0 for numbers in stages.values())
    exported = run(
        tmp_path, "export", "runs/denoising/survivors/1/searched", "--backend", "onnxruntime", "--out", "out", "--json"
    )
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["val_psnr_db"] > 0


@pytest.mark.parametrize("number", [0, 1])
def test_the_supernets_of_the_documentation(number, tmp_path):
    (tmp_path / "shared.py").write_text(blocks("docs/supernet.md", "python")[number])
    done = subprocess.run(
        [sys.executable, "shared.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "val_acc_pct" in done.stdout


def test_compressing_a_network_of_another_library(tmp_path):
    """The data, the code and the two commands of the page, on a network of timm; 25 lines of code at most."""
    page = "docs/compress-my-network.md"
    (data, code), (recipe,) = blocks(page, "python"), blocks(page, "yaml")
    assert len([line for line in (data + code).splitlines() if line.strip()]) <= 25
    (tmp_path / "digits32.py").write_text(data)
    (tmp_path / "small.py").write_text(code)
    (tmp_path / "half.yaml").write_text(recipe)
    commands = re.findall(r"^    nasbench (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    *commands, of_a_program = commands
    assert [command.split()[0] for command in commands] == ["import", "compress"]
    assert of_a_program.startswith("import network.pt2 --data")  # tests/nasbench/models/test_program.py runs the like
    # timm imports torchvision, which is not to be had from every index, and builds networks without it.
    start = "from benchmarks.no_torchvision import without_torchvision\nwith without_torchvision(): import timm\n"
    paths = os.pathsep.join([str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    printed = []
    for words in ([], *map(shlex.split, commands)):
        then = "from nasbench.cli.app import main; main()" if words else (tmp_path / "small.py").read_text()
        done = subprocess.run(
            [sys.executable, "-c", start + then, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed.append(done.stdout)
    dense, small = ([float(number) for number in re.findall(r"[\d.]+", line)] for line in printed[0].splitlines())
    assert small[1] < dense[1] / 6, "half of the weights, of a quarter of the bytes each, and scales"
    stages = json.loads((tmp_path / "models/small/compress.json").read_text())["stages"]
    assert [stage["name"] for stage in stages][1:] == ["pruned", "quantized", "compiled"]
    assert (tmp_path / "artefacts/small/README.md").exists()
