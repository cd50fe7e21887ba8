"""check-space: whether a new space is sound."""

from __future__ import annotations

from typing import Annotated

import typer

from nasbench.cli.options import Classes, InputShape, Json, Space, SpaceOptions, space_and_task
from nasbench.cli.output import err, show


def check_space(
    space: Space,
    input_shape: InputShape = "3,32,32",
    classes: Classes = 10,
    option: SpaceOptions = None,
    seed: Annotated[int, typer.Option(help="Random seed of the samples.")] = 0,
    json: Json = False,
) -> None:
    """Check that a search space keeps the contract; say what is wrong with it."""
    from nasbench.deploy.network_checks import NETWORK_CHECKS
    from search_spaces import check_space as check

    search_space, task = space_and_task(space, option, input_shape, classes)
    with err.status(f"checking {space}") as shown:
        problems = check(
            search_space,
            task=task,
            seed=seed,
            networks=NETWORK_CHECKS,
            on_check=lambda name: shown.update(f"checking {space}: {name}"),
        )
    result = {"space": space, "size": search_space.size, "decisions": len(search_space.decisions), "problems": problems}
    if problems:
        text = f"{space}: {len(problems)} problem(s)\n" + "\n".join(f"- {problem}" for problem in problems)
    else:
        text = f"{space}: sound; {search_space.size:,} architectures in {len(search_space.decisions)} decisions."
    show(result, text, as_json=json)
    if problems:
        raise typer.Exit(1)
