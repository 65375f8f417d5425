"""Files that appear whole or not at all, and folders that settings name."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from unlabeled.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, text: str | bytes) -> None:
    """Put `text` under the name `path`: a kill or a full disk leaves what was there before. Raises UserError."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with open(unfinished, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def folder(value: object, key: str) -> Path:
    """The folder that the setting `key` names; it may be yet to be made. Raises UserError where there can be none."""
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
