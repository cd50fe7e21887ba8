"""ImageNet (ILSVRC 2012), and data sets that are laid out like it (see docs/data.md)."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nasbench.data.dataset import Data, make_data
from nasbench.data.decoding import CROP, Decoding
from nasbench.data.encoded import Files, decoded_or_not
from nasbench.data.given import with_missing_parts
from nasbench.data.image_folder import folders_in, images_in, listed
from nasbench_registry import UserError
from nasbench_registry.files import user_path

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
SOLUTION = "LOC_val_solution.csv"
WORDS = ("LOC_synset_mapping.txt", "words.txt", "synset_words.txt")
"""Files with a synset and its words in each line."""


def imagenet_folder(
    *,
    path: str | os.PathLike[str],
    size: Sequence[int] = (224, 224),
    words: str | os.PathLike[str] | None = None,
    val_share: float = 0.02,
    split_seed: int = 0,
    resize: str = CROP,
) -> Data:
    """Images from ``path/train/SYNSET``, and from ``path/val``, which are those that test, as their authors mean it.

    The validation images of ImageNet are what papers report, so here they are read once, at the end, and a share of
    the training images validates. They lie in ``val/SYNSET``; or together in ``val``, with their classes in the
    development kit (``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat``, anywhere below `path`), or in
    ``LOC_val_solution.csv``. Images stay in their files and are decoded when a batch is taken, if there are more of
    them than two gigabytes; mean and deviation are then those of 10,000.

    Args:
        path: Folder of the data set.
        size: Height and width that every image is resized to.
        words: File with a synset and its words in each line, ``n01440764 tench, Tinca tinca``; None takes one of the
            usual name below `path`, or the development kit, and else the synsets name the classes.
        val_share: Share of the training images that validates.
        split_seed: Random seed of this division, which treats each class alike.
        resize: How the shape is changed, as in the data set image_folder.

    Raises:
        UserError: The folder is not laid out so, or an option is out of range.
    """
    if not 0 < val_share < 1:
        raise UserError(f"val_share={val_share} of data set 'imagenet_folder' must be above 0 and below 1.")
    decoding = Decoding.of("imagenet_folder", size, 3, 1.0, resize)
    root = user_path(path)
    synsets, parts = _listing(root)
    named = _words(root, None if words is None else user_path(words))
    labels = tuple(named.get(synset, synset) for synset in synsets)
    if len(set(labels)) < len(labels):  # two synsets are called crane
        labels = tuple(f"{named[synset]} ({synset})" if synset in named else synset for synset in synsets)
    encoded = {
        part: (Files([file for file, _ in files], root), [label for _, label in files]) for part, files in parts.items()
    }
    train, val, test = with_missing_parts(decoded_or_not(encoded, decoding), val_share, 0.0, split_seed)
    return make_data(f"imagenet_folder:{root.name}", train, val, test, labels, white=255)


def imagenet_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files that `imagenet_folder` reads, in any order; UserError if the folder is not as it should be."""
    return [file for files in _listing(user_path(path))[1].values() for file, _ in files]


def _listing(root: Path) -> tuple[list[str], dict[str, list[tuple[Path, int]]]]:
    """Synsets in order, and the images of the parts train and test with the numbers of their synsets."""
    train, val = (next((root / name for name in names if (root / name).is_dir()), None) for names in PARTS)
    if train is None or val is None:
        raise UserError(
            f"data set 'imagenet_folder': {root} has no folder {'train' if train is None else 'val'}; give a folder "
            f"with train/SYNSET and val, or take the data set image_folder."
        )
    synsets = [folder.name for folder in folders_in(train)]
    if len(synsets) < 2:
        raise UserError(f"{train} holds {len(synsets)} folder(s) of images; a classification task needs 2 or more.")
    if folders_in(val):
        strange = sorted({folder.name for folder in folders_in(val)} - set(synsets))
        if strange:
            raise UserError(f"{val} holds {', '.join(strange[:5])}, which {train} does not, so nothing learns it.")
        tested = listed(val, synsets, all_of_them=False)
    else:
        tested = _flat(root, val, synsets)
    return synsets, {"train": listed(train, synsets), "test": tested}


PARTS = (("train", "ILSVRC2012_img_train", "Data/CLS-LOC/train"), ("val", "ILSVRC2012_img_val", "Data/CLS-LOC/val"))


def _flat(root: Path, val: Path, synsets: Sequence[str]) -> list[tuple[Path, int]]:
    """The images of a folder, whose classes stand elsewhere."""
    files = images_in(val)
    solution, truth = _find_file(root, SOLUTION), _find_file(root, GROUND_TRUTH)
    if solution is not None:
        with solution.open(newline="", encoding="utf-8") as opened:
            solution_synsets = {
                row[0]: row[1].split()[0] for row in csv.reader(opened) if len(row) > 1 and row[1].strip()
            }
        image_synsets = [solution_synsets.get(file.stem) for file in files]
    elif truth is not None:
        kit, numbers = _kit(root), truth.read_text(encoding="utf-8").split()
        if len(numbers) != len(files) or not set(numbers) <= kit.keys():
            raise UserError(f"{truth} has {len(numbers):,} classes for {len(files):,} images in {val}; fetch it again.")
        image_synsets = [kit[number][0] for number in numbers]
    else:
        raise UserError(
            f"{val} holds {len(files):,} images without folders, and their classes are nowhere: put them into a folder "
            f"each class, or put {GROUND_TRUTH} and {META}, or {SOLUTION}, below {root}."
        )
    places = {synset: label for label, synset in enumerate(synsets)}
    lost = [file for file, synset in zip(files, image_synsets, strict=True) if synset not in places]
    if lost:
        raise UserError(
            f"{len(lost):,} of {len(files):,} images in {val} are of no class of train, the first {lost[0].name}; "
            f"leave them out, or give train all classes."
        )
    return [(file, places[str(synset)]) for file, synset in zip(files, image_synsets, strict=True)]


def _kit(root: Path) -> dict[str, tuple[str, str]]:
    """Synset and words by the number that the development kit gives them."""
    from scipy.io import loadmat

    file = _find_file(root, META)
    if file is None:
        raise UserError(f"{GROUND_TRUTH} numbers classes as {META} does, which is not below {root}; put it there.")
    try:
        rows = loadmat(file, squeeze_me=True)["synsets"]
        return {str(int(row["ILSVRC2012_ID"])): (str(row["WNID"]), str(row["words"])) for row in rows}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{file} is not the file of the development kit ({error}); fetch it again.") from None


def _words(root: Path, words_file: Path | None) -> Mapping[str, str]:
    """The first word of each synset; nothing where it is not known."""
    file = words_file
    if file is None:
        file = next((word_file for name in WORDS if (word_file := _find_file(root, name))), None)
    if file is None:
        kit = _kit(root).values() if _find_file(root, META) else ()
        return {synset: words.split(",")[0] for synset, words in kit}
    try:
        lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); give a file of lines such as n01440764 tench.") from None
    short = next((line for line in lines if len(line) < 2), None)
    if short is not None:
        raise UserError(f"{file} has the line {short[0]!r} without words; give lines such as n01440764 tench.")
    return {synset: words.split(",")[0].strip() for synset, words in lines}


def _find_file(root: Path, name: str) -> Path | None:
    """A file of this name in the folder, beside it, or in a folder of the development kit in it."""
    kits = [*root.glob("*devkit*/data"), *root.glob("*devkit*")]
    places = [root, *sorted(kits), root.parent, root.parent.parent]
    return next((place / name for place in places if (place / name).is_file()), None)
