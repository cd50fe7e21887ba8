"""A Ray cluster: started on this machine, or one that runs already."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasbench.search.config import ExecutorConfig, RayConfig
from nasbench_registry import UserError

KNOCK_S = 20.0
PATIENCE = "TUNE_FUNCTION_THREAD_TIMEOUT_S"
PATIENCE_S = "60"
"""Seconds in which a candidate that a scheduler stops leaves its process; after Tune's own 2 the next one is lost."""


@contextmanager
def connected(executor: ExecutorConfig, config: RayConfig, code_folder: Path) -> Iterator[None]:
    """Ray, for as long as the context lasts; a Ray that this process is connected to already is used and left alone.

    Args:
        executor: Resources that the candidates need.
        config: Address of the cluster.
        code_folder: Folder of a user's own modules, which travel to the machines of a cluster.

    Raises:
        UserError: There is no Ray at the address, or it has too little for a single candidate.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = config.address
    variables = {"OMP_NUM_THREADS": str(executor.threads), PATIENCE: os.environ.get(PATIENCE, PATIENCE_S)}
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # Inherited, not as a runtime environment, so that the processes that Ray starts ahead fit.
        variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with _environment(variables):
            ray.init(
                address="local",
                num_cpus=math.ceil(executor.workers * executor.cpus),
                include_dashboard=False,
                **common,
            )
    else:
        modules = [str(path) for path in user_code(code_folder)]
        try:
            _knock(address)
            # Ray stumbles over an empty list of modules.
            ray.init(
                address=address,
                runtime_env={"env_vars": variables} | ({"py_modules": modules} if modules else {}),
                **common,
            )
        except (OSError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(
                f"there is no Ray cluster at ray.address {address!r}: {why}; start one with `ray start --head`."
            ) from None
    try:
        _check_resources(executor.cpus, executor.gpus)
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """OSError unless something listens at host:port; Ray itself would wait for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def user_code(folder: Path) -> list[Path]:
    """Modules and packages that were imported from a folder: what a user's space, controller or step consists of."""
    folder = folder.resolve()
    module_paths: set[Path] = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or not Path(file).is_absolute():
            continue
        path = Path(file).resolve()
        if path.suffix != ".py" or not path.is_relative_to(folder) or "site-packages" in path.parts:
            continue
        top = module.__name__.partition(".")[0]
        root = getattr(sys.modules.get(top), "__path__", None)
        module_paths.add(Path(next(iter(root))).resolve() if root else path)
    ours = {Path(__file__).resolve().parents[1]}
    for name in ("search_spaces", "controllers", "nasbench_compression", "nasbench_registry"):
        ours |= {Path(place).resolve() for place in getattr(sys.modules.get(name), "__path__", ())}
    main = Path(getattr(sys.modules.get("__main__"), "__file__", None) or sys.executable).resolve()
    return sorted(module_paths - ours - {main})


def _check_resources(cpus: float, gpus: float) -> None:
    import ray

    available = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray does not annotate it
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > available.get(kind, 0):
            raise UserError(
                f"a candidate needs executor.{kind.lower()}s={needed:g}, and Ray has {available.get(kind, 0):g} {kind} "
                f"in all; lower it, or connect to another cluster."
            )
