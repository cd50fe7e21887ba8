"""RandAugment, TrivialAugment, mixup, CutMix and erasing against Pillow and plain formulas."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional

import nasbench as nb
from nasbench.data.dataset import IGNORED
from nasbench.data.split import Scale, Split
from nasbench.training.augmentation import augmented
from nasbench.training.config import AugmentationConfig, TrainingConfig, read_training
from nasbench.training.loop import train
from nasbench.training.mixing import cutmix, mixup, share_of_first
from nasbench.training.policies import (
    OPERATIONS,
    Changed,
    Fill,
    Ranges,
    equalized,
    matrices_of,
    moved,
    moved_masks,
    rand_augment,
    recolored,
    trivial_augment,
)
from nasbench_registry import UserError

RNG = np.random.default_rng(0)
PIXELS = np.concatenate(
    [RNG.integers(0, 256, (3, 16, 12, 3)), RNG.normal(120, 12, (3, 16, 12, 3)), RNG.integers(9, 10, (1, 16, 12, 3))]
).astype(np.uint8)
"""Noise, a picture of little contrast, and one of a single tone."""
IMAGES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
RANGES = Ranges(shear=2, translate=3, rotate=90, factor=0.9, bits=4)
MASKS = torch.from_numpy(RNG.integers(0, 5, (7, 16, 12)))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def by_pillow(change):
    """Each image through a function of Pillow."""
    changed = np.stack([np.asarray(change(Image.fromarray(pixels))) for pixels in PIXELS])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 255


LEVEL = 0.6
PILLOW = {
    "brightness": (lambda image, sign: ImageEnhance.Brightness(image).enhance(1 + sign * 0.9 * LEVEL), 1.01),
    "color": (lambda image, sign: ImageEnhance.Color(image).enhance(1 + sign * 0.9 * LEVEL), 1.6),
    "contrast": (lambda image, sign: ImageEnhance.Contrast(image).enhance(1 + sign * 0.9 * LEVEL), 1.6),
    "sharpness": (lambda image, sign: ImageEnhance.Sharpness(image).enhance(1 + sign * 0.9 * LEVEL), 1.6),
    "posterize": (lambda image, sign: ImageOps.posterize(image, 8 - round(4 * LEVEL)), 0),
    "solarize": (lambda image, sign: ImageOps.solarize(image, 255 * (1 - LEVEL)), 0),
    "auto_contrast": (lambda image, sign: ImageOps.autocontrast(image), 1.01),
    "equalize": (lambda image, sign: ImageOps.equalize(image), 0),
}
"""What Pillow does, and by how many of 255 levels it rounds."""


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", PILLOW)
def test_tones_are_those_of_pillow(name, sign) -> None:
    change, rounding = PILLOW[name]
    level = torch.full((len(IMAGES),), LEVEL)
    images = recolored(name, IMAGES, level, sign * level, RANGES)
    assert images.shape == IMAGES.shape and images.min() >= 0 and images.max() <= 1
    assert 255 * (images - by_pillow(lambda image: change(image, sign))).abs().max() <= rounding + 1e-3


def test_grey_images_are_equalized_as_colour() -> None:
    assert torch.equal(equalized(IMAGES[:, :1]), equalized(IMAGES)[:, :1])


def signed(value):
    return torch.full((len(IMAGES),), float(value))


GROUND = torch.tensor([0.1, 0.5, 0.9])


def check_moves(matrices, rows, columns) -> None:
    """Pixel (y, x) comes from (rows, columns), integer arrays (h, w); outside is the ground."""
    inside = (rows >= 0) & (rows < 16) & (columns >= 0) & (columns < 12)
    at = np.clip(rows, 0, 15), np.clip(columns, 0, 11)
    there = torch.from_numpy(inside)
    images = torch.where(there, IMAGES[:, :, at[0], at[1]], GROUND[:, None, None])
    assert torch.allclose(moved(IMAGES, matrices, GROUND), images, atol=1e-4)
    masks = torch.where(there, MASKS[:, at[0], at[1]], IGNORED)
    assert torch.equal(moved_masks(MASKS, matrices, IGNORED), masks)


Y, X = np.mgrid[:16, :12]


@pytest.mark.parametrize("sign", [-1, 1])
def test_translations(sign) -> None:
    check_moves(matrices_of("translate_x", signed(sign), RANGES, IMAGES.shape[2:]), Y, X + 3 * sign)
    check_moves(matrices_of("translate_y", signed(sign), RANGES, IMAGES.shape[2:]), Y + 3 * sign, X)
    shares = Ranges(shear=0, translate=0.25, rotate=0, factor=0, bits=0)
    check_moves(matrices_of("translate_x", signed(sign), shares, IMAGES.shape[2:]), Y, X + 3 * sign)
    check_moves(matrices_of("translate_y", signed(sign), shares, IMAGES.shape[2:]), Y + 4 * sign, X)


@pytest.mark.parametrize("sign", [-1, 1])
def test_shears(sign) -> None:
    check_moves(matrices_of("shear_x", signed(sign), RANGES, IMAGES.shape[2:]), Y, X + sign * (2 * Y + 1 - 16))
    check_moves(matrices_of("shear_y", signed(sign), RANGES, IMAGES.shape[2:]), Y + sign * (2 * X + 1 - 12), X)


def test_a_quarter_of_a_turn() -> None:
    square, grounds = IMAGES[:, :, :12], torch.zeros(3)
    turned = moved(square, matrices_of("rotate", signed(1), RANGES, square.shape[2:]), grounds)
    assert torch.allclose(turned, square.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        turned, square.rot90(-1, (2, 3)), atol=1e-4
    )


FILL = Fill(GROUND, IGNORED)
POLICIES = {
    "rand_augment": lambda batch, seed: rand_augment(batch, 2, 20, FILL, seeded(seed)),
    "trivial_augment": lambda batch, seed: trivial_augment(batch, FILL, seeded(seed)),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_policies(policy) -> None:
    """By the seed alone, each image by itself, from 0 to 1, with masks of known classes."""
    many = Changed(IMAGES[:3].repeat(40, 1, 1, 1), MASKS[:3].repeat(40, 1, 1))
    before = many.images.clone()
    one, same, another_seed = policy(many, 0), policy(many, 0), policy(many, 1)
    assert torch.equal(many.images, before)
    assert torch.equal(one.images, same.images) and torch.equal(one.masks, same.masks)
    assert not torch.equal(one.images, another_seed.images)
    assert one.images.min() >= -1e-5 and one.images.max() <= 1 + 1e-5
    assert set(one.masks.unique().tolist()) <= {*range(5), IGNORED}
    groups = one.images.reshape(40, 3, 3, 16, 12)[:, 0].unique(dim=0)
    assert 2 * len(OPERATIONS) / 3 < len(groups)  # one image, forty times: most are changed otherwise


def test_magnitude_zero_moves_nothing() -> None:
    """What has a strength leaves images as they are without it, up to rounding in solarize at pure white."""
    for name in ("posterize", *PILLOW):
        if name in ("auto_contrast", "equalize", "solarize"):
            continue
        zero = torch.zeros(len(IMAGES))
        assert torch.allclose(recolored(name, IMAGES, zero, zero, RANGES), IMAGES, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_those_of_a_beta_distribution_by_the_larger_part(alpha) -> None:
    """The variance of Beta(a, a) about a half is 1 / (4 (2 a + 1)), whichever part is called the first."""
    generator = seeded()
    shares = torch.tensor([share_of_first(alpha, generator) for _ in range(2000)], dtype=torch.float64)
    assert shares.min() >= 0.5 and shares.max() <= 1
    squares, variance = (shares - 0.5) ** 2, 1 / (4 * (2 * alpha + 1))
    assert abs(squares.mean() - variance) < 6 * squares.std() / 2000**0.5


def test_mixup_and_its_loss() -> None:
    """The loss of both labels by their shares is the cross-entropy with the mixed label."""
    labels, logits = torch.arange(7) % 4, torch.from_numpy(RNG.normal(size=(7, 4)))
    batch = augmented(IMAGES, labels, AugmentationConfig(mixup=1.0), seeded())
    share = batch.share
    assert 0.5 <= share <= 1 and sorted(batch.others.tolist()) == sorted(labels.tolist())
    mixed = share * functional.one_hot(batch.targets, 4) + (1 - share) * functional.one_hot(batch.others, 4)
    (inputs, targets), *rest = batch.parts(1)
    loss = batch.loss(
        lambda inputs, outputs, classes: functional.cross_entropy(outputs, classes), inputs, logits, targets
    )
    assert not rest and torch.allclose(loss, functional.cross_entropy(logits, mixed))
    order = torch.randperm(7, generator=seeded(5))
    assert torch.allclose(mixup(IMAGES, order, 0.7), 0.7 * IMAGES + 0.3 * IMAGES[order])


def test_a_mixed_batch_in_parts() -> None:
    labels = torch.arange(7) % 4
    batch = augmented(IMAGES, labels, AugmentationConfig(mixup=1.0), seeded())
    parts = list(batch.parts(3))
    assert [len(targets) for _, targets in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([targets.other for _, targets in parts]), batch.others)
    assert torch.equal(torch.cat([inputs for inputs, _ in parts]), batch.inputs)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix(seed) -> None:
    order = torch.randperm(7, generator=seeded(9))
    mixed, pasted, share = cutmix(IMAGES, order, 0.6, seeded(seed))
    assert torch.equal(mixed, torch.where(pasted, IMAGES[order], IMAGES))
    assert share == pytest.approx(1 - pasted.float().mean().item()) and 0.6 - 0.05 <= share <= 1
    rows, columns = pasted.any(1), pasted.any(0)
    assert torch.equal(pasted, rows[:, None] & columns[None])  # a rectangle
    assert all((mask.int().diff().abs().sum() <= 2) for mask in (rows, columns))  # in one piece


def test_cutmix_cuts_masks_alike() -> None:
    levels = MASKS[:, None].float() / 10
    batch = augmented(levels, MASKS, AugmentationConfig(cutmix=1.0), seeded(3))
    assert batch.others is None
    assert torch.equal((10 * batch.inputs[:, 0]).round().long(), batch.targets)
    assert not torch.equal(batch.targets, MASKS)


def test_erasing() -> None:
    """The share of the images; rectangles of 2 % to a third of the area, up to rounding."""
    ones = torch.ones(600, 2, 40, 50)
    images = augmented(ones, torch.zeros(600, dtype=torch.int64), AugmentationConfig(erasing=0.5), seeded()).inputs
    blank = images == 0
    assert torch.equal(blank[:, 0], blank[:, 1])
    areas = blank[:, 0].float().mean((1, 2))
    assert abs(float((areas > 0).float().mean()) - 0.5) < 6 * (0.25 / 600) ** 0.5
    erased = areas[areas > 0]
    assert 0.01 < erased.min() < 0.05 and 0.25 < erased.max() < 0.36


def test_a_policy_sees_tones_from_0_to_1() -> None:
    """Images of a data set are normalised; solarizing and the like needs what they were."""
    scale = Scale((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    normalised = (IMAGES - torch.tensor(scale.mean)[:, None, None]) / torch.tensor(scale.std)[:, None, None]
    config = AugmentationConfig(rand_augment={"number": 1, "magnitude": 30})
    labels = torch.zeros(7, dtype=torch.int64)
    images = augmented(normalised, labels, config, seeded(2), scale).inputs
    back = images * torch.tensor(scale.std)[:, None, None] + torch.tensor(scale.mean)[:, None, None]
    expected = rand_augment(Changed(IMAGES, None), 1, 30, Fill(torch.tensor(scale.mean), IGNORED), seeded(2))
    assert torch.allclose(back, expected.images, atol=1e-5)


ALL = [
    {"erasing": 0.5},
    {"rand_augment": {}},
    {"trivial_augment": True},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    {"mixup": 0.2, "cutmix": 1.0, "crop": 1, "flip": True, "cutout": 2, "erasing": 0.2, "rand_augment": {"number": 1}},
]


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_networks_are_trained_with_it(augmentation) -> None:
    """To the same weights by the same seed, in whole batches and in parts."""
    data = Split(IMAGES.repeat(6, 1, 1, 1), torch.arange(42) % 3)
    config = read_training({"epochs": 2, "batch_size": 14, "augmentation": augmentation})
    assert config.augmentation.changes
    weights = []
    for accumulate in (1, 1, 2):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 12, 3))
        train(network, data, config, seed=3, accumulate=accumulate)
        weights.append(network[1].weight)
    assert torch.equal(weights[0], weights[1])
    assert torch.allclose(weights[0], weights[2], atol=1e-3) and bool(weights[0].isfinite().all())
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 12, 3))
    train(plain, data, TrainingConfig(epochs=2, batch_size=14), seed=3)
    assert not torch.allclose(plain[1].weight, weights[0], atol=1e-4)


ROWS, VALUES = RNG.normal(size=(40, 4)), RNG.normal(size=40)
PICTURES = RNG.integers(0, 256, (40, 1, 6, 6)).astype(np.uint8)


@pytest.mark.parametrize(
    ("make", "data", "augmentation", "message"),
    [
        (nb.regression, (ROWS, VALUES), {"flip": True}, "flip changes images, and these data are none"),
        (nb.regression, (ROWS, VALUES), {"mixup": 0.2}, "mixup changes images, and these data are none"),
        (nb.regression, (PICTURES, VALUES), {"mixup": 0.2}, "mixup mixes images of two classes, and here numbers are"),
        (nb.regression, (PICTURES, VALUES), {"cutmix": 1}, "cutmix mixes images of two classes, and here numbers are"),
        (nb.image_segmentation, (PICTURES, PICTURES[:, 0] % 3), {"mixup": 0.2}, "and here each pixel has one of its"),
        (
            nb.image_classification,
            (PICTURES, np.arange(40) % 2),
            {"trivial_augment": True, "rand_augment": {}},
            "two policies; leave one out",
        ),
        (
            nb.image_classification,
            (PICTURES.astype(float), np.arange(40) % 2),
            {"trivial_augment": True},
            "changes tones from 0 to 1, and these images have a mean of",
        ),
        (nb.image_classification, "digits", {"rand_augment": {"magnitude": 31}}, "less than or equal to 30"),
        (nb.image_classification, "digits", {"erasing": 2}, "less than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_training(make, data, augmentation, message) -> None:
    with pytest.raises(UserError, match=message):
        make(data, augmentation=augmentation)
