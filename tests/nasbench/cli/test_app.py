"""The command line knows its commands by name and summary, and imports none before it is asked for."""

import re
import subprocess
import sys

import pytest

from nasbench import __version__
from nasbench.cli.app import COMMANDS, LazyCommand
from nasbench.deploy.variants import USUAL

ENTRY = "from nasbench.cli.app import main; main()"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_line_of_what_the_command_says(name):
    command = LazyCommand(name).load()
    assert command.help.split("\n\n")[0].replace("\n", " ").strip() == COMMANDS[name]
    assert command.name == name


@pytest.mark.parametrize("words", [("-h",), ("--help",), ()])
def test_help_shows_every_command(nasbench, words):
    _, out, err = nasbench(*words)
    assert [name for name in COMMANDS if f" {name} " not in out + err] == []


def test_help_of_a_command_has_a_short_form(nasbench):
    short, long = (nasbench("status", option) for option in ("-h", "--help"))
    assert short == long and short[0] == 0 and "--json" in short[1] and "nasbench status" in short[1]


def test_the_variants_that_help_names_are_the_usual_ones(nasbench):
    _, out, _ = nasbench("matrix", "--help")
    text = " ".join(re.sub("[│╭╰─╮╯]", " ", out).split())
    assert f"[{', '.join(USUAL)}]" in text


def test_version(nasbench):
    assert nasbench("--version") == (0, f"nasbench {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serach", "x.yaml"], "Did you mean 'search'?"),
        (["data", "fetsh"], "Did you mean 'fetch'?"),
        (["status"], "Missing argument"),
        (["status", "x", "--jsn"], "No such option"),
    ],
)
def test_a_misspelt_command_is_bad_usage(nasbench, words, message):
    code, out, err = nasbench(*words)
    assert (code, out) == (2, "") and message in " ".join(err.split())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("nasbench sta", ["status"]), ("nasbench data ve", ["verify"]), ("nasbench status --js", ["--json"])],
)
def test_a_shell_completes_commands_and_options(typed, expected):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_NASBENCH_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", ENTRY], env=words, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == expected, done.stderr


def test_what_a_shell_needs_for_it_can_be_shown():
    line = f"{sys.executable} -c '{ENTRY}' --show-completion; true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert "_NASBENCH_COMPLETE=complete_bash" in done.stdout, done.stderr
