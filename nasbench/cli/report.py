"""report: the report of a run, written again."""

from __future__ import annotations

from nasbench.cli.options import Json, Run, import_from
from nasbench.cli.output import err, show
from nasbench_registry.files import user_path


def report(run: Run, json: Json = False) -> None:
    """Write report.json, report.html and trials.csv again from what the run holds."""
    from nasbench.storage.run_folder import RunFolder

    folder = RunFolder(user_path(run)).require()
    import_from(folder.code_folder())
    from nasbench.report import result_table, write_report

    written = write_report(folder)
    err.print(f"report: {folder.report_html.resolve()}", soft_wrap=True)
    show(written, result_table(written), as_json=json)
