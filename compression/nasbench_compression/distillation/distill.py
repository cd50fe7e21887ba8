"""The step: train a network on what a larger one knows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.checks import check_network, check_number
from nasbench_compression.copying import copy_network
from nasbench_compression.distillation.attention_transfer import attention_loss
from nasbench_compression.distillation.decoupled import decoupled_loss
from nasbench_compression.distillation.features import Features, last_map
from nasbench_compression.distillation.fitnets import WithRegressors, hint_loss
from nasbench_compression.distillation.logit_standardization import standardized_loss
from nasbench_compression.distillation.relational import relational_loss
from nasbench_compression.distillation.soft_targets import soft_target_loss
from nasbench_compression.distillation.teacher import Teacher
from nasbench_compression.outputs import logits_of
from nasbench_compression.reference import Reference, check_restores
from nasbench_compression.step import Context, Loss, Step, device_of, given, seeded
from nasbench_registry import UserError, one_of

METHODS: dict[str, dict[str, float]] = {
    "soft_targets": {"temperature": 4.0, "alpha": 0.9},
    "logit_standardization": {"temperature": 2.0, "alpha": 0.9},
    "decoupled": {"temperature": 4.0, "alpha": 1.0, "beta": 8.0},
    "fitnets": {"temperature": 4.0, "alpha": 0.0, "beta": 100.0},
    "attention_transfer": {"temperature": 4.0, "alpha": 0.0, "beta": 1000.0},
    "relational": {"temperature": 4.0, "alpha": 0.0, "distance_weight": 25.0, "angle_weight": 50.0},
}
"""The weights that each method takes, with their defaults."""

ON_CLASSES = ("logit_standardization", "decoupled")
ON_FEATURES = ("fitnets", "attention_transfer", "relational")
_WEIGHTS = ("temperature", "alpha", "beta", "distance_weight", "angle_weight")


@dataclass(frozen=True, kw_only=True)
class Distill(Step):
    """Train the network on the knowledge of a teacher.

    Attributes:
        method: "soft_targets" (Hinton et al.; where a network gives other numbers than scores of classes, the mean
            squared difference of those), "logit_standardization", "decoupled", "fitnets", "attention_transfer" or
            "relational"; each has a file of its own with its paper and its loss.
        temperature: Temperature T of both softmax functions, above 0; None is 4, and 2 for "logit_standardization".
        alpha: Weight of the soft targets against the labels, from 0 to 1. None is 0.9, and 0 for methods on features,
            whose loss is (1 - alpha) * cross-entropy + alpha * T^2 * KL + the method's own term. For "decoupled" it is
            the paper's weight of the target class, 0 or more; None is 1.
        beta: Weight of the other classes in "decoupled" (8), of the hints (100) or of attention (1000).
        distance_weight: Weight of "relational" (25).
        angle_weight: Weight of "relational" (50).
        student_layers: Names of the modules whose output is compared, for methods on features; None is the last feature
            map before the pooling.
        teacher_layers: Names of as many modules of the teacher.
        teacher: Folder of a stored model; None is `context.teacher`, for which a recipe takes the network that it
            started from.
        epochs: Epochs of training.
        learning_rate: Learning rate; None is the experiment's own.

    Where a network gives several tensors, its logits are what `nasbench_compression.outputs.logits_of` picks. The
    teacher is in evaluation mode. Where the context says that images recur, its logits are computed once for each
    image, unless the method needs its features. The note holds the options as they were used, the pairs of `layers`,
    and the quality of validation data, such as `val_acc_pct`, as [before, after], None where the context has no
    `evaluate`.
    """

    name: ClassVar[str] = "distill"
    stage: ClassVar[str] = "distilled"
    nothing: ClassVar[Mapping[str, Any]] = {"epochs": 0}
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "knowledge distillation: soft targets, decoupled, hints, attention, relations"
    source: ClassVar[str] = (
        "soft_targets: Hinton et al. 2015, arXiv:1503.02531; logit_standardization: Sun et al. 2024, arXiv:2403.01265; "
        "decoupled: Zhao et al. 2022, arXiv:2203.08679; fitnets: Romero et al. 2015, arXiv:1412.6550; "
        "attention_transfer: Zagoruyko & Komodakis 2017, arXiv:1612.03928; "
        "relational: Park et al. 2019, arXiv:1904.05068"
    )

    saves: ClassVar[bool] = False

    method: str = "soft_targets"
    temperature: float | None = None
    alpha: float | None = None
    beta: float | None = None
    distance_weight: float | None = None
    angle_weight: float | None = None
    student_layers: tuple[str, ...] | None = None
    teacher_layers: tuple[str, ...] | None = None
    teacher: str | None = None
    epochs: int
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        one_of("distill method", self.method, METHODS)
        check_number("distill temperature", self.temperature, above=0, optional=True)
        highest = None if self.method == "decoupled" else 1
        check_number("distill alpha", self.alpha, at_least=0, at_most=highest, optional=True)
        for option in ("beta", "distance_weight", "angle_weight"):
            check_number(f"distill {option}", getattr(self, option), at_least=0, optional=True)
        check_number("distill epochs", self.epochs, at_least=1, integer=True)
        check_number("distill learning_rate", self.learning_rate, above=0, optional=True)
        if self.teacher is not None and not isinstance(self.teacher, str):
            raise UserError(f"distill teacher is {self.teacher!r}; give the folder of a stored model.")
        for option in ("student_layers", "teacher_layers"):
            object.__setattr__(self, option, _names(option, getattr(self, option)))
        self._check_together()

    def _check_together(self) -> None:
        unused = [name for name in _WEIGHTS if getattr(self, name) is not None and name not in METHODS[self.method]]
        if self.method not in ON_FEATURES:
            unused += [name for name in ("student_layers", "teacher_layers") if getattr(self, name) is not None]
        if unused:
            raise UserError(
                f"distill {unused[0]} is {getattr(self, unused[0])!r}, which method {self.method!r} has no use for; "
                f"leave it out, or take another method."
            )
        ours, theirs = self.student_layers, self.teacher_layers
        if (ours is None) != (theirs is None) or len(ours or ()) != len(theirs or ()):
            raise UserError(
                f"distill student_layers is {_shown(ours)} and teacher_layers is {_shown(theirs)}; give as many of one "
                f"as of the other, or neither."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        return (*super().needs, *(("teacher",) if self.teacher is None else ()))

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: There is no teacher, or it does not fit; or a layer does not exist or puts out no features.
        """
        context.require(self.name, self.needs)
        device = device_of(model)
        check_network("distill", model, {"example_inputs": context.example_inputs})
        student = copy_network(model)
        on_features = self.method in ON_FEATURES
        teacher = Teacher(self._find_teacher(context).to(device), keep=context.images_recur and not on_features)
        inputs = context.example_inputs[:2].to(device)
        _check_logits(student, teacher.network, inputs)
        if not context.classes and self.method in ON_CLASSES:
            raise UserError(
                f"distill method {self.method!r} compares what networks say of classes, and this network gives other "
                f"numbers; take soft_targets, which compares those, or a method on features."
            )
        weights = self._weights()
        layers: list[list[str]] = []
        with seeded(context.seed, device=device), contextlib.ExitStack() as stack:
            before = None if context.evaluate is None else context.evaluate(student)
            if on_features:
                ours = self.student_layers or (last_map(student, inputs),)
                theirs = self.teacher_layers or (last_map(teacher.network, inputs),)
                layers = [list(pair) for pair in zip(ours, theirs, strict=True)]
                student_side = stack.enter_context(Features(student, ours, "student_layers").watching())
                teacher_side = stack.enter_context(Features(teacher.network, theirs, "teacher_layers").watching())
                trained, loss = self._feature_loss(
                    student, teacher, student_side, teacher_side, weights, inputs, context
                )
            else:
                trained, loss = student, self._logit_loss(teacher, weights, context)
            given(context.finetune)(trained, loss, epochs=self.epochs, learning_rate=self.learning_rate)
            after = None if context.evaluate is None else context.evaluate(student)
        note = {**self.options(), **weights, **({"layers": layers} if on_features else {})}
        note |= {context.quality: [before, after]}
        check_restores(self, model, student, note, inputs)
        return student, note

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`; distillation changes weights only."""
        return copy_network(model)

    def _weights(self) -> dict[str, float]:
        """Weights of the terms of the method, with defaults where none is set."""
        options = {name: getattr(self, name) for name in METHODS[self.method]}
        return {name: METHODS[self.method][name] if value is None else value for name, value in options.items()}

    def _find_teacher(self, context: Context) -> nn.Module:
        if self.teacher is not None:
            if context.load_teacher is None:
                raise UserError(
                    f"distill teacher is {self.teacher!r}, and nothing here can load it; set `load_teacher` of the "
                    f"Context, or give its `teacher` and leave the option out."
                )
            return context.load_teacher(self.teacher)
        return copy_network(given(context.teacher))

    def _comparable(self, output: Any, labels: Tensor, classes: bool) -> Tensor:
        """The logits in what a network gives; UserError if they are not one for each class of each label."""
        logits = logits_of(output)
        if not classes:
            return logits
        of_pixels = self.method == "decoupled" and logits.ndim > 2
        if logits.ndim < 2 or of_pixels or logits.shape[:1] + logits.shape[2:] != labels.shape:
            raise UserError(
                f"distill compares logits (n, classes) with labels (n,), and this network gives a tensor of shape "
                f"{tuple(logits.shape)} for labels of shape {tuple(labels.shape)}; leave the step out of the recipe."
            )
        return logits

    def _logit_loss(self, teacher: Teacher, weights: Mapping[str, float], context: Context) -> Loss:
        def loss(inputs: Tensor, outputs: Any, labels: Tensor) -> Tensor:
            logits, targets = self._comparable(outputs, labels, context.classes), teacher.logits(inputs)
            if self.method == "decoupled":
                return decoupled_loss(logits, targets, labels, **weights)
            if self.method == "logit_standardization":
                return standardized_loss(logits, targets, labels, **weights, hard=context.task_loss)
            return _towards(targets, logits, labels, weights, context)

        return loss

    def _feature_loss(
        self,
        student: nn.Module,
        teacher: Teacher,
        ours: Features,
        theirs: Features,
        weights: Mapping[str, float],
        inputs: Tensor,
        context: Context,
    ) -> tuple[nn.Module, Loss]:
        """Network to be trained, and the loss."""
        shapes = list(zip(ours.shapes(student, inputs), theirs.shapes(teacher.network, inputs), strict=True))
        trained = student
        if self.method == "fitnets":
            trained = WithRegressors(
                student, [(student_shape[1], teacher_shape[1]) for student_shape, teacher_shape in shapes]
            ).to(inputs.device)
            trained.train(student.training)
        if self.method == "attention_transfer" and any(shape[2:].numel() == 1 for pair in shapes for shape in pair):
            raise UserError(
                "distill method 'attention_transfer' compares where networks look, and one of the layers has a single "
                "position; name layers before the pooling."
            )

        def loss(inputs: Tensor, outputs: Any, labels: Tensor) -> Tensor:
            student_maps = ours.maps()
            logits, targets = self._comparable(outputs, labels, context.classes), teacher.logits(inputs)
            value = _towards(targets, logits, labels, weights, context)
            for index, pair in enumerate(zip(student_maps, theirs.maps(), strict=True)):
                value = value + self._term(trained, index, *pair, weights)
            return value

        return trained, loss

    def _term(
        self, trained: nn.Module, index: int, student_map: Tensor, teacher_map: Tensor, weights: Mapping[str, float]
    ) -> Tensor:
        if self.method == "relational":
            vectors = [features.mean(dim=(2, 3)) for features in (student_map, teacher_map)]
            distance, angle = weights["distance_weight"], weights["angle_weight"]
            return relational_loss(*vectors, distance_weight=distance, angle_weight=angle)
        if isinstance(trained, WithRegressors):
            return weights["beta"] * hint_loss(trained.regressors[index](student_map), teacher_map)
        return weights["beta"] * attention_loss(student_map, teacher_map)


def _towards(targets: Tensor, logits: Tensor, labels: Tensor, weights: Mapping[str, float], context: Context) -> Tensor:
    """Loss against teacher and labels: soft targets of classes, mean squared difference of other numbers."""
    temperature, alpha = weights["temperature"], weights["alpha"]
    if context.classes:
        return soft_target_loss(logits, targets, labels, temperature=temperature, alpha=alpha, hard=context.task_loss)
    soft = functional.mse_loss(logits.float(), targets.float())
    if context.loss is None:  # nothing else is known of the labels
        return soft
    return alpha * soft + (1 - alpha) * context.task_loss(logits, labels)


def _check_logits(student: nn.Module, teacher: nn.Module, inputs: Tensor) -> None:
    check_network("distill (its teacher)", teacher, {})
    ours = logits_of(Reference.of("distill", student, inputs).outputs).shape
    theirs = logits_of(Reference.of("distill (its teacher)", teacher, inputs).outputs).shape
    if ours != theirs:
        raise UserError(
            f"distill has a teacher that gives logits of shape {tuple(theirs)} where the network gives {tuple(ours)}; "
            f"take one that was trained on the same classes."
        )


def _names(option: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    listed = isinstance(value, list | tuple) and len(value) > 0
    if not listed or not all(isinstance(name, str) for name in value):
        raise UserError(f"distill {option} is {value!r}; give a list of module names, such as [features.4].")
    return tuple(value)


def _shown(names: tuple[str, ...] | None) -> str:
    return "not given" if names is None else str(list(names))
