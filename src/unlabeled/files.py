"""Files that appear whole or not at all."""

import errno
import os
from pathlib import Path

from unlabeled.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, text: str) -> None:
    """Put `text` under the name `path`: a kill or a full disk leaves what was there before. Raises UserError."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with open(unfinished, "w", newline="", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error
