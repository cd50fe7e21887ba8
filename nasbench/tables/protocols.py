"""How the numbers of a paper's table come about: what is run, and what is read off."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasbench.data.registry import why_missing
from nasbench_compression.registry import why_no_backend
from nasbench_registry.files import user_path


class Strict(BaseModel):
    """A part of the file of a table; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeBudget(Strict):
    """A search spends simulated seconds; its best cell by 12-epoch validation accuracy is read off.

    Attributes:
        read: "interpolated": linearly in time, between the best cells before and behind the end of the budget, as
            NATS-Bench does; "last": the best cell among the evaluations that end within the budget.
        text: The protocol in words.
    """

    kind: Literal["time_budget"]
    read: Literal["interpolated", "last"]
    text: str


class Queries(Strict):
    """A search queries test accuracies after 200 epochs until it meets the best one of the table.

    Repeated queries are free, so what is counted are different cells.

    Attributes:
        max_queries: Largest number of queries; a search that needs more is counted as having needed so many, and
            reported as stopped.
        text: The protocol in words.
    """

    kind: Literal["queries"]
    max_queries: Annotated[int, Field(ge=1)]
    text: str


class BestOfQueries(Strict):
    """A search queries validation accuracies after 12 epochs; the best cell by them after so many queries is read off.

    Repeated queries are free, so what is counted are different cells; those of a warm start are among them. A column
    says how many (`queries`), and shows the test accuracy after 200 epochs of the best cell.
    """

    kind: Literal["best_of_queries"]
    text: str


class LatencyRanking(Strict):
    """Methods predict the latency of cells on new devices; how well they rank them is read off.

    A column shows the rank correlation over the query cells ("spearman") or over all cells ("spearman_all"); how many
    cells of a device were measured ("measurements"); or seconds for adapting to a device ("adapt_s") and for predicting
    all cells ("predict_s"). Of several devices it shows the mean.

    Attributes:
        known_devices: Devices whose latencies a method may know.
        pool: Number of cells that may be measured, on known and on new devices: cells 0 to `pool` - 1.
        query: First cell and end of the query cells.
        dropped: Share of the fastest query cells of a device, and of the slowest, that are left out.
        text: The protocol in words.
    """

    kind: Literal["latency_ranking"]
    known_devices: Annotated[tuple[str, ...], Field(min_length=1)]
    pool: Annotated[int, Field(ge=10)]
    query: tuple[int, int]
    dropped: Annotated[float, Field(ge=0, lt=0.5)]
    text: str


class LatencyLimit(Strict):
    """Methods search an accurate cell under a latency limit on a new device; its measured numbers are read off.

    A column shows the test accuracy after 200 epochs ("test_acc_pct") or the latency ("latency_ms") of the cell found
    for its device and limit; how many limits of the table are met ("limits_met"); or, as means over all devices and
    limits, how many cells were measured ("measurements") and had their accuracy queried ("accuracy_queries").

    Attributes:
        known_devices: Devices whose latencies a method may know.
        pool: Number of cells that may be measured before the search: cells 0 to `pool` - 1.
        dataset: Data set whose accuracies are searched and read.
        text: The protocol in words.
    """

    kind: Literal["latency_limit"]
    known_devices: Annotated[tuple[str, ...], Field(min_length=1)]
    pool: Annotated[int, Field(ge=10)]
    dataset: str
    text: str


class NetworkSource(Strict):
    """A network of a function.

    Attributes:
        build: Function ``module:function``.
        options: Options of the function.
        start: Options beside these of the network that is trained, such as pretrained weights.
    """

    build: str
    options: dict[str, Any] = {}
    start: dict[str, Any] = {}


class TrainedNetworks(Strict):
    """Networks that are trained, and what becomes of them in a runtime.

    Attributes:
        data: Name and options of the data set.
        space: Name and options of the space that the networks are of; None if all of them are built by functions.
        networks: Architectures in the notation of the space, or networks of functions, by the names that rows use; the
            first is the dense one and the teacher.
        training: Training section, as in an experiment file; of the networks, and of fine-tuning where a step says
            nothing else.
        runtime: Backend that runs the artefacts, with one thread and one image at a time.
        text: The protocol in words.
    """

    data: dict[str, Any]
    space: dict[str, Any] | None = None
    networks: Annotated[dict[str, str | NetworkSource], Field(min_length=1)]
    training: dict[str, Any]
    runtime: str = "onnxruntime"
    text: str

    @model_validator(mode="after")
    def _notation_has_a_space(self) -> Self:
        written = [name for name, network in self.networks.items() if isinstance(network, str)]
        if written and self.space is None:
            raise ValueError(f"network {written[0]} is an architecture, and there is no space; name it.")
        return self

    def why_unavailable(self) -> str | None:
        """Why nothing can be measured here, a runtime or the images that are missing; None if nothing is."""
        return why_no_backend(self.runtime) or why_missing(**self.data)


class Compression(TrainedNetworks):
    """A trained network goes through recipes; what would be deployed is measured.

    A column shows test or validation accuracy of the artefact ("test_acc_pct", "val_acc_pct"), multiply-adds and
    parameters of the network ("macs", "params"), bytes of its weights in the form that the last step promises, and
    those of the artefact ("stored_bytes", "artefact_bytes"), its median latency ("latency_ms"), that as a multiple of
    the first network's, trained and compiled for the same runtime and timed in turn ("of_dense_latency"), or seconds
    that the steps took ("seconds").
    """

    kind: Literal["compression"]


class ElasticFront(TrainedNetworks):
    """From one trained network come several smaller ones: by one elastic training, or by pruning it several times.

    A column shows the hypervolume of test accuracy and saved latency of the deployed networks ("hypervolume_fp32",
    "hypervolume_int8"), their number ("networks"), the best test accuracy of them ("best_test_acc_pct"), the compute of
    the training after the first one in petaflop/s-days ("pfs_days"), or its seconds ("seconds").

    Attributes:
        tuning_images: Number of training images of that training; None is all.
        floor_acc_pct: Test accuracy that is worth nothing, in percent.
    """

    kind: Literal["elastic_front"]
    tuning_images: Annotated[int, Field(ge=1)] | None = None
    floor_acc_pct: Annotated[float, Field(ge=0, lt=100)]


class ZeroCostRanking(Strict):
    """Zero-cost proxies rank cells, and what is read off is how their ranks agree with those of the trained accuracy.

    A column shows Spearman's or Kendall's correlation with the test accuracy after 200 epochs on its data set
    ("spearman", "kendall"); Spearman's correlation of a proxy with the scores that were published of the same cells
    ("published"), those of the sample that were; or the mean seconds that the proxies of a row take for a network, each
    with all the passes that it needs ("seconds").

    Attributes:
        datasets: Data sets of the benchmark.
        cells: Number of cells of a sample, drawn without replacement.
        sample_seed: Random seed of the sample.
        weights_seed: Random seed of the weights of each network.
        images: Number of images of the real mini-batch.
        text: The protocol in words.
    """

    kind: Literal["zero_cost_ranking"]
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    cells: Annotated[int, Field(ge=3)]
    sample_seed: int = 0
    weights_seed: int = 0
    images: Annotated[int, Field(ge=2)] = 64
    text: str


class Hypervolume(Strict):
    """Searches of several scores; what is read off is the hypervolume that the cells found so far cover.

    A column shows the share of the hypervolume of the true front after so many different cells ("hypervolume"), by
    accuracy and latency, or with energy, too ("hypervolume_energy"); of several devices the mean.

    Attributes:
        dataset: Data set whose accuracies after 200 epochs and costs count.
        text: The protocol in words.
    """

    kind: Literal["hypervolume"]
    dataset: str
    text: str


class OneShot(Strict):
    """A search trains shared weights on real images; the cell that it derives at its end is looked up in a benchmark.

    A column shows the test accuracy of that cell after 200 epochs on the data set that it reads ("test_acc_pct"), on
    how many edges it has a skip connection ("skip_edges"), its accuracy on validation examples with the shared weights
    ("shared_acc_pct"), or seconds of the search ("seconds").

    Attributes:
        data: Name and options of the data set.
        judged: Number of its validation examples that are evaluated after each epoch.
        space: Name and options of the space.
        training: Training section, as in an experiment file; of its keys, augmentation counts.
        search: Options of every differentiable search, such as epochs; a row may say others. A row whose method is
            single_path has its own, see `nasbench.reproduce.single_path`.
        text: The protocol in words.
    """

    kind: Literal["one_shot"]
    data: dict[str, Any]
    judged: Annotated[int, Field(ge=1)] = 500
    space: dict[str, Any]
    training: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Any] = Field(default_factory=dict)
    text: str

    def why_unavailable(self) -> str | None:
        """Why nothing can be measured here, images that are missing; None if nothing is."""
        return why_missing(**self.data)


class SharedRanking(Strict):
    """Shared weights rank a sample of networks, which are trained alone, too; how the ranks agree is read off.

    A column shows Spearman's correlation ("spearman") and the ends of its 95 % interval, by bootstrap over networks
    ("spearman_low", "spearman_high"), Kendall's correlation ("kendall"), the mean accuracy of the networks with shared
    weights and alone ("shared_acc_pct", "alone_acc_pct"), or the seconds of the training of the shared weights
    ("seconds").

    Attributes:
        data: Name and options of the data set.
        judged: Number of its validation examples that networks are evaluated on.
        training: Training section, as in an experiment file; of the first network, and of everything else where a row
            says nothing else.
        text: The protocol in words.
    """

    kind: Literal["shared_ranking"]
    data: dict[str, Any]
    judged: Annotated[int, Field(ge=1)] = 2000
    training: dict[str, Any] = Field(default_factory=dict)
    text: str

    def why_unavailable(self) -> str | None:
        """Why nothing can be measured here, images that are missing; None if nothing is."""
        return why_missing(**self.data)


class Regime(Strict):
    """The limits of a joint search.

    Attributes:
        recipes: Words, of which the notation of a recipe holds one if its artefacts count; all count without any.
        limits: Quantile of the table's rows that is the limit, by objective.
    """

    recipes: tuple[str, ...] = ()
    limits: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.recipes, tuple(self.limits.items())))


class JointReplay(Strict):
    """Searches over networks and recipes look their results up in a table that was built here, on a simulated clock.

    A column shows the mean share of the true front's hypervolume over the seconds of the budget ("area"), the share
    when a part of the budget is used ("share", by `part`), or the part of the budget until 95 % are covered, 1 if they
    never are ("time_to_95"); each in one regime (`search`).

    Attributes:
        file: File of the table.
        objectives: Objectives of all searches.
        regimes: Regimes by name.
        seconds: Seconds that the simulated clock goes by: wall or cpu.
        budget_share: Share of what building the table took, that a search may spend.
        text: The protocol in words.
    """

    kind: Literal["joint_replay"]
    file: str
    objectives: Annotated[tuple[str, ...], Field(min_length=2)]
    regimes: Annotated[dict[str, Regime], Field(min_length=1)]
    seconds: Literal["wall", "cpu"] = "wall"
    budget_share: Annotated[float, Field(gt=0, le=1)]
    text: str

    def why_unavailable(self) -> str | None:
        """The reason that there is no such table; None if there is one."""
        if user_path(self.file).exists():
            return None
        return f"there is no table {self.file}; build it with nasbench build-table, or begin in the folder where it is."


SHOWN = {
    "joint_replay": ("area", "share", "time_to_95"),
    "hypervolume": ("hypervolume", "hypervolume_energy"),
    "elastic_front": ("hypervolume_fp32", "hypervolume_int8", "networks", "best_test_acc_pct", "pfs_days", "seconds"),
    "zero_cost_ranking": ("spearman", "kendall", "published", "seconds"),
    "one_shot": ("test_acc_pct", "skip_edges", "shared_acc_pct", "seconds"),
    "shared_ranking": (
        "spearman",
        "spearman_low",
        "spearman_high",
        "kendall",
        "shared_acc_pct",
        "alone_acc_pct",
        "seconds",
    ),
    "compression": (
        "test_acc_pct",
        "val_acc_pct",
        "macs",
        "params",
        "stored_bytes",
        "artefact_bytes",
        "latency_ms",
        "of_dense_latency",
        "seconds",
    ),
    "latency_ranking": ("spearman", "spearman_all", "measurements", "adapt_s", "predict_s"),
    "latency_limit": ("test_acc_pct", "latency_ms", "limits_met", "measurements", "accuracy_queries"),
}
