"""What a user types is taken, and shown, as it is written: ~ in paths, brackets in names and help."""

import inspect
import typing
from pathlib import Path

import pytest
import yaml
from tests_support import experiment_of

from nasbench.cli.app import COMMANDS, LazyCommand, as_typed
from nasbench.data.folders import data_folders
from nasbench.experiment.loading import parse_experiment
from nasbench_registry.files import user_path


@pytest.fixture
def home(monkeypatch, tmp_path):
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    return place


def commands():
    for name in COMMANDS:
        command = LazyCommand(name).load()
        yield from (getattr(command, "commands", None) or {name: command}).values()


def written(function):
    """The help texts of a command as its source has them."""
    yield inspect.getdoc(function)
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        for info in typing.get_args(parameter.annotation)[1:]:
            yield getattr(info, "help", None)


def squeezed(text):
    """Letters and signs alone, for a help breaks lines and draws frames."""
    return "".join(sign for sign in text if sign.isascii() and not sign.isspace())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "data"])
def test_help_shows_brackets_as_they_are_written(nasbench, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "400")
    function = inspect.unwrap(LazyCommand(name).load().callback)
    code, out, _ = nasbench(name, "--help")
    assert code == 0
    for text in written(function):
        for piece in (text or "").split("\n\n"):
            assert squeezed(piece) in squeezed(out), piece


def test_some_help_has_brackets():
    """Without which the test above would show nothing."""
    texts = [text or "" for command in commands() for text in written(inspect.unwrap(command.callback))]
    assert sum("[" in text for text in texts) >= 5


def test_every_path_of_a_command_is_below_the_home_folder(home):
    arguments = {}

    def command(one: Path, several: list[Path], none: Path | None, text: str) -> None:
        arguments.update(one=one, several=several, none=none, text=text)

    as_typed(command)(one=Path("~/x"), several=[Path("~/y"), Path("z")], none=None, text="~/x")
    assert arguments == {"one": home / "x", "several": [home / "y", Path("z")], "none": None, "text": "~/x"}
    assert all(loaded.callback is not inspect.unwrap(loaded.callback) for loaded in commands()), (
        "all of them are wrapped"
    )


def test_a_run_and_a_file_below_the_home_folder(nasbench, home, tmp_path):
    experiment = experiment_of(controller="random", search={"candidates": 1}, cache="~/cache")
    (home / "small.yaml").write_text(yaml.safe_dump(experiment))
    assert nasbench("search", "~/small.yaml", "--run=~/runs/[bold]one[/bold]")[0] == 0
    run = home / "runs/[bold]one[/bold]"
    assert (run / "report.json").exists() and (home / "cache").is_dir() and not (tmp_path / "~").exists()
    for command in ("status", "report", "resume"):
        code, out, err = nasbench(command, "~/runs/[bold]one[/bold]")
        assert code == 0 and squeezed(str(run)) in squeezed(out + err), command


def test_paths_of_the_environment_and_of_nobody(home, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", "~/data")
    assert data_folders()[0] == home / "data"
    assert user_path("~nobody_has_this_name/x") == Path("~nobody_has_this_name/x")


@pytest.mark.parametrize(
    ("section", "name"), [("reward", "scalar"), ("device", "cpu"), ("executor", "inline"), ("controller", "random")]
)
def test_what_has_a_name_has_a_short_form(section, name):
    short = parse_experiment({"name": "x", "space": "mobile", "controller": "random"} | {section: name})
    assert getattr(short, section).name == name
