"""Which tests a shift of the seeds can change: a run with NASBENCH_TEST_SEED_SHIFT notes them, `--seeded` runs them.

A test is left out only if it passed under some shift with the code as it is now, and nothing was given a shifted seed
or drew from the global generator: not the test itself, its fixtures, the modules of the tests that it imports, nor
their child processes. Tests of which that is not known run. Functions with a cache begin each test with an empty one,
so that no test reads in silence what another one computed under a seed.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from shift_seeds import READER, RECORD, VARIABLE, note_reader

TESTS = Path(__file__).parent
PACKAGES = ("nasbench", "nasbench_compression", "nasbench_registry", "controllers", "search_spaces", "benchmarks")
FOLDERS = ("nasbench", "compression", "nasbench_registry", "controllers", "search_spaces", "benchmarks", "experiments")
SUFFIXES = {".py", ".yaml", ".md", ".txt", ".toml", ".cfg"}  # of what tests run and read: code, settings, documents


class SeededTests:
    """A plugin that seeds the global generator before each test, notes who reads shifted seeds, and deselects."""

    def __init__(self, config: pytest.Config):
        self.enabled = config.getoption("seeded")
        self.path = config.cache.mkdir("seeds") / "tests.jsonl" if hasattr(config, "cache") else None
        with tempfile.NamedTemporaryFile(prefix="seed_readers_", delete=False) as file:
            self.record = Path(file.name)
        self.passed: set[str] = set()
        os.environ[RECORD] = str(self.record)  # processes that a test starts add to it

    def pytest_unconfigure(self):
        os.environ.pop(RECORD, None)
        self.record.unlink()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        with reader(str(collector.path)):  # a module of the tests is imported here
            return (yield)

    def pytest_collection_modifyitems(self, config, items):
        if not self.enabled:
            return
        if self.path is None:
            raise pytest.UsageError("--seeded reads the cache of pytest, which is off: leave out -p no:cacheprovider")
        known: dict[bool, set[tuple[str, str]]] = {False: set(), True: set()}
        for row in map(json.loads, self.path.read_text().splitlines() if self.path.exists() else ()):
            known[row["seeded"]].add((row["test"], row["code"]))
        unchanged = known[False] - known[True]
        left_out = [
            item
            for item in items
            if item.get_closest_marker("fixed_seeds") or (item.nodeid, digest(sources(item.path))) in unchanged
        ]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.scope == "function":
            return (yield)
        state = torch.default_generator.get_state()
        with reader(f"fixture {fixturedef.argname}"):
            value = yield
            if not torch.equal(state, torch.default_generator.get_state()):
                note_reader()
        return value

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self):
        """What a test draws without a seed of its own is the same alone and after any other test."""
        with reader(""):
            torch.manual_seed(0)
        self.state = torch.default_generator.get_state()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        if self.path is None or os.environ.get(VARIABLE, "0") == "0":
            return (yield)
        clear_caches(item.path.parent)
        with reader(item.nodeid):
            result = yield
            if not torch.equal(self.state, torch.default_generator.get_state()):
                note_reader()
        if item.nodeid in self.passed:
            files = sources(item.path)
            possible = {item.nodeid, *map(str, files), *(f"fixture {name}" for name in item.fixturenames)}
            seeded = not possible.isdisjoint(self.record.read_text().splitlines())
            with self.path.open("a") as file:
                file.write(json.dumps({"test": item.nodeid, "code": digest(files), "seeded": seeded}) + "\n")
        return result

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)


@contextlib.contextmanager
def reader(name: str):
    """Note seeds that are read within the context under a name, in this process and those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(READER, name)
        yield


def clear_caches(folder: Path) -> None:
    """Empty the caches of functions in the product and in the modules of the tests."""
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "none")
        if name.partition(".")[0] in PACKAGES or TESTS in file.parents or file.parent == folder:
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


@functools.cache
def sources(path: Path) -> frozenset[Path]:
    """A file of the tests and those that it imports, directly or not."""
    files, waiting = {path}, [path]
    while waiting:
        path = waiting.pop()
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE):
            imported = {path.parent / f"{name}.py", TESTS / f"{name}.py"} - files
            imported = {file for file in imported if file.exists()}
            files |= imported
            waiting += imported
    return frozenset(files)


@functools.cache
def digest(files: frozenset[Path]) -> str:
    """What the outcome of tests in these files hangs on: their text, the shared files of the tests, and the product."""
    root = TESTS.parent
    product = (file for folder in FOLDERS for file in (root / folder).rglob("*") if file.suffix in SUFFIXES)
    documents = (file for file in (*root.iterdir(), *(root / "docs").rglob("*")) if file.suffix in SUFFIXES)
    shared = (file for file in TESTS.rglob("*.py") if not file.name.startswith("test_"))
    result = hashlib.sha256(sys.version.encode())
    for file in sorted({*files, *product, *documents, *shared}):
        result.update(os.path.relpath(file, root).encode() + file.read_bytes())
    return result.hexdigest()
