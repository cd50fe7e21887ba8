"""A user's own images in a folder with one folder a class (see docs/data.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasbench.data.dataset import Data, check_division, make_data
from nasbench.data.decoding import CROP, Decoding
from nasbench.data.encoded import Encoded, Files, decoded_or_not
from nasbench.data.given import NAMES, with_missing_parts
from nasbench_registry import UserError
from nasbench_registry.files import user_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def image_folder(
    *,
    path: str | os.PathLike[str],
    size: Sequence[int] = (32, 32),
    channels: int = 3,
    val_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
    background: float = 1.0,
    resize: str = CROP,
) -> Data:
    """Images from ``path/CLASS/*.png`` and the like, resized.

    They are in memory, or from two gigabytes on decoded when a batch of them is taken.

    A folder may be divided already: ``path/train/CLASS/*.png``, with ``val``, ``test``, or both beside ``train``.
    A part that is not there is taken from the training images.

    Args:
        path: Folder of the images; its folders, in alphabetical order, are the classes.
        size: Height and width that every image is resized to.
        channels: Number of channels: 3 for colour, 1 for grey.
        val_share: Share of the images that validates, where no folder does.
        test_share: Share of the images that tests, where no folder does.
        split_seed: Random seed of the division, which treats each class alike.
        background: Grey level behind transparent pixels, from 0 (black) to 1 (white).
        resize: How an image of another shape is changed: its middle ("crop"), all of it on the background ("pad"), or
            all of it distorted ("stretch").

    Raises:
        UserError: The folder, an image or an option is not as described.
    """
    check_division("image_folder", val_share, test_share, split_seed)
    decoding = Decoding.of("image_folder", size, channels, background, resize)
    root = user_path(path)
    listing = _listing(root)
    parts = decoded_or_not(listing.encoded(root), decoding)
    train, val, test = with_missing_parts(parts, val_share, test_share, split_seed)
    return make_data(f"image_folder:{root.name}", train, val, test, listing.classes, white=255)


def image_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files that `image_folder` reads, in any order; UserError if the folder is not as it should be."""
    return [file for files in _listing(user_path(path)).parts.values() for file, _ in files]


@dataclass(frozen=True)
class _Listing:
    """The images of a folder.

    Attributes:
        classes: Names of the classes, in alphabetical order.
        parts: Files with the numbers of their classes by part: ``train``, and ``val`` and ``test`` where the folder is
            divided.
    """

    classes: tuple[str, ...]
    parts: dict[str, list[tuple[Path, int]]]

    def encoded(self, root: Path) -> dict[str, tuple[Encoded, list[int]]]:
        """The images of each part with their labels."""
        return {
            part: (Files([file for file, _ in files], root), [label for _, label in files])
            for part, files in self.parts.items()
        }


def _listing(root: Path) -> _Listing:
    try:
        return _looked_at(root)
    except OSError as error:
        raise UserError(
            f"{error.filename or root} cannot be read ({error.strerror}); give yourself the right to, or remove it."
        ) from None


def _looked_at(root: Path) -> _Listing:
    if not root.is_dir():
        raise UserError(f"data set 'image_folder': there is no folder {root}; give one with a folder for each class.")
    folders = folders_in(root)
    named_parts = [folder for folder in folders if folder.name.lower() in NAMES]
    divided = [folder for folder in named_parts if any(images_in(inner) for inner in folders_in(folder))]
    if not divided and (len(named_parts) < len(folders) or not folders):
        classes = tuple(folder.name for folder in folders)
        return _Listing(_two_or_more(root, classes), {"train": listed(root, classes)})
    undivided = [folder.name for folder in folders if folder not in divided]
    if undivided:
        classed = ", ".join(folder.name for folder in divided) or "no folder"
        raise UserError(
            f"{root} holds {classed} with folders of classes inside, and {', '.join(undivided)} without; give it one "
            f"folder a class, or folders train, val and test with one folder a class in each."
        )
    places: dict[str, Path] = {}
    for folder in divided:
        earlier_folder = places.setdefault(NAMES[folder.name.lower()], folder)
        if earlier_folder != folder:
            raise UserError(
                f"{root} holds {earlier_folder.name} and {folder.name}, which are the same part; merge them."
            )
    if "train" not in places:
        raise UserError(f"{root} holds {', '.join(places)} and no folder train; networks need images to be trained on.")
    classes = _two_or_more(places["train"], tuple(folder.name for folder in folders_in(places["train"])))
    parts = {"train": listed(places["train"], classes)}
    for part in ("val", "test"):
        if part in places:
            strange = sorted({folder.name for folder in folders_in(places[part])} - set(classes))
            if strange:
                raise UserError(
                    f"{places[part]} holds {', '.join(strange)}, which {places['train']} does not, so nothing learns "
                    f"it; give both the same classes."
                )
            parts[part] = listed(places[part], classes, all_of_them=False)
    return _Listing(classes, parts)


def _two_or_more(folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) < 2:
        raise UserError(
            f"{folder} holds {len(classes)} folder(s) of images; a classification task needs 2 classes or more."
        )
    return classes


def listed(root: Path, classes: Sequence[str], *, all_of_them: bool = True) -> list[tuple[Path, int]]:
    """The images of each class with its number; each class has to have some, unless not all of them need any."""
    labelled = []
    for label, name in enumerate(classes):
        images = images_in(root / name) if (root / name).is_dir() else []
        if not images and all_of_them:
            raise UserError(f"{root / name} holds no images ({', '.join(SUFFIXES)}); add some or remove the folder.")
        labelled += [(image, label) for image in images]
    return labelled


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and those that archives of macOS bring."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and _counts(entry.name))


def images_in(folder: Path) -> list[Path]:
    """The images below a folder, each folder once, however many links lead to it."""
    return sorted(_walk(folder, set()))


def _walk(folder: Path, visited: set[Path]) -> Iterator[Path]:
    place = folder.resolve()
    if place in visited:
        return
    visited.add(place)
    for entry in folder.iterdir():
        if not _counts(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry, visited)
        elif entry.suffix.lower() in SUFFIXES:
            if not entry.exists():
                raise UserError(f"{entry} is a link to a file that is not there; remove it, or put the file there.")
            yield entry


def _counts(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"
