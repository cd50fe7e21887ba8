"""What an experiment file may say. Unknown keys are refused; every value is checked before anything runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nasbench.objectives.metrics import METRICS
from nasbench_registry import one_of

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]


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
        name: the device: this machine's CPU or GPU, a table of latencies, or a command that measures.
        threads: threads of one inference.
        batch: images in one inference.
        runtime: the compilation backend that runs a candidate: what would be deployed, not only eager PyTorch.
        file: the CSV file of a table.
        command: of device command; ``{model}`` is the file that it measures.
        timeout_s: seconds after which that command has failed.
        latency: `predicted` fits a predictor on measured architectures before the search; `measured` measures each
            candidate, which is only sound with one worker.
        samples: architectures measured to fit the predictor.
        predictor: what is fitted; `auto` is the one that ranks held-out architectures best. `lookup` and `auto` also
            measure the operators of the space one by one.
        unsure_pct: a prediction is replaced by a measurement if its standard deviation is more than so many percent of
            it, or if a limit lies in its 95 % interval; the predictor learns from these. null never measures.
        calibration: a folder of ``nasbench calibrate``, whose measurements are used in place of new ones.
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
    """MnasNet's reward: the metric to maximise times (metric / target) ** exponent for each target.

    Attributes:
        target: of each metric; larger ones are worse, but for throughput.
        exponent: one number, -0.07 is the paper's soft constraint; or two, its alpha for candidates that meet the
            target and its beta for the others: [0, -1] is its hard constraint.
    """

    name: Literal["weighted_product"]
    target: Annotated[dict[str, Positive], Field(min_length=1)]
    exponent: float | tuple[float, float] = -0.07

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


class AugmentationConfig(Strict):
    """Random changes of the training images, done on the whole batch at once; 0 and false leave images as they are.

    Attributes:
        crop: images are padded by so many pixels on each side and cut back at a random place.
        flip: mirror half of the images left to right.
        cutout: side of a square in pixels that is blanked at a random place (DeVries & Taylor 2017, arXiv 1708.04552).
    """

    crop: Whole = 0
    flip: bool = False
    cutout: Whole = 0


class TrainingConfig(Strict):
    """How a candidate is trained: AdamW or SGD with momentum 0.9, cosine decay to zero over the epochs.

    Attributes:
        precision: what convolutions and products are computed in; `auto` is bf16 on a GPU and fp32 on a CPU.
        compile: whether torch.compile is worth its time (tens of seconds an architecture).
        chance_epochs: after so many epochs in a row no better than guessing, training has diverged; null never says so.
        validate_every: epochs between two validations; null validates at the end only, or every epoch if there is a
            scheduler.
    """

    epochs: Count = 12
    batch_size: Count = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 0.003
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augmentation: AugmentationConfig = AugmentationConfig()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    chance_epochs: Count | None = 5
    validate_every: Count | None = None


class SearchConfig(Strict):
    """When the search ends, and when a candidate does.

    Attributes:
        candidates: so many that are done or were stopped early end the search.
        max_hours: of search, pauses between resumes left out.
        max_failures: more failures than this end it; `outcomes` says what counts.
        max_disk_gb: of the run folder, in units of 1e9 bytes; checkpoints are given up first.
        candidate_minutes: a candidate that takes longer is timed out.
    """

    candidates: Count = 24
    max_hours: Positive | None = None
    max_failures: Whole = 8
    max_disk_gb: Positive | None = None
    candidate_minutes: Positive | None = None


class CheckpointConfig(Strict):
    """Files of weights.

    Attributes:
        every: epochs between two checkpoints of a candidate in training; null keeps none until it is done.
        keep: weights of so many done candidates are kept, the best ones; null keeps all. Survivors whose weights are
            gone are trained again.
    """

    every: Count | None = 1
    keep: Count | None = 50


class OutcomePolicy(Strict):
    """What follows from a kind of failure.

    Attributes:
        retries: how often a candidate is tried again before the controller is told that it failed.
        counts: whether it counts towards search.max_failures.
    """

    retries: Whole = 0
    counts: bool = True


class OutOfMemory(OutcomePolicy):
    """Each retry halves the images that are in memory at a time and adds up their gradients."""

    retries: Whole = 1


class Crashed(OutcomePolicy):
    """The worker process or its machine ended; a retry goes on from the last checkpoint."""

    retries: Whole = 2


class Counted(Strict):
    """A kind of failure that another try would only repeat."""

    counts: bool = True


class Infeasible(Counted):
    """Over a hard limit: that is no failure of anything."""

    counts: bool = False


class Stopped(Strict):
    """What a controller is told of a candidate that the scheduler stopped: its score so far, or that it failed."""

    tell: Literal["score", "failure"] = "score"


class OutcomesConfig(Strict):
    """A policy for each kind of outcome other than done."""

    stopped: Stopped = Stopped()
    diverged: OutcomePolicy = OutcomePolicy()
    out_of_memory: OutOfMemory = OutOfMemory()
    timed_out: OutcomePolicy = OutcomePolicy()
    crashed: Crashed = Crashed()
    failed: OutcomePolicy = OutcomePolicy()
    invalid: Counted = Counted()
    infeasible: Infeasible = Infeasible()


class ExecutorConfig(Strict):
    """Where candidates are trained: `workers` at a time, each with `cpus` and `gpus`, which may be fractions.

    A candidate is trained on a GPU if it gets a share of one.
    """

    name: Literal["inline", "ray"] = "inline"
    workers: Count = 1
    cpus: Positive = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    @property
    def threads(self) -> int:
        """Threads of one candidate, so that all workers together do not use more than their processors."""
        return max(1, int(self.cpus))

    @model_validator(mode="after")
    def _inline_is_alone(self) -> ExecutorConfig:
        if self.name == "inline" and self.workers != 1:
            raise ValueError(f"executor inline has 1 worker, not {self.workers}; use name: ray for several.")
        return self


class RayConfig(Strict):
    """The cluster: null starts Ray on this machine; otherwise host:port, ray://host:port or auto."""

    address: str | None = None


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934)."""

    name: Literal["asha"]
    grace_epochs: Count = 1
    reduction_factor: Annotated[float, Field(gt=1)] = 3
    brackets: Count = 1


class Hyperband(Strict):
    """Hyperband (Li et al. 2018, arXiv 1603.06560) that pauses candidates and goes on with the best."""

    name: Literal["hyperband"]
    reduction_factor: Annotated[float, Field(gt=1)] = 3


class MedianStopping(Strict):
    """Stop what is worse than the median of the others so far (Golovin et al. 2017)."""

    name: Literal["median_stopping"]
    grace_epochs: Count = 1
    min_candidates: Count = 3


SchedulerConfig = Annotated[Asha | Hyperband | MedianStopping, Field(discriminator="name")]


class GateConfig(Strict):
    """When a compression step is rolled back.

    Attributes:
        max_val_acc_drop_pct: if validation accuracy is more points than this below the searched model.
        must_save: if it promised to save time or bytes, and its artefact is neither faster than the one before, beyond
            noise, nor smaller by a hundredth. Only where the device times networks itself.
        max_latency_ratio: if its artefact takes more than so many times as long as the one before, beyond noise,
            however small it is; null allows any. Only where the device times networks itself.
    """

    max_val_acc_drop_pct: Annotated[float, Field(ge=0)] = 5.0
    must_save: bool = True
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = None


class JointConfig(Strict):
    """Stages that may end a candidate early where the recipe leaves something to choose.

    Attributes:
        proxy: a zero-cost proxy of the untrained network; null looks at none.
        proxy_keep: the share of candidates that it lets through.
        short_epochs: after so many epochs validation accuracy is compared; null trains everyone to the end.
        short_keep: the share of candidates that go on.
    """

    proxy: Literal["naswot", "synflow"] | None = None
    proxy_keep: Annotated[float, Field(gt=0, le=1)] = 0.7
    short_epochs: Count | None = None
    short_keep: Annotated[float, Field(gt=0, le=1)] = 0.7


class Experiment(Strict):
    """One experiment file.

    Attributes:
        scheduler: which candidates are stopped before their last epoch; null stops none.
        storage: URL of an Optuna storage that holds the record for a team; environment variables are filled in, so
            that a password stays out of the file. Null is a journal in the run folder.
        cache: a folder shared by runs, in which what was trained once is found again.
        baseline: a controller that searches with the same budget when the search is over, to know what the controller
            was worth; null searches once.
        tensorboard: whether scalars are written into the run folder.
    """

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
    scheduler: SchedulerConfig | None = None
    ray: RayConfig = RayConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    outcomes: OutcomesConfig = OutcomesConfig()
    storage: str | None = None
    cache: str | None = None
    baseline: Literal["random"] | None = None
    tensorboard: bool = True
    survivors: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] = 3
    recipe: tuple[dict[str, dict[str, Any] | list[Any] | None], ...] = ()
    joint: JointConfig = JointConfig()
    gate: GateConfig = GateConfig()

    @field_validator("data", "space", "controller", mode="before")
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
        """The metrics that the reward or an objective reads."""
        needed = {objective.metric for objective in self.objectives}
        if isinstance(self.reward, WeightedProduct):
            needed |= set(self.reward.target)
        return needed

    @property
    def survivor_count(self) -> int:
        """How many survivors are asked for; the experiment may name their numbers instead."""
        return self.survivors if isinstance(self.survivors, int) else len(self.survivors)

    @property
    def needs_latency(self) -> bool:
        """Whether candidates need a latency."""
        return bool(self.needed_metrics & {"latency_ms", "throughput_per_s"})

    @property
    def needs_energy(self) -> bool:
        """Whether candidates need the energy of an inference."""
        return "energy_mj" in self.needed_metrics
