"""The schema of an experiment file. Unknown keys are refused; every value is checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from nasbench.devices.config import DeviceConfig
from nasbench.evaluators.compressed.config import JointConfig
from nasbench.objectives.objective import Objective, listed
from nasbench.objectives.reward import Reward, Scalar, WeightedProduct, needed_metrics
from nasbench.search.config import (
    BaselineConfig,
    CheckpointConfig,
    ExecutorConfig,
    Hyperband,
    OutcomesConfig,
    RayConfig,
    SchedulerConfig,
    SearchConfig,
)
from nasbench.survivors.config import GateConfig
from nasbench.training.config import TrainingConfig
from nasbench_registry.config import Count, Named, Strict

SUPERNET = "supernet"
TRAINS = (None, "trained", "compressed", SUPERNET)
"""Evaluators whose candidates are networks that are trained on the section `data`."""


CLASSIFICATION = "image_classification"
QUALITIES: dict[Any, tuple[str, str]] = {
    CLASSIFICATION: ("val_acc_pct", "max"),
    "image_segmentation": ("val_miou_pct", "max"),
    "regression": ("val_rmse", "min"),
}
"""The first metric of each of our problems, and its goal: the objective, where an experiment names none."""


class StartWith(Strict):
    """Architectures that are evaluated first: the best of another run, or of a sample by zero-cost proxies.

    Attributes:
        run: Folder of the other run.
        proxies: Names of the proxies, which rank by the sum of the logarithms of their ranks.
        best: Number of the best candidates of the run, or of the best networks of the sample.
        sample: Number of architectures that are drawn; of those with the same network one is scored by the proxies.
        images: Number of training images that a proxy looks at.
    """

    run: str | None = None
    proxies: tuple[str, ...] = ()
    best: Count = 10
    sample: Count = 200
    images: Count = 64

    @model_validator(mode="after")
    def _one_source(self) -> StartWith:
        if (self.run is None) == (not self.proxies):
            raise ValueError("name the folder of a run, or proxies, and not both")
        if self.proxies and self.best > self.sample:
            raise ValueError(f"best is {self.best} and sample {self.sample}; give a best from 1 to sample")
        return self


StartsWith = Annotated[
    Annotated[tuple[str, ...], Tag("architectures")] | Annotated[StartWith, Tag("source")],
    Discriminator(lambda value: "source" if isinstance(value, Mapping | StartWith) else "architectures"),
]


class Experiment(Strict):
    """One experiment file.

    Attributes:
        name: Letters, digits, dots, hyphens and underscores; without it the name of the file.
        seed: Random seed of every random choice.
        space: Search space, by its name or as module:Class, with its options.
        controller: Search strategy, by its name or as module:Class, with its options.
        objectives: Metrics to optimise, each with its goal and perhaps a hard limit.
        reward: Reward, which makes of metrics the scores that the controller gets.
        survivors: Number of candidates that go through the recipe, the Pareto front first; a list names candidates.
        recipe: Compression steps in their order, each with its options; {choice: [...]} leaves an option to the search.
        scheduler: Scheduler that stops candidates before their last epoch; null stops none.
        storage: URL of an Optuna storage that holds the record for a team; environment variables are filled in, so
            that a password stays out of the file. Null is a journal in the run folder.
        cache: Folder shared by runs, in which what was trained once is found again.
        baseline: Searches at random when the search is over, to know what the controller was worth; null makes none.
        problem: Problem that networks are for; a class of the user's own is named module:Class.
        data: Data set; null, where the evaluator is not one of ours that train, or the problem has its own.
        tensorboard: Whether scalars are written into the run folder.
        evaluator: Evaluator that scores a candidate; null trains it, and where the recipe leaves something to choose
            compresses and compiles it, too.
        start_with: Architectures in the notation of the space that are evaluated first, or the best ones of another
            run, or of a sample by zero-cost proxies.
        stop_at: Values of metrics; a candidate that reaches all of them ends the search.
        callbacks: Classes derived from `nasbench.search.callbacks.Callback`, as module:Class with their options.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    problem: Named = Named(name="image_classification")
    data: Named | None = None
    space: Named
    controller: Named
    evaluator: Named | None = None
    device: DeviceConfig = DeviceConfig()
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = (Objective(metric="val_acc_pct", goal="max"),)
    reward: Reward = Scalar(name="scalar")
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
    executor: ExecutorConfig = ExecutorConfig()
    scheduler: SchedulerConfig | None = None
    ray: RayConfig = RayConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    outcomes: OutcomesConfig = OutcomesConfig()
    storage: str | None = None
    cache: str | None = None
    baseline: BaselineConfig | None = None
    tensorboard: bool = True
    start_with: StartsWith = ()
    stop_at: dict[str, float] = Field(default_factory=dict)
    callbacks: tuple[Named, ...] = ()
    survivors: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] = 3
    recipe: tuple[dict[str, dict[str, Any] | list[Any] | None], ...] = ()
    joint: JointConfig = JointConfig()
    gate: GateConfig = GateConfig()

    @model_validator(mode="before")
    @classmethod
    def _what_follows(cls, value: Any) -> Any:
        """Defaults that follow from other keys: of an evaluator that trains nothing, and of the problem."""
        if not isinstance(value, dict):
            return value
        problem = value.get("problem") or CLASSIFICATION
        problem_name = problem.get("name") if isinstance(problem, dict) else problem
        if problem_name != CLASSIFICATION and not value.get("objectives"):
            if problem_name not in QUALITIES:
                raise ValueError(f"problem {problem_name!r} needs objectives; write its metrics with their goals.")
            value = {**value, "objectives": dict([QUALITIES[problem_name]])}
        evaluator = value.get("evaluator")
        name = evaluator.get("name") if isinstance(evaluator, dict) else evaluator
        if name not in TRAINS:
            return {"survivors": 0, **value}
        if value.get("data") is None and problem_name == CLASSIFICATION:
            return {**value, "data": "digits"}
        return value

    @field_validator("objectives", mode="before")
    @classmethod
    def _short_objectives(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("callbacks", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        entries = [value] if isinstance(value, str | dict) else value
        return [{"name": entry} if isinstance(entry, str) else entry for entry in entries or ()]

    @field_validator(
        "problem", "data", "space", "controller", "evaluator", "reward", "device", "executor", "baseline", mode="before"
    )
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("scheduler", mode="before")
    @classmethod
    def _scheduler_by_name(cls, value: Any) -> Any:
        named = {"name": value} if isinstance(value, str) else value
        if isinstance(named, dict) and named.get("name") == "pbt":
            raise ValueError(
                "'pbt' copies the weights of one candidate into another, and here every candidate is another network; "
                "use asha, hyperband or median_stopping."
            )
        return named

    @field_validator("recipe", mode="before")
    @classmethod
    def _short_recipe(cls, value: Any) -> Any:
        if value is None:  # a recipe whose every step is commented out
            return ()
        return [{step: None} if isinstance(step, str) else step for step in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if not isinstance(self.survivors, int) and len(set(self.survivors)) != len(self.survivors):
            raise ValueError(f"survivors {list(self.survivors)} name a candidate twice; give each one once.")
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) != len(metrics):
            raise ValueError(f"objectives {', '.join(metrics)} name a metric twice; give each one once.")
        if isinstance(self.reward, WeightedProduct):
            goals = [objective.goal for objective in self.objectives]
            if goals.count("max") != 1:
                raise ValueError(
                    f"reward weighted_product needs exactly one objective with goal max, not {goals.count('max')}."
                )
        if isinstance(self.scheduler, Hyperband) and self.checkpoints.every != 1:
            raise ValueError(
                f"scheduler hyperband pauses candidates after any epoch, so it needs checkpoints.every: 1, not "
                f"{self.checkpoints.every}."
            )
        if self.executor.name == "inline":
            if self.scheduler is not None:
                raise ValueError(
                    f"scheduler {self.scheduler.name} needs executor ray; inline trains one after another."
                )
            if self.ray.address is not None:
                raise ValueError(f"ray.address is {self.ray.address!r}, and executor inline does not use Ray; use ray.")
        return self

    @property
    def needed_metrics(self) -> set[str]:
        """The metrics that the reward, an objective or `stop_at` reads."""
        return needed_metrics(self.objectives, self.reward) | set(self.stop_at)

    @property
    def survivor_count(self) -> int:
        """The number of survivors; the experiment may name their numbers instead."""
        return self.survivors if isinstance(self.survivors, int) else len(self.survivors)

    @property
    def needs_latency(self) -> bool:
        """Whether candidates need a latency."""
        return bool(self.needed_metrics & {"latency_ms", "throughput_per_s"})

    @property
    def needs_energy(self) -> bool:
        """Whether candidates need the energy of an inference."""
        return "energy_mj" in self.needed_metrics
