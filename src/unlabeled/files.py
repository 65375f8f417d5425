"""Atomic writes, folders named by settings, short paths, and JSON without NaN."""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from unlabeled.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CUT = "…"
FORMAT = 2  # of runs and checkpoints; 1 (version 0.1) has other names of classes and keys


@contextmanager
def atomic(path: Path, shared: bool = False) -> Iterator[BinaryIO]:
    """A file to write that gets the name `path` once it is complete and on disk.

    A kill or an error leaves the former file in place, and a kill the unfinished one, which the next writer takes over;
    `shared`: several processes write at once, each an unfinished file of its own. Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part" if shared else f".{path.name}.part")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write(path: Path, text: str | bytes) -> None:
    """Write a file atomically. Raises UserError."""
    try:
        with atomic(path) as file:
            file.write(text.encode() if isinstance(text, str) else text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def folder(value: object, key: str) -> Path:
    """The folder that the setting `key` names, which need not exist yet. Raises UserError where it cannot exist."""
    text = str(value)
    if value is None or isinstance(value, bool) or not text.strip():
        raise UserError(f"{key} is {'empty' if value == '' else text}: say {key}=FOLDER")
    try:
        path = Path(text).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)
        place = next(above for above in (path, *path.parents) if os.path.lexists(above))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{key}={text}: {getattr(error, 'strerror', None) or error}: say {key}=FOLDER") from error
    if not place.is_dir():
        what = "a link to nothing" if place.is_symlink() and not place.exists() else "no folder"
        raise UserError(f"{key}={text}: {place} is {what}: say {key}=FOLDER")
    return path


def without_shared_folders(values: Sequence[str]) -> list[str]:
    """Paths without the folders that they share at both ends; other words unchanged."""
    paths = [value for value in values if value]
    if len(set(paths)) < 2 or not all(os.sep in value for value in paths):
        return list(values)
    parts = [value.split(os.sep) for value in paths]
    most = min(map(len, parts)) - 1
    before = _shared(parts, most)
    after = _shared([part[::-1] for part in parts], most - before)

    def cut(value: str) -> str:
        part = value.split(os.sep)
        kept = part[before : len(part) - after]
        # a single folder is kept, as it is no longer than the mark
        first = [CUT] if before > 1 else part[:before]
        last = [CUT] if after > 1 else part[len(part) - after :]
        return os.sep.join([*first, *kept, *last]) if value else value

    return [cut(value) for value in values]


def _shared(parts: Sequence[Sequence[str]], most: int) -> int:
    """The number of leading parts that all have in common."""
    count = 0
    while count < most and len({part[count] for part in parts}) == 1:
        count += 1
    return count


def write_json(path: Path, content: Any) -> None:
    """Write JSON that every reader accepts (RFC 8259), see `finite_json`. Values of other types become strings."""
    write(path, json.dumps(finite_json(content), indent=2, default=str, allow_nan=False) + "\n")


def finite_json(tree: Any) -> Any:
    """The same with null for floats that are not finite; beside such a KEY of a mapping, KEY_reason says why."""
    if isinstance(tree, Mapping):
        found = {}
        for key, value in tree.items():
            found[key] = finite_json(value)
            reason = next(filter(None, map(_reason, value if isinstance(value, list | tuple) else [value])), None)
            if reason and f"{key}_reason" not in tree:
                found[f"{key}_reason"] = reason
        return found
    if isinstance(tree, list | tuple):
        return [finite_json(value) for value in tree]
    return None if _reason(tree) else tree


def _reason(value: Any) -> str | None:
    """Why a float has no JSON value, if it has none."""
    if not isinstance(value, float) or math.isfinite(value):
        return None
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinity"
