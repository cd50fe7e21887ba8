"""Shifts every seed by the environment variable NASBENCH_TEST_SEED_SHIFT, from the import of this module on.

Weights, orders of images, controllers, samples: all come from `torch.manual_seed`, `torch.Generator.manual_seed` or
`numpy.random.default_rng`, so these are what is changed, and no training escapes, in whichever process it runs.
The variable is read at each call, so that tests marked `fixed_seeds` can put it back to 0.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from numbers import Integral
from pathlib import Path

VARIABLE = "NASBENCH_TEST_SEED_SHIFT"
RECORD = "NASBENCH_TEST_SEED_RECORD"  # the file that takes down who is given a shifted seed
READER = "NASBENCH_TEST_SEED_READER"  # who runs now: a test, a fixture, or a module of tests that is imported
STRIDE = 1_000_003  # so that the seeds 0, 1, 2 of one test are others under each shift


def shifted(seed):
    """What takes the place of a seed: of an int or a sequence of them; anything else stays as it is."""
    shift = int(os.environ.get(VARIABLE, "0"))
    if shift == 0:
        return seed
    note_reader()
    if isinstance(seed, list | tuple):
        return [*seed, shift]
    return int(seed) + STRIDE * shift if isinstance(seed, Integral) else seed


def note_reader():
    """Add to the record, if there is one, that what runs now depends on a shifted seed."""
    name, path = os.environ.get(READER), os.environ.get(RECORD)
    if not name or not path or os.environ.get(VARIABLE, "0") == "0":
        return
    names = {name}
    if name.endswith(".py"):  # modules import each other, and are imported once
        frame = sys._getframe()
        while frame := frame.f_back:
            names.add(frame.f_code.co_filename)
    new = {(path, name) for name in names} - NOTED
    NOTED.update(new)
    if new:
        with open(path, "a") as file:
            file.write("".join(f"{name}\n" for _, name in new))


NOTED: set[tuple[str, str]] = set()  # so that a process writes each name once


def shift_torch(torch):
    class Generator(torch.Generator):
        def manual_seed(self, seed):
            return super().manual_seed(shifted(seed))

    manual_seed, get_rng_state = torch.manual_seed, torch.get_rng_state
    torch.Generator = Generator
    torch.manual_seed = lambda seed: manual_seed(shifted(seed))
    torch.get_rng_state = lambda: note_reader() or get_rng_state()  # what is drawn until it is put back leaves no trace


def shift_numpy(random):
    default_rng = random.default_rng
    random.default_rng = lambda seed=None: default_rng(shifted(seed))


SHIFTS = {"torch": shift_torch, "numpy.random": shift_numpy}


class ShiftingLoader(Loader):
    """The loader of a module whose seeds are shifted as soon as it is there."""

    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        SHIFTS[module.__name__](module)


class ShiftingFinder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name in SHIFTS else None
        if spec is not None:
            spec.loader = ShiftingLoader(spec.loader)
        return spec


if os.environ.get(VARIABLE, "0") != "0":
    sys.meta_path.insert(0, ShiftingFinder())
    for imported in SHIFTS.keys() & sys.modules.keys():
        SHIFTS[imported](sys.modules[imported])
    # Children find this folder in either of the two.
    folder = str(Path(__file__).parent)
    sys.path[:] = [folder, *(path for path in sys.path if path != folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
