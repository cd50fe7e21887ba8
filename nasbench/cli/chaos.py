"""chaos: kill parts of a search, and show what was lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nasbench.cli.output import Json, err, show, tell
from nasbench.cli.search import Override


def chaos(
    experiment: Annotated[Path, typer.Argument(help="The experiment file, such as experiments/chaos.yaml.")],
    candidates: Annotated[int, typer.Option(min=4, help="Candidates of each of the two runs.")] = 60,
    faults: Annotated[int, typer.Option(min=1, help="How often something is killed.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of what is killed when.")] = 0,
    run: Annotated[Path | None, typer.Option(help="Folder for the runs [runs/chaos-TIME].", show_default=False)] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Kill workers, the driver and nodes of a search at random moments; compare it with an undisturbed run."""
    from benchmarks.chaos import chaos as disturb

    if faults > candidates - 2:
        raise typer.BadParameter(f"{faults} faults need at least {faults + 2} candidates, not {candidates}.")
    folder = run or Path("runs") / f"chaos-{time.strftime('%Y%m%d-%H%M%S')}"
    found = disturb(
        experiment,
        folder,
        candidates=candidates,
        faults=faults,
        seed=seed,
        overrides=override or [],
        on_event=tell,
    )
    table = Table(
        title=f"{faults} faults in a search of {candidates} candidates",
        caption=(
            f"{found.done} done, {len(found.missing)} missing, {len(found.running)} running, {len(found.twice)} with "
            f"two outcomes, {len(found.different)} different from the undisturbed run; {found.epochs_trained} epochs "
            f"were trained for {found.epochs} that were needed; report {'complete' if found.report else 'incomplete'}; "
            f"{found.seconds:.0f} s, undisturbed with one worker {found.calm_seconds:.0f} s"
        ),
    )
    for column in ("fault", "killed", "at s", "outcomes by then", "in training (epochs)", "epochs trained again"):
        table.add_column(column, justify="left" if column == "killed" else "right")
    for number, fault in enumerate(found.faults, start=1):
        training = ", ".join(f"#{candidate} ({epoch})" for candidate, epoch in (fault.running or {}).items())
        table.add_row(
            str(number), fault.kind, f"{fault.at_s:.1f}", str(fault.after), training or "-", str(fault.repeated_epochs)
        )
    show(found.to_json(), table, as_json=json)
    if not found.sound:
        err.print("something was lost, repeated or changed")
        raise typer.Exit(1)
