"""The sections that say where candidates are evaluated, how long, and what follows from a failure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nasbench_registry.config import Count, Positive, Strict, Whole


class SearchConfig(Strict):
    """When the search ends, and when a candidate does.

    Attributes:
        candidates: So many that are done or were stopped early end the search.
        max_hours: Hours of search, pauses between resumes left out.
        max_failures: More failures than this end it; `outcomes` says what counts.
        max_disk_gb: Size of the run folder, in units of 1e9 bytes; checkpoints are given up first.
        candidate_minutes: A candidate that takes longer is timed out.
        repeats: An architecture that is proposed again is answered from the record, or evaluated again as another
            candidate.
    """

    candidates: Count = 24
    max_hours: Positive | None = None
    max_failures: Whole = 8
    max_disk_gb: Positive | None = None
    candidate_minutes: Positive | None = None
    repeats: Literal["answered", "evaluated"] = "answered"


class BaselineConfig(Strict):
    """Searches at random, to know what the controller was worth.

    One more random search says little: of two alike, one is better. From 40 of them on there is a verdict, as parts of
    one longer search or as searches of their own.

    Attributes:
        name: The controller.
        candidates: How many candidates each search has; null is `search.candidates`. 40 times as many are 40 searches.
        seeds: How many searches, each with a seed and a folder of its own.
    """

    name: Literal["random"]
    candidates: Count | None = None
    seeds: Count = 1


class CheckpointConfig(Strict):
    """Files of weights.

    Attributes:
        every: Epochs between two checkpoints of a candidate in training; null keeps none until it is done.
        keep: Weights of so many done candidates are kept, the best ones; null keeps all. Survivors whose weights are
            gone are trained again.
    """

    every: Count | None = 1
    keep: Count | None = 50


class OutcomePolicy(Strict):
    """The retries and the weight of a kind of failure.

    Attributes:
        retries: How often a candidate is tried again before it counts as failed for the controller.
        counts: Whether it counts towards search.max_failures.
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
    """A kind of failure that another try would only repeat.

    Attributes:
        counts: Whether it counts towards search.max_failures.
    """

    counts: bool = True


class Infeasible(Counted):
    """A candidate over a hard limit, which is no failure of anything."""

    counts: bool = False


class Stopped(Strict):
    """The outcome that a controller gets of a candidate that the scheduler stopped.

    Attributes:
        tell: Its score so far, or that it failed.
    """

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

    Attributes:
        name: `inline` evaluates one candidate after another in this process; `ray` several at a time, under Ray.
        workers: Candidates that are evaluated at the same time.
        cpus: Processors of each candidate.
        gpus: GPUs of each candidate; several candidates share one with 0.5, for example.
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
    """The Ray cluster.

    Attributes:
        address: Host:port, ray://host:port or auto; null starts Ray on this machine.
    """

    address: str | None = None


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934).

    Attributes:
        grace_epochs: Epochs that every candidate is trained before it may be stopped.
        reduction_factor: One candidate in so many goes on at each rung, and each rung has so many times the epochs.
        brackets: Groups of candidates; each later one has its first rung later.
    """

    name: Literal["asha"]
    grace_epochs: Count = 1
    reduction_factor: Annotated[float, Field(gt=1)] = 3
    brackets: Count = 1


class Hyperband(Strict):
    """Hyperband, which pauses candidates and goes on with the best (Li et al. 2018, arXiv 1603.06560).

    Attributes:
        reduction_factor: One candidate in so many goes on at each rung, and each rung has so many times the epochs.
    """

    name: Literal["hyperband"]
    reduction_factor: Annotated[float, Field(gt=1)] = 3


class MedianStopping(Strict):
    """Stop what is worse than the median of the others so far (Golovin et al. 2017).

    Attributes:
        grace_epochs: Epochs that every candidate is trained before it may be stopped.
        min_candidates: Candidates that must have reached an epoch before others are stopped there.
    """

    name: Literal["median_stopping"]
    grace_epochs: Count = 1
    min_candidates: Count = 3


SchedulerConfig = Annotated[Asha | Hyperband | MedianStopping, Field(discriminator="name")]
