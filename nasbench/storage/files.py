"""Files that are whole or not there, whenever the process dies."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasbench_registry import UserError

LONG = 1000  # entries of a list


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write aside, then rename: the file is the old one or the new one, never a part."""
    with written_aside(path) as aside, aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def content_key(value: Any) -> str:
    """Sixteen characters that differ for different JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A new file beside a path, which takes its place when the block ends, and vanishes if the block fails.

    Who may read it is what the folder and the umask allow, whatever the library that writes it prefers: files of a run
    or a cache are shared. Its name is taken by nobody else, also not on another machine. An OSError tells of the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with of_file(path):
        try:
            aside.touch(exist_ok=False)
            mode = aside.stat().st_mode
            yield aside
            if aside.stat().st_mode != mode:
                aside.chmod(mode)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """An OSError in the context tells of this file; a write to a full disk, for example, does not know its own."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        error.filename2 = None
        raise


def write_json(path: Path, value: Mapping[str, Any], indent: int | None = 1) -> None:
    """`write_bytes` of a JSON document; a number that is not finite becomes null.

    A long list has a line for each entry, and is never in memory as one text.
    """
    gap = "\n" + " " * indent if indent is not None else ""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write("{")
        for position, (key, item) in enumerate(value.items()):
            file.write(f"{',' * (position > 0)}{gap}{json.dumps(str(key))}: ")
            if isinstance(item, list) and len(item) > LONG:
                for number, entry in enumerate(item):
                    file.write(f"{'[' if number == 0 else ','}\n{json.dumps(finite(entry))}")
                file.write("]")
            else:
                text = json.dumps(finite(item), indent=indent)
                file.write(text.replace("\n", gap) if gap else text)
        file.write(f"{gap[:1] if value else ''}}}\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path, remedy: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """The JSON object in a file that `write_json` wrote.

    Args:
        path: File to read.
        remedy: What to do if it is damaged, the end of a sentence.
        keys: Keys that the object must have.

    Raises:
        UserError: It is damaged, for nothing but a broken disk or somebody's hand leaves such a file.
    """
    with of_file(path):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}.") from None
    missing = [key for key in keys if key not in value] if isinstance(value, dict) else ["a JSON object"]
    if missing:
        raise UserError(f"{path} is damaged (it lacks {', '.join(missing)}); {remedy}.")
    return dict(value)


def finite(value: Any) -> Any:
    """The same JSON value with null in the place of numbers that JSON does not have."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
