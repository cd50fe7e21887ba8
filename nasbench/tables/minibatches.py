"""A mini-batch of the images that NAS-Bench-201 was trained on, for proxies that look at data.

Files `minibatches/NAME.safetensors` of the data folder with `images_0` and `labels_0`: 64 images of CIFAR-10, CIFAR-100
(float32, normalized) and ImageNet16-120 (uint8, normalized here).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasbench.data.folders import data_folders
from nasbench_registry import UserError, one_of

FILES = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16_120": "imagenet"}
SHAPES: dict[str, tuple[tuple[int, int, int], int]] = {
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "imagenet16_120": ((3, 16, 16), 120),
}
"""Shape of an image, and number of classes."""
IMAGENET16_MEAN, IMAGENET16_STD = (122.68, 116.66, 104.01), (63.22, 61.26, 65.09)  # of the benchmark's training


def load_minibatch(dataset: str) -> tuple[Tensor, Tensor]:
    """Images (64, 3, h, w) and labels (64,).

    Labels that are no class of the data set are numbered anew: the file of ImageNet16-120 has those of all 1,000
    classes of ImageNet.

    Raises:
        UserError: There is no such data set, its file is in no data folder, or it does not hold such images and labels.
    """
    name = FILES[one_of("data set", dataset, FILES)]
    places = [folder / "minibatches" / f"{name}.safetensors" for folder in data_folders()]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"there is no mini-batch of {dataset} as {' or '.join(map(str, places))}; write one there, 64 normalized "
            f"images as images_0 and their labels as labels_0."
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); write it again.") from None
    shape = SHAPES[dataset][0]
    images, labels = tensors.get("images_0"), tensors.get("labels_0")
    if images is None or labels is None or images.shape[1:] != shape or labels.shape != images.shape[:1]:
        contents = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()) or "nothing"
        raise UserError(f"{path} holds {contents}; write images_0 of (n, {', '.join(map(str, shape))}) and labels_0.")
    labels = labels.long()
    if images.dtype == torch.uint8:
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET16_MEAN, IMAGENET16_STD))
        images = (images.float() - mean) / std
    if int(labels.max()) >= SHAPES[dataset][1]:
        labels = torch.unique(labels, return_inverse=True)[1]
    return images, labels
