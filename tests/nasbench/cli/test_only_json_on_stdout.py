"""With --json, standard output holds one JSON document, whoever else prints there and however."""

import json
import os
import subprocess
import sys

import pytest
from stored_digits import store_trained

NOISY = """
import atexit, os, subprocess, sys
from nasbench_compression.compilation.onnxruntime import OnnxRuntime
from search_spaces import Decision, SearchSpace
from search_spaces.mobile import Mobile

def shout():
    print("from Python")
    os.write(1, b"from C, in this process\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)

class Loud(Mobile):
    def build(self, arch, task):
        shout()
        return super().build(arch, task)

class LoudRuntime(OnnxRuntime):
    def _compile(self, *given):
        atexit.register(shout)
        shout()
        return super()._compile(*given)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "noisy.py").write_text(NOISY)
    store_trained(folder / "model", epochs=1)
    return folder


def run(place, *words, **options):
    program = "from nasbench.cli.app import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path])}
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=place, env=environment, text=True, timeout=120, **options
    )


@pytest.mark.parametrize(
    "words",
    [
        ["check-space", "noisy:Loud"],
        ["export", "model", "--backend", "noisy:LoudRuntime", "--out", "artefact"],
        ["benchmark", "model", "--backend", "noisy:LoudRuntime", "--seconds", "0.05"],
    ],
    ids=lambda words: words[0],
)
def test_nothing_else_reaches_standard_output(place, words):
    done = run(place, *words, "--json", capture_output=True)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    for voice in ("from Python", "from C, in this process", "from a child"):
        assert voice in done.stderr


def test_it_works_where_standard_error_is_closed(place):
    program = "import os; os.close(2); from nasbench.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "list", "spaces", "--json"], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert [row["name"] for row in json.loads(done.stdout)]


def test_standard_output_is_given_back(nasbench, capfd):
    code, out, _ = nasbench("list", "controllers", "--json")
    assert code == 0 and json.loads(out)
    print("a line after it")
    assert capfd.readouterr().out == "a line after it\n"
