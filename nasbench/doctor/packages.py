"""Which packages are installed, in which versions, and whether they can be imported."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nasbench.doctor.finding import Finding

PROJECT = "nasbench-framework"
NOT_FOR_USERS = ("dev",)
IMPORT_S = 300.0


def look(project: str = PROJECT, *, imports: bool = True) -> Iterator[Finding]:
    """Every requirement of the project: there, new enough, and able to be imported.

    Args:
        project: Name of the installed distribution.
        imports: Whether the packages are imported, in a process of their own, which takes seconds.
    """
    try:
        described = importlib.metadata.requires(project) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "problem",
            f"{project} itself is not installed in {sys.prefix}, so what it needs is not known.",
            "in the clone, run: make search, or: pip install --editable .",
        )
        return
    core: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, described):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            core.append(requirement)
            continue
        for extra in importlib.metadata.metadata(project).get_all("Provides-Extra") or ():
            if extra not in NOT_FOR_USERS and requirement.marker.evaluate({"extra": extra}):
                extras.setdefault(extra, []).append(requirement)
    wrong = [text for requirement in core if (text := _wrong(requirement)) is not None]
    broken = dict(_broken([requirement.name for requirement in core if _version(requirement.name)])) if imports else {}
    for text in wrong:
        yield Finding("packages", "problem", text, f"pip install --upgrade {project}")
    for name, error in broken.items():
        yield Finding(
            "packages",
            "problem",
            f"{name} {_version(name)} is installed, and importing it fails: {error}",
            f"pip install --force-reinstall {name}",
        )
    if not wrong and not broken:
        versions = ", ".join(f"{requirement.name} {_version(requirement.name)}" for requirement in core[:4])
        done = "installed and can be imported" if imports else "installed"
        yield Finding("packages", "ok", f"all {len(core)} packages that are always needed are {done}: {versions}, ...")
    yield from _extras(project, extras)


def _extras(project: str, extras: Mapping[str, Sequence[Requirement]]) -> Iterator[Finding]:
    for extra, requirements in sorted(extras.items()):
        installed = [requirement for requirement in requirements if _version(requirement.name) is not None]
        wrong = [text for requirement in installed if (text := _wrong(requirement)) is not None]
        mend = f"pip install --upgrade '{project}[{extra}]'"
        for text in wrong:
            yield Finding(f"extra {extra}", "problem", text, mend)
        missing = [requirement.name for requirement in requirements if requirement not in installed]
        if missing:
            text = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed."
            yield Finding(f"extra {extra}", "note", text, mend.replace("--upgrade ", ""))
        elif not wrong:
            versions = ", ".join(f"{requirement.name} {_version(requirement.name)}" for requirement in requirements)
            yield Finding(f"extra {extra}", "ok", versions)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wrong(requirement: Requirement) -> str | None:
    """A sentence on the version of a package that is not right; None if it is."""
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed, and {requirement.specifier or 'any version'} is needed."
    if not requirement.specifier.contains(Version(version), prereleases=True):
        return f"{requirement.name} is {version}, and {requirement.specifier} is needed."
    return None


def _broken(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Packages that cannot be imported, each with the last line of its error; a crash ends the look at that one."""
    modules = {name: module for name in names if (module := _module(name)) is not None}
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    print('>', name, flush=True)\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except BaseException as error:\n"
        "        print('!', name, type(error).__name__, ' '.join(str(error).split())[:200], flush=True)\n"
    )
    try:
        completed = subprocess.run(
            [sys.executable, "-c", code, *modules.values()],
            capture_output=True,
            text=True,
            timeout=IMPORT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield names[0], f"importing took more than {IMPORT_S:.0f} s"
        return
    names_of = {module: name for name, module in modules.items()}
    for line in completed.stdout.splitlines():
        if line.startswith("! "):
            _, module, error = line.split(" ", 2)
            yield names_of[module], error
    if completed.returncode:
        last = [line[2:] for line in completed.stdout.splitlines() if line.startswith("> ")][-1:]
        yield names_of[last[0]] if last else names[0], f"the process ended with code {completed.returncode}"


def _module(distribution: str) -> str | None:
    """The first module that a distribution brings; None if it names none."""
    canonical_name = canonicalize_name(distribution)
    provided = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if canonical_name in map(canonicalize_name, owners) and not module.startswith("_")
    ]
    plain = canonical_name.replace("-", "_")
    return min(provided, key=lambda module: (module.lower() != plain, len(module)), default=None)
