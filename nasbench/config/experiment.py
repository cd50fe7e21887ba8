"""What an experiment file may say. Unknown keys are refused; every value is checked before anything runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nasbench.metrics import METRICS
from nasbench_registry import one_of

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A section with known keys and finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Named(BaseModel):
    """Something chosen by name; the other keys are its options, which it checks itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Every key but the name."""
        return dict(self.model_extra or {})


class DeviceConfig(Strict):
    """The hardware that latency is measured on, and how.

    Attributes:
        name: the device; `cpu` is this machine's.
        threads: threads of one inference.
        batch: images in one inference.
        runtime: the compilation backend that runs a candidate: what would be deployed, not only eager PyTorch.
        latency: `predicted` fits a predictor on measured architectures before the search; `measured` measures each
            candidate, which is only sound with one worker.
        samples: architectures measured to fit the predictor.
    """

    name: Literal["cpu"] = "cpu"
    threads: Count = 1
    batch: Count = 1
    runtime: str = "eager"
    latency: Literal["predicted", "measured"] = "predicted"
    samples: Annotated[int, Field(ge=10)] = 40


class ObjectiveConfig(Strict):
    """One metric to optimise. A `limit` is a hard constraint: at most for `min`, at least for `max`."""

    metric: str
    goal: Literal["max", "min"]
    limit: float | None = None

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        return one_of("metric", metric, METRICS)


class WeightedProduct(Strict):
    """MnasNet's reward: the metric to maximise times (metric / target) ** exponent for each target."""

    name: Literal["weighted_product"]
    target: Annotated[dict[str, Positive], Field(min_length=1)]
    exponent: float = -0.07

    @field_validator("target")
    @classmethod
    def _known(cls, target: dict[str, float]) -> dict[str, float]:
        for metric in target:
            one_of("metric", metric, METRICS)
        return target


class Pareto(Strict):
    """Every objective is a score of its own; the controller has to take several."""

    name: Literal["pareto"]


class Scalar(Strict):
    """The first objective alone; the others only shape the front and the limits."""

    name: Literal["scalar"]


RewardConfig = Annotated[WeightedProduct | Pareto | Scalar, Field(discriminator="name")]


class TrainingConfig(Strict):
    """How a candidate is trained: AdamW or SGD with momentum 0.9, cosine decay to zero over the epochs."""

    epochs: Count = 12
    batch_size: Count = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 0.003
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class SearchConfig(Strict):
    """When the search ends: after `candidates` finished ones, `max_hours`, or more than `max_failures` failures."""

    candidates: Count = 24
    max_hours: Positive | None = None
    max_failures: Annotated[int, Field(ge=0)] = 8


class ExecutorConfig(Strict):
    """Where candidates are trained. `workers` run at a time, each with `cpus`; `gpus` must be 0 for now."""

    name: Literal["inline", "ray"] = "inline"
    workers: Count = 1
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _inline_is_alone(self) -> ExecutorConfig:
        if self.name == "inline" and self.workers != 1:
            raise ValueError(f"executor inline has 1 worker, not {self.workers}; use name: ray for several.")
        return self


class GateConfig(Strict):
    """When a compression step is rolled back: validation accuracy this many points below the searched model."""

    max_val_acc_drop_pct: Annotated[float, Field(ge=0)] = 5.0


class Experiment(Strict):
    """One experiment file."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Named = Named(name="digits")
    space: Named
    controller: Named
    device: DeviceConfig = DeviceConfig()
    objectives: Annotated[tuple[ObjectiveConfig, ...], Field(min_length=1)] = (
        ObjectiveConfig(metric="val_acc_pct", goal="max"),
    )
    reward: RewardConfig = Scalar(name="scalar")
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
    executor: ExecutorConfig = ExecutorConfig()
    survivors: Annotated[int, Field(ge=0)] = 3
    recipe: tuple[dict[str, dict[str, Any] | None], ...] = ()
    gate: GateConfig = GateConfig()

    @field_validator("data", "space", "controller", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("recipe", mode="before")
    @classmethod
    def _short_recipe(cls, value: Any) -> Any:
        if value is None:  # a recipe whose every step is commented out
            return ()
        return [{step: None} if isinstance(step, str) else step for step in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) != len(metrics):
            raise ValueError(f"objectives {', '.join(metrics)} name a metric twice; give each one once.")
        if isinstance(self.reward, WeightedProduct):
            goals = [objective.goal for objective in self.objectives]
            if goals.count("max") != 1:
                raise ValueError(
                    f"reward weighted_product needs exactly one objective with goal max, not {goals.count('max')}."
                )
        return self

    @property
    def needed_metrics(self) -> set[str]:
        """The metrics that the reward or an objective reads."""
        needed = {objective.metric for objective in self.objectives}
        if isinstance(self.reward, WeightedProduct):
            needed |= set(self.reward.target)
        return needed

    @property
    def needs_latency(self) -> bool:
        """Whether candidates need a latency."""
        return bool(self.needed_metrics & {"latency_ms", "throughput_per_s"})
