"""Run folders: never shared, whoever starts when."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from unlabeled.errors import UserError


def new_folder(parent: str | Path, name: str) -> Path:
    """Make parent/name, or parent/name-2, -3, ...: whoever makes it has it alone."""
    parent = Path(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for n in range(1, 10_000):
            folder = parent / (name if n == 1 else f"{name}-{n}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(f"cannot make a run folder under {parent} ({error.strerror}): say output=FOLDER") from error
    raise UserError(f"too many runs named {name} under {parent}: say output=FOLDER")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Refuse a folder that another process trains in; one that ends, however it ends, gives it free."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: another process trains this run; wait for it, or say another folder") from None
    except (OSError, NotImplementedError):
        pass  # a folder where nothing can be locked
    try:
        yield
    finally:
        lock.release()


def stamp() -> str:
    return time.strftime("%Y-%m-%d_%H-%M-%S")


def slug(words: list[str], longest: int = 60) -> str:
    """Overrides as part of a folder's name, in letters that a command line takes as they are."""
    return re.sub(r"[^\w.-]+", "_", ",".join(words).replace("=", "-"))[:longest].strip("_.-")
