"""Python imports this when a process starts that has this folder in PYTHONPATH: the children of the tests."""

import shift_seeds  # noqa: F401
