"""A run folder: everything a search leaves behind, written so that a crash at any moment leaves it readable."""

from __future__ import annotations

import difflib
import fcntl
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.files import read_json, write_json, write_text
from nasbench_registry import UserError

PACKAGES = (
    "nasbench-framework",
    "torch",
    "ray",
    "optuna",
    "numpy",
    "fvcore",
    "tensorly",
    "torch-pruning",
    "scikit-learn",
    "onnx",
    "onnxruntime",
)


LOOK_S = 0.001  # a look whether a folder is held takes less
CHECKPOINTS = "checkpoints"
BASELINE = "baseline"
EPOCHS = "epochs.json"
"""In the folder of a differentiable search: what came of each epoch."""
SHARED, ARTEFACTS = "shared", "artefacts"
"""Folders of a search over recipes, too: what its candidates have in common, and what came of each."""


class RunFolder:
    """The files of one run, by name.

    Args:
        path: Path of the folder.

    Attributes:
        name: Name that the user gives it.
        checkpoints: Weights and states of training, which workers on other machines reach, too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._lock = path / ".lock"
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.journal = path / "study.journal"
        self.controller = path / "controller.json"
        self.calibration = path / "predictor.json"
        self.peak = path / "peak.json"
        self.remeasured = path / "remeasured.json"
        self.summary = path / "summary.json"
        self.space = path / "space.json"
        self.code = path / "code.json"
        self.trials = path / "trials.csv"
        self.checkpoints = Checkpoints(path / CHECKPOINTS)
        self.survivors = path / "survivors"
        self.supernet = path / "supernet"
        self.agreement = path / "agreement.json"
        self.differentiable = path / "differentiable"
        self.tensorboard = path / "tensorboard"
        self.report_json = path / "report.json"
        self.report_html = path / "report.html"

    @property
    def exists(self) -> bool:
        """Whether a search was started here."""
        return self.config.exists()

    def require(self) -> RunFolder:
        """This folder, if a search was started here; UserError if not."""
        if not self.exists:
            why = "it has no config.yaml" if self.path.is_dir() else "there is no such folder"
            raise UserError(f"{self.name} is no run folder, for {why}; give the folder of a search.")
        return self

    def asked(self) -> dict[str, Any]:
        """The experiment that runs here, with every default written out, as JSON values."""
        return read_config(self.config)

    @property
    def run_id(self) -> str:
        """A name that no other run has."""
        return str(self.about()["run_id"])

    def code_folder(self) -> Path:
        """Where the experiment file lay, and with it the code of a user's own space."""
        return Path(self.about()["code_folder"])

    def about(self) -> dict[str, Any]:
        """Where and with what the run was made, see `environment`; UserError if that cannot be read."""
        remedy = "the run folder lost it and cannot be gone on with: start another run"
        return read_json(self.environment, remedy, ("run_id", "code_folder"))

    def read(self, path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
        """The JSON object in a file of this run that is made from others; UserError if it is damaged.

        Args:
            path: Path of the file.
            keys: Keys that the object must have.
        """
        return read_json(path, f"delete it, and nasbench resume {self.name} makes it again", keys)

    def is_locked(self) -> bool:
        """Whether a process works here now.

        Looking makes no file. It asks for a shared lock, which is refused while a process works here, and `locked`
        knows a lock of somebody who only looks.
        """
        try:
            with self._lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file lets go
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def start(self, experiment: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Make the folder for an experiment, or check that it is the one that runs here.

        Args:
            experiment: Experiment with every default written out, as JSON values.
            about: Where and with what the run is made, see `environment`.

        Raises:
            UserError: Another experiment runs here; the message shows the difference.
        """
        text = to_yaml(experiment)
        if self.exists:
            stored_text = to_yaml(self.asked())
            if stored_text != text:
                difference = difflib.unified_diff(
                    stored_text.splitlines(), text.splitlines(), "this run", "this experiment", lineterm="", n=0
                )
                raise UserError(
                    f"{self.name} holds a run of another experiment; choose another --run folder, or undo:\n"
                    + "\n".join(difference)
                )
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.environment, about)
        write_text(self.config, text)  # last, for it is what makes a folder a run

    def change(self, experiment: Mapping[str, Any]) -> None:
        """Write the experiment that runs here anew."""
        write_text(self.config, to_yaml(experiment))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that no second process writes into it; a killed process lets go of it.

        Raises:
            UserError: Another process holds it, or there is a file of this name.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.name} is a file, and a run needs a folder; give another name with --run.")
        lock = FileLock(self._lock)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                if self.is_locked():
                    raise UserError(f"another process works in {self.name}; wait for it, or stop it first.") from None
                time.sleep(LOOK_S)  # somebody only looked whether it is free
        try:
            yield
        finally:
            lock.release()


def baseline_folders(folder: RunFolder, count: int) -> list[RunFolder]:
    """The folders of so many random searches that a run is compared with, inside its own."""
    names = [BASELINE, *(f"{BASELINE}-{number}" for number in range(2, count + 1))]
    return [RunFolder(folder.path / name) for name in names]


def to_yaml(experiment: Mapping[str, Any]) -> str:
    """An experiment as the text of a YAML file."""
    return yaml.safe_dump(dict(experiment), sort_keys=False)


def read_config(path: Path) -> dict[str, Any]:
    """The content of a `config.yaml`; UserError if it cannot be read."""
    try:
        experiment = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise damaged_config(path, str(getattr(error, "problem", None) or error)) from None
    if not isinstance(experiment, dict):
        raise damaged_config(path, "it holds no experiment")
    return experiment


def damaged_config(path: Path, why: str) -> UserError:
    """The error for a `config.yaml` that does not say what was asked."""
    return UserError(
        f"{path} is damaged ({why}); restore it, for example from the experiment in report.json, or start another run."
    )


def environment(seed: int, code_folder: Path, command: str, machine: str) -> dict[str, Any]:
    """Where and with what a run is made.

    Args:
        seed: Random seed of the experiment.
        code_folder: Folder of a user's own code.
        command: Command by which it is made again.
        machine: Name of the processor.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": sys.version.split()[0],
        **versions,
        "machine": machine,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "seed": seed,
        "run_id": uuid.uuid4().hex[:12],
        "commit": _commit(),
        "command": command,
        "code_folder": str(code_folder),
    }


def _commit() -> str | None:
    """The commit of this code, if it runs from a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        completed = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()
