"""The section `training`: how a network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nasbench_registry import UserError, unknown
from nasbench_registry.config import Count, Positive, Strict, Whole


class RandAugmentConfig(Strict):
    """How much RandAugment changes.

    Attributes:
        number: How many operations are done on each image.
        magnitude: Strength of all of them, from 0 to 30.
    """

    number: Count = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class AugmentationConfig(Strict):
    """Random changes of the training images, done on the whole batch at once; 0 and false leave images as they are.

    Attributes:
        crop: Images are padded by so many pixels on each side and cut back at a random place.
        flip: Mirror half of the images left to right.
        cutout: Side of a square in pixels that is blanked at a random place (DeVries & Taylor 2017, arXiv 1708.04552).
        erasing: Share of the images of which a rectangle by chance is blanked (Zhong et al. 2020, arXiv 1708.04896).
        rand_augment: Operations on each image, all of one magnitude (Cubuk et al. 2020, arXiv 1909.13719); null: none.
        trivial_augment: One operation on each image, of a magnitude by chance (Müller & Hutter 2021, arXiv 2103.10158).
        mixup: Alpha of the Beta distribution that says how much of another image shines through (Zhang et al. 2018,
            arXiv 1710.09412); for classes.
        cutmix: Alpha of the one that says how large a rectangle is from another image (Yun et al. 2019, arXiv
            1905.04899); for classes, and for masks, which are cut alike. With both, each batch has one of them.
    """

    crop: Whole = 0
    flip: bool = False
    cutout: Whole = 0
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    rand_augment: RandAugmentConfig | None = None
    trivial_augment: bool = False
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0

    @property
    def changes(self) -> bool:
        """Whether it changes any image."""
        return self != type(self)()


class TrainingConfig(Strict):
    """How a candidate is trained: AdamW or SGD with momentum 0.9, cosine decay to zero over the epochs.

    Attributes:
        epochs: Passes over the training examples.
        batch_size: Examples in one step of the optimizer.
        optimizer: AdamW, or SGD with Nesterov momentum 0.9.
        learning_rate: The peak of the learning rate.
        weight_decay: Decay of the weights; biases and normalisation have none.
        warmup_epochs: Epochs in which the learning rate rises to its peak, at most a fifth of all.
        label_smoothing: Share of a label that is spread over all classes.
        precision: What convolutions and products are computed in; `auto` is bf16 on a GPU and fp32 on a CPU.
        compile: Whether torch.compile is worth its time (tens of seconds an architecture).
        chance_epochs: After so many epochs in a row no better than guessing, training has diverged; null never says so.
        validate_every: Epochs between two validations; null validates at the end only, or every epoch if there is a
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


def read_training(options: Mapping[str, Any]) -> TrainingConfig:
    """The section of some options, which were written elsewhere than in an experiment.

    Raises:
        UserError: A name or a value is not allowed.
    """
    for name in options:
        if name not in TrainingConfig.model_fields:
            raise unknown("option", name, TrainingConfig.model_fields, where="of the training")
    try:
        return TrainingConfig.model_validate(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "training"
        why = fault["msg"].replace("Input should", "it should").replace("Extra inputs are not permitted", "no such key")
        raise UserError(f"{place} of the training is {fault['input']!r}: {why}.") from None
