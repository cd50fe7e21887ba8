"""Augmentation: that images are shifted, mirrored and blanked as asked, and nothing else happens to them."""

import pytest
import torch

from nasbench.data.dataset import IGNORED
from nasbench.training import augment
from nasbench.training.augmentation import augmented
from nasbench.training.config import AugmentationConfig

N, C, H, W = 300, 3, 6, 9  # high enough for every place to come up
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def images(layout: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """No pixel is like another, and none is zero."""
    return torch.arange(1.0, N * C * H * W + 1).reshape(N, C, H, W).contiguous(memory_format=layout)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Moved by hand, pixel by pixel of a row, with zeros where nothing comes from."""
    moved = torch.zeros_like(image)
    for y in range(H):
        for x in range(W):
            if 0 <= y - down < H and 0 <= x - right < W:
                moved[:, y, x] = image[:, y - down, x - right]
    return moved


def test_nothing_asked_is_nothing_done() -> None:
    batch, random = images(), generator()
    before = random.get_state()
    assert augment(batch, AugmentationConfig(), random) is batch
    assert torch.equal(random.get_state(), before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crop_shifts_each_image_by_its_own_offset(layout) -> None:
    batch = images(layout)
    result = augment(batch, AugmentationConfig(crop=2), generator())
    offsets = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    candidates = {offset: torch.stack([shifted(image, *offset) for image in batch]) for offset in offsets}
    image_offsets = []
    for number in range(N):
        fitting = [offset for offset in offsets if torch.equal(result[number], candidates[offset][number])]
        assert len(fitting) == 1
        image_offsets += fitting
    # Each of 25 offsets is expected 12 times; one that is missing has a chance of 25 * 0.96^300 = 1e-4.
    assert set(image_offsets) == set(offsets)


def test_a_crop_wider_than_the_image_may_leave_nothing_of_it() -> None:
    result = augment(images(), AugmentationConfig(crop=20), generator())
    assert result.shape == (N, C, H, W)
    assert (result.flatten(1) == 0).all(1).any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flip_mirrors_about_half_of_the_images(layout) -> None:
    batch = images(layout)
    result = augment(batch, AugmentationConfig(flip=True), generator())
    same = (result == batch).flatten(1).all(1)
    mirrored = (result == batch.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(int(mirrored.sum()) - N / 2) < 6 * (N / 4) ** 0.5  # six sigmas


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cutout_blanks_a_square_that_the_border_may_clip(layout, side) -> None:
    batch = images(layout)
    result = augment(batch, AugmentationConfig(cutout=side), generator())
    blank = result == 0
    assert torch.equal(result[~blank], batch[~blank])
    assert (blank == blank[:, :1]).all()  # all channels alike
    heights, widths = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum((1, 2)), heights * widths)  # a rectangle without holes
    before, after = side // 2, side - side // 2  # pixels from the centre: so many before it, it and the rest after it
    assert set(heights.tolist()) == {min(y + after, H) - max(y - before, 0) for y in range(H)}
    assert set(widths.tolist()) == {min(x + after, W) - max(x - before, 0) for x in range(W)}
    whole = (heights == side) & (widths == side)
    assert whole.any()
    for rows, columns in zip(blank[:, 0].any(2), blank[:, 0].any(1), strict=True):
        for line in (rows, columns):
            places = line.nonzero().flatten()
            assert len(places) == places[-1] - places[0] + 1
            assert len(places) == side or line[0] or line[-1]  # smaller only at the border


def test_a_square_larger_than_the_image_blanks_it_all() -> None:
    assert not augment(images(), AugmentationConfig(cutout=40), generator()).any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "config",
    [
        AugmentationConfig(crop=2),
        AugmentationConfig(flip=True),
        AugmentationConfig(cutout=3),
        AugmentationConfig(crop=2, flip=True, cutout=3),
    ],
)
def test_layout_shape_and_input_stay(layout, channels, config) -> None:
    batch = images(layout)[:, :channels].contiguous(memory_format=layout)
    before = batch.clone()
    result = augment(batch, config, generator())
    assert result.shape == batch.shape
    assert result.dtype == batch.dtype
    assert result.is_contiguous(memory_format=layout)
    assert torch.equal(batch, before)
    assert not torch.equal(result, batch)


def test_the_layout_does_not_change_what_is_done() -> None:
    config = AugmentationConfig(crop=2, flip=True, cutout=3)
    first, second = (augment(images(layout), config, generator()) for layout in LAYOUTS)
    assert torch.equal(first, second)


def test_only_the_generator_decides() -> None:
    config = AugmentationConfig(crop=2, flip=True, cutout=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augment(images(), config, generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(augment(images(), config, generator(5)), first)
    assert not torch.equal(augment(images(), config, generator(6)), first)


def test_batches_of_one_generator_differ() -> None:
    random = generator()
    config = AugmentationConfig(crop=2)
    assert not torch.equal(augment(images(), config, random), augment(images(), config, random))


@pytest.mark.parametrize("options", [{"crop": 2}, {"flip": True}, {"crop": 2, "flip": True}, {"crop": 1, "cutout": 2}])
def test_masks_move_with_their_images(options):
    pictures = torch.rand(64, 2, 6, 8, generator=generator()) + 0.1
    masks = (pictures[:, 0] * 1000).long() % 200  # told by the image, pixel by pixel
    config = AugmentationConfig(**options)
    batch = augmented(pictures, masks, config, generator(1))
    assert batch.targets.shape == masks.shape and batch.targets.dtype == torch.int64
    outside = batch.targets == IGNORED
    inside = ~outside & (batch.inputs[:, 0] != 0)
    assert torch.equal(batch.targets[inside], (batch.inputs[:, 0][inside] * 1000).long() % 200)
    assert bool(outside.any()) == ("crop" in options) and not batch.inputs[:, 0][outside].any()
    assert not torch.equal(batch.targets, masks)
    alone = augment(pictures, config, generator(1))
    assert torch.equal(batch.inputs, alone), "images change as they do without masks"
