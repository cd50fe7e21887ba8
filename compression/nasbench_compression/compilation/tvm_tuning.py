"""Schedules for TVM's kernels, found by search; a program that runs in a process of its own.

Shao et al., Tensor Program Optimization with Probabilistic Programs, NeurIPS 2022, arXiv 2205.13603 (MetaSchedule). The
schedules tried are drawn at random from the space of that paper: evolutionary search, its own strategy, takes
tens of seconds a kernel for its model of the costs which a budget of some hundred trials does not pay for.
"""

from __future__ import annotations

import platform
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasbench_compression.compilation import tvm_build
from nasbench_compression.compilation.child import answer
from nasbench_compression.compilation.exported import silence
from nasbench_compression.compilation.tvm_kernel import KernelRecords, in_process_builder
from nasbench_compression.timing import compare_two

_TIMING = {"number": 1, "repeat": 3, "min_repeat_ms": 10}
_TIMEOUT_S = 10  # of one measurement
_SHARE = 0.002  # of the untuned time, below which a kernel is not worth a trial
_COMPARE_S = 1.0


def tune(request: dict[str, Any]) -> dict[str, Any]:
    """Tune a network and write the library, of the tuned or of the untuned kernels, whichever is faster.

    Args:
        request: Request with `program`, an `ExportedProgram` in a file; `shape` and `dtype` of its images; `facts`,
            that go into the library, to which those on the tuning are added; `library`, where it is written; `records`,
            a folder; `trials`; `seed`; `threads`.

    Returns:
        The facts that went into the library.
    """
    begin = time.monotonic()
    with silence():
        program = torch.export.load(request["program"])
    _skip_other_processors()
    target = tvm_build.target(request["threads"])
    module = tvm_build.fused(tvm_build.import_program(program)[0], target)
    best, search_facts = _search(module, target, request)
    facts = {**request["facts"], **search_facts, "tuning_s": round(time.monotonic() - begin, 1)}
    tuned = {**facts, "tuned": True}
    plain = {**facts, "tuned": False, "why_not_tuned": "with the tuned kernels, the network was no faster"}
    libraries = [
        tvm_build.library(variant, target, variant_facts)
        for variant, variant_facts in ((module, plain), (_scheduled(module, target, best), tuned))
    ]
    chosen = int(_second_is_better(libraries, request["shape"], request["dtype"]))
    Path(request["library"]).write_bytes(libraries[chosen])
    return (plain, tuned)[chosen]


def _skip_other_processors() -> None:
    """Leave out the instructions of processors that this one is not: TVM takes a minute to read them."""
    processors = ["cuda", "rocm", "hexagon", "riscv_cpu"]
    if platform.machine() in ("x86_64", "AMD64"):
        processors.append("arm_cpu")
    for name in processors:
        path = f"tvm.s_tir.tensor_intrin.{name}"
        sys.modules[path] = types.ModuleType(path)


def _search(module: Any, target: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The best schedule of each kernel that has a better one than none, as a database; and facts on the search."""
    from tvm.s_tir import meta_schedule as ms

    folder = Path(request["records"]) / f"{target.attrs['mcpu']}-{request['threads']}"
    folder.mkdir(parents=True, exist_ok=True)
    database = ms.database.JSONDatabase(work_dir=str(folder))
    config = ms.runner.EvaluatorConfig(**_TIMING)
    runner = ms.runner.LocalRunner(timeout_sec=_TIMEOUT_S, evaluator_config=config)
    builder = in_process_builder()
    kernels = ms.relax_integration.extract_tasks(module, target)
    kernel_records = [KernelRecords(kernel, database) for kernel in kernels]
    for kernel_record in kernel_records:
        if kernel_record.untuned_s is None:
            kernel_record.measure_untuned(database, builder, runner)
    total = sum(kernel_record.weight * (kernel_record.untuned_s or 0) for kernel_record in kernel_records)
    worth = [
        kernel_record
        for kernel_record in kernel_records
        if kernel_record.untuned_s and kernel_record.weight * kernel_record.untuned_s >= _SHARE * total
    ]
    before = sum(len(kernel_record.tuned) for kernel_record in kernel_records)
    trials_left = request["trials"] - before
    tasks, weights = _tasks(worth, request["seed"])
    if trials_left > 0 and tasks:
        ms.tune.tune_tasks(
            tasks=tasks,
            task_weights=weights,
            work_dir=str(folder),
            max_trials_global=trials_left,
            num_trials_per_iter=max(1, min(8, trials_left // (2 * len(tasks)))),
            builder=builder,
            runner=runner,
            database=database,
            cost_model="random",
            task_scheduler=ms.task_scheduler.GradientBased(seed=request["seed"]),
        )
        kernel_records = [KernelRecords(kernel_record.kernel, database) for kernel_record in kernel_records]
    best = ms.database.MemoryDatabase()
    for kernel_record in kernel_records:
        if kernel_record.best is not None:
            best.commit_workload(kernel_record.kernel.dispatched[0])
            best.commit_tuning_record(kernel_record.best)
    after = sum(len(kernel_record.tuned) for kernel_record in kernel_records)
    tuned = sum(kernel_record.weight * (kernel_record.best_s or 0) for kernel_record in kernel_records)
    return best, {
        "kernels": len(kernels),
        "kernels_worth_tuning": len(tasks),
        "kernels_tuned": sum(kernel_record.best is not None for kernel_record in kernel_records),
        "kernels_tuned_to_untuned": round(tuned / total, 3) if total else 1.0,
        "records": after,
        "trials_run": after - before,
    }


def _tasks(kernel_records: list[KernelRecords], seed: int) -> tuple[list[Any], list[float]]:
    """Tuning tasks and their weights; kernels for which TVM finds no schedules are left out."""
    from tvm.s_tir import meta_schedule as ms

    tasks, weights = [], []
    for number, kernel_record in enumerate(kernel_records):
        task = ms.TuneContext(
            mod=kernel_record.kernel.dispatched[0],
            target=kernel_record.kernel.target,
            space_generator="post-order-apply",
            search_strategy="replay-trace",
            task_name=kernel_record.kernel.task_name,
            rand_state=1 + 1000 * seed + number,
            num_threads=1,
        ).clone()
        try:
            task.generate_design_space()
        except Exception:  # TVM's search trips over some fused kernels
            continue
        tasks.append(task)
        weights.append(float(kernel_record.weight))
    return tasks, weights


def _scheduled(module: Any, target: Any, database: Any) -> Any:
    import tvm
    from tvm import relax

    with target, database, tvm.transform.PassContext(opt_level=3):
        return relax.transform.MetaScheduleApplyDatabase()(module)


def _second_is_better(libraries: list[bytes], shape: list[int], dtype: str) -> bool:
    """Whether the second library computes the same as the first one, faster; calls alternate."""
    import tvm

    values = np.random.default_rng(0).standard_normal(shape) if dtype == "float32" else np.zeros(shape)
    images = tvm.runtime.tensor(values.astype(dtype))
    calls = [tvm_build.load(artefact)["main"] for artefact in libraries]
    for expected, output in zip(*([output.numpy() for output in call(images)] for call in calls), strict=True):
        if not np.allclose(output, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max()))):
            return False
    plain, tuned = calls
    return compare_two(lambda: tuned(images), lambda: plain(images), budget_s=_COMPARE_S)[0].ratio < 1


if __name__ == "__main__":
    answer(tune)
