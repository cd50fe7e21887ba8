"""Calibrations on disk, and whether one of them holds for an experiment."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nasbench.devices.device import Device
from nasbench.latency.calibration import Calibration
from nasbench.storage.code_digest import changes, code_digests
from nasbench.storage.files import write_json
from nasbench_registry import UserError
from search_spaces import Task, spaces

FORMAT = 1
FILE = "calibration.json"


@dataclass(frozen=True)
class CalibrationScope:
    """What latencies depend on besides the architecture.

    Attributes:
        space: its name.
        space_options: with every default written out.
        input_shape: (channels, height, width) of an image.
        device: its name.
        runtime: that runs the networks.
        threads: of one inference.
        batch: images in one inference.
        machine: the model of the processor, or what stands for it.
        code: digests of the user's own code that builds networks, see `code_digests`.
    """

    space: str
    space_options: Mapping[str, Any]
    input_shape: tuple[int, ...]
    device: str
    runtime: str
    threads: int
    batch: int
    machine: str
    code: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, space: str, options: Mapping[str, Any], task: Task, device: Device) -> CalibrationScope:
        """The setting of a space with these options, a task and a device."""
        parameters = inspect.signature(spaces.find(space)).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        return cls(
            space,
            json.loads(json.dumps(defaults | dict(options), default=str)),  # as it will be when it is read back
            task.input_shape,
            device.name,
            device.runtime,
            device.threads,
            device.batch,
            device.machine,
            code_digests(spaces.find(space), options),
        )

    def difference(self, other: CalibrationScope) -> str | None:
        """What is not the same in another setting, as "key is x here and y there"; None if all is."""
        for key, mine in asdict(self).items():
            theirs = getattr(other, key)
            if key == "code":
                edited = changes(mine, theirs)
                if edited:
                    return f"the code of the space is another one: {'; '.join(edited)}"
            elif key == "space_options":
                changed = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
                if changed:
                    name = changed[0]
                    return f"option {name} of the space is {theirs.get(name)!r} here and {mine.get(name)!r} there"
            elif mine != theirs:
                return f"{key} is {theirs!r} here and {mine!r} there"
        return None


def save_calibration(
    folder: Path, calibration: Calibration, setting: CalibrationScope, found: Mapping[str, Any]
) -> Path:
    """Write `FILE` into a folder, which is made if need be; returns the file.

    Args:
        folder: of the calibration.
        calibration: what was measured.
        setting: what it holds for.
        found: how well it predicts; JSON, kept for people.
    """
    file = folder / FILE
    about = asdict(setting) | {"input_shape": list(setting.input_shape)}
    write_json(file, {"format": FORMAT, "setting": about, **found, "measurements": calibration.to_json()})
    return file


def load_calibration(folder: Path, setting: CalibrationScope) -> Calibration:
    """The calibration in a folder, if it holds for a setting.

    Raises:
        UserError: there is none, or it was made for another setting; names the difference.
    """
    file = folder / FILE
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise UserError(f"{file} has format {stored['format']!r}; this version reads format {FORMAT}.")
        about = stored["setting"]
        made_for = CalibrationScope(**{**about, "input_shape": tuple(about["input_shape"])})
        calibration = Calibration.from_json(stored["measurements"])
    except OSError:
        raise UserError(f"there is no file {file} that can be read; make it with nasbench calibrate --out.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error}); make it again.") from None
    different = made_for.difference(setting)
    if different:
        raise UserError(
            f"the calibration in {folder} does not hold for this experiment: {different}; calibrate for it with "
            f"nasbench calibrate, or leave out device.calibration."
        )
    return calibration
