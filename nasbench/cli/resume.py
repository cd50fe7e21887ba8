"""resume: a search that was interrupted goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from nasbench.cli.options import AcceptChangedCode, Json, Run, import_from
from nasbench.cli.running import run_to_end
from nasbench_registry.files import user_path


def resume(
    run: Run,
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", help="key=value of executor, ray, search, outcomes, checkpoints, ..."),
    ] = None,
    accept_changed_code: AcceptChangedCode = False,
    accept_changed_data: Annotated[
        bool, typer.Option("--accept-changed-data", help="Go on although the images have changed since.")
    ] = False,
    json: Json = False,
) -> None:
    """Go on with a search that was interrupted or killed; -o changes where it runs and when it ends."""
    from nasbench.experiment.stored import change_run
    from nasbench.storage.run_folder import RunFolder

    folder = RunFolder(user_path(run)).require()
    import_from(folder.code_folder())
    run_to_end(folder, json, lambda: change_run(folder, override) if override else None, accept_changed_data)
