"""Records of one kernel: how long it takes untuned, and with each schedule that was measured."""

from __future__ import annotations

import statistics
from typing import Any


class KernelRecords:
    """Measurements of a kernel in the records.

    The kernel as it is, untuned, is recorded with a schedule that changes nothing, which TVM itself passes over.
    """

    def __init__(self, kernel: Any, database: Any) -> None:
        self.kernel = kernel
        self.weight = int(kernel.weight)
        self.workload = database.commit_workload(kernel.dispatched[0])
        records = [record for record in database.get_all_tuning_records() if record.workload.same_as(self.workload)]
        self.tuned = [record for record in records if record.trace.insts]
        untuned = [seconds(record) for record in records if not record.trace.insts]
        self.untuned_s: float | None = min(untuned, default=None)

    @property
    def best(self) -> Any:
        """The fastest record, if it is faster than the kernel untuned."""
        fastest = min(self.tuned, key=seconds, default=None)
        return fastest if fastest is not None and self.untuned_s and seconds(fastest) < self.untuned_s else None

    @property
    def best_s(self) -> float | None:
        """Seconds of the fastest record, or of the kernel untuned."""
        return self.untuned_s if self.best is None else seconds(self.best)

    def measure_untuned(self, database: Any, builder: Any, runner: Any) -> None:
        """Build, measure and record it, if it can be."""
        from tvm.s_tir import meta_schedule as ms
        from tvm.s_tir.schedule import Trace

        module = self.kernel.dispatched[0]
        built = builder.build([ms.builder.BuilderInput(module, self.kernel.target)])[0]
        if built.artifact_path is None:
            return
        shapes = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
        measured = runner.run([ms.runner.RunnerInput(built.artifact_path, "cpu", shapes)])[0].result()
        if measured.run_secs:
            record = ms.database.TuningRecord(
                Trace([], {}), self.workload, measured.run_secs, self.kernel.target, shapes
            )
            database.commit_tuning_record(record)
            self.untuned_s = seconds(record)


def seconds(record: Any) -> float:
    """Mean seconds of a call; infinite where the measurement failed."""
    return statistics.fmean(map(float, record.run_secs)) if record.run_secs else float("inf")


def in_process_builder() -> Any:
    """Builds in this process: TVM's own builder starts a process for each batch, which takes longer than a build."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
    from tvm.s_tir.meta_schedule.builder.local_builder import default_build, default_export

    def built(build_input: Any) -> Any:
        try:
            return BuilderResult(default_export(default_build(build_input.mod, build_input.target, None)), None)
        except Exception as error:  # a schedule that cannot be built is one that is not taken
            return BuilderResult(None, str(error))

    @derived_object
    class Builder(PyBuilder):  # type: ignore[misc]  # TVM has no types
        def build(self, build_inputs: list[Any]) -> list[Any]:
            return [built(build_input) for build_input in build_inputs]

    return Builder()
