"""The data sets by name."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from nasbench.data.arrays import arrays
from nasbench.data.digits import digits
from nasbench.data.fashion_mnist import fashion_folder, fashion_mnist
from nasbench.data.image_folder import image_folder
from nasbench.data.images import ImageData
from nasbench_registry import UserError, check_options, unknown

DATASETS: dict[str, Callable[..., ImageData]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "arrays": arrays,
    "image_folder": image_folder,
}


PLACES = {"fashion_mnist": fashion_folder}
"""What finds the files of a data set; the others are found by being read."""


def check_data(name: str, **options: Any) -> None:
    """Raise UserError unless a data set of this name takes these options; loads nothing."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    check_options(DATASETS[name], options, what=f"data set {name!r}")


def why_missing(name: str, **options: Any) -> str | None:
    """Why the images of a data set are not at hand, None if they are; reads no more of them than it has to.

    Raises:
        UserError: the name or an option is unknown.
    """
    check_data(name, **options)
    try:
        if name in PLACES:
            PLACES[name]()
        else:
            load_data(name, **options)
    except UserError as error:
        return str(error)
    return None


def load_data(name: str, **options: Any) -> ImageData:
    """The data set called `name`; kept in memory, so a process reads it once.

    Raises:
        UserError: the name or an option is unknown, or the data are not there.
    """
    check_data(name, **options)
    return _cached(name, json.dumps(options, sort_keys=True))


@functools.lru_cache(maxsize=2)
def _cached(name: str, options: str) -> ImageData:
    try:
        return DATASETS[name](**json.loads(options))
    except TypeError as error:  # an option that has no default is missing
        raise UserError(f"data set {name!r}: {error}.") from None
