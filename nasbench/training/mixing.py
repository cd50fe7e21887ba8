"""Two images of a batch in one: mixup and CutMix."""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Tensor


def share_of_first(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha) that is at least a half, by which of two images the larger part is the first.

    The distribution is symmetric and so is the order of a pair, so that nothing changes but their names.
    """
    drawn = float(torch.rand((), generator=generator, dtype=torch.float64))
    share = float(betaincinv(alpha, alpha, drawn))
    return max(share, 1 - share)


def mixup(images: Tensor, order: Tensor, share: float) -> Tensor:
    """Zhang et al., mixup, ICLR 2018, arXiv 1710.09412: each image with another one shining through.

    Args:
        images: (n, c, h, w) images.
        order: (n,) numbers of the other images.
        share: Share of the first image, the same in the batch, as in the authors' code.
    """
    return share * images + (1 - share) * images[order]


def cutmix(images: Tensor, order: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Yun et al., CutMix, ICCV 2019, arXiv 1905.04899: a rectangle of each image is from another one.

    The rectangle has the shape of the image, its centre is any pixel, and it is the same in the batch, as in the
    authors' code; what lies outside is cut off.

    Returns:
        The images, where they are from the other one (h, w), and the share of the pixels that is from the first one.
    """
    inside = []
    for length in images.shape[2:]:
        side = round(length * (1 - share) ** 0.5)
        first = int(torch.randint(length, (), generator=generator)) - side // 2
        place = torch.arange(length, device=images.device)
        inside.append((place >= first) & (place < first + side))
    is_other = inside[0][:, None] & inside[1][None, :]
    return torch.where(is_other, images[order], images), is_other, 1 - float(is_other.float().mean())
