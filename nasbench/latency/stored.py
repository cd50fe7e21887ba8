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
    """The setting on which latencies depend besides the architecture.

    Attributes:
        space: Name of the space.
        space_options: Options of the space, with every default written out.
        input_shape: Shape of an image: (channels, height, width).
        device: Name of the device.
        runtime: Runtime that runs the networks.
        threads: Number of threads of one inference.
        batch: Images in one inference.
        machine: Model of the processor, or what stands for it.
        code: Digests of the user's own code that builds networks, see `code_digests`.
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
        defaults = {
            parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
        }
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
        """The first difference to another setting, as "key is x here and y there"; None if there is none."""
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
    folder: Path, calibration: Calibration, setting: CalibrationScope, figures: Mapping[str, Any]
) -> Path:
    """Write `FILE` into a folder, which is made if need be; returns the file.

    Args:
        folder: Folder of the calibration.
        calibration: Calibration to store.
        setting: Setting that it holds for.
        figures: Figures of how well it predicts; JSON, kept for people.
    """
    file = folder / FILE
    about = asdict(setting) | {"input_shape": list(setting.input_shape)}
    write_json(file, {"format": FORMAT, "setting": about, **figures, "measurements": calibration.to_json()})
    return file


def load_calibration(folder: Path, setting: CalibrationScope) -> Calibration:
    """The calibration in a folder, if it holds for a setting.

    Raises:
        UserError: There is none, or it was made for another setting; names the difference.
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
