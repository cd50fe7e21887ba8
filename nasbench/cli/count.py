"""count: how many distinct networks a space has."""

from __future__ import annotations

from nasbench.cli.options import Json, Space, SpaceOptions, read_space
from nasbench.cli.output import progress_bar, show


def count(
    space: Space,
    option: SpaceOptions = None,
    json: Json = False,
) -> None:
    """Count the distinct networks of a space, exactly."""
    found = read_space(space, option)
    with progress_bar() as bar:
        task = bar.add_task(f"counting {space}", total=None)
        distinct = found.count_distinct(lambda seen, total: bar.update(task, completed=seen, total=total))
    result = {"space": space, "size": found.size, "distinct": distinct}
    show(result, f"{space}: {distinct:,} distinct networks among {found.size:,} architectures.", as_json=json)
