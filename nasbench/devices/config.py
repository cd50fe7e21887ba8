"""The section `device`: the hardware that latency is measured on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nasbench_registry.config import Count, Positive, Strict


class DeviceConfig(Strict):
    """The hardware that latency is measured on, and how.

    Attributes:
        name: The device: this machine's CPU or GPU, a table of latencies, or a command that measures.
        threads: Threads of one inference.
        batch: Images in one inference.
        runtime: The compilation backend that runs a candidate: what would be deployed, not only eager PyTorch.
        file: The CSV file of a table, or a published table by name, such as hw_nasbench/cifar10/edgegpu.
        command: What the device `command` runs; ``{model}`` stands for the file that it measures.
        timeout_s: Seconds after which that command has failed.
        latency: `predicted` fits a predictor on measured architectures before the search; `measured` measures each
            candidate, which is only sound with one worker.
        samples: Architectures measured to fit the predictor.
        predictor: What is fitted; `auto` is the one that ranks held-out architectures best. `lookup` and `auto` also
            measure the operators of the space one by one.
        unsure_pct: A prediction is replaced by a measurement if its standard deviation is more than so many percent of
            it, or if a limit lies in its 95 % interval; the predictor learns from these. null never measures.
        calibration: A folder of ``nasbench calibrate``, whose measurements are used in place of new ones.
    """

    name: Literal["cpu", "cuda", "table", "command"] = "cpu"
    threads: Count = 1
    batch: Count = 1
    runtime: str = "eager"
    file: str | None = None
    command: str | None = None
    timeout_s: Positive = 60.0
    latency: Literal["predicted", "measured"] = "predicted"
    samples: Annotated[int, Field(ge=10)] = 40
    predictor: Literal["work", "lookup", "trees", "gp", "auto"] = "work"
    unsure_pct: Positive | None = 25.0
    calibration: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DeviceConfig:
        for key, owner in (("file", "table"), ("command", "command")):
            value = getattr(self, key)
            if value is not None and self.name != owner:
                raise ValueError(f"{key} is {value!r}, and device {self.name!r} has none; set name: {owner}.")
            if not value and self.name == owner:
                raise ValueError(f"device {owner!r} needs the key {key!r}; see docs/devices.md.")
        if self.command is not None and "{model}" not in self.command:
            raise ValueError(f"command {self.command!r} does not say where the network's file goes; add {{model}}.")
        if self.name == "table" and self.predictor == "lookup":
            raise ValueError("predictor 'lookup' measures operators, and device 'table' cannot; use work, trees or gp.")
        if self.calibration is not None and self.latency == "measured":
            raise ValueError("calibration predicts, and latency is 'measured'; set latency: predicted.")
        return self
