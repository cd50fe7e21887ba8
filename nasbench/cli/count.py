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
    search_space = read_space(space, option)
    with progress_bar() as bar:
        task = bar.add_task(f"counting {space}", total=None)
        distinct = search_space.count_distinct(lambda seen, total: bar.update(task, completed=seen, total=total))
    result = {"space": space, "size": search_space.size, "distinct": distinct}
    show(result, f"{space}: {distinct:,} distinct networks among {search_space.size:,} architectures.", as_json=json)
