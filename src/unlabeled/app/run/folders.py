"""Run folders, each used by one run at a time."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from unlabeled.errors import Interrupted, UserError
from unlabeled.files import write


def new_folder(parent: str | Path, name: str) -> Path:
    """Make parent/name, or parent/name-2, -3, ..., where that exists. No two processes get the same folder."""
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


def make_folder(folder: Path) -> None:
    """Make the run folder that a user named."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"run={folder}: cannot make a run folder there ({why}): say another") from error


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Raise UserError where another process trains in this folder. The lock ends with its process."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: another process trains this run; wait for it, or say another folder") from None
    except (OSError, NotImplementedError):
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


def restore_on_failure(folder: Path, batches: int) -> Callable[..., None]:
    """For ExitStack.push: restore the files of a run that resumes after `batches` and fails before it trains."""
    last = folder / "checkpoints" / "last.ckpt"
    files = [folder / name for name in ("config.yaml", "metrics.csv", "result.json")]
    before = [path.read_bytes() if path.is_file() else None for path in files]
    age = last.stat().st_mtime_ns

    def put_back(kind: type | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, Interrupted):
            return
        trained = last.stat().st_mtime_ns != age or _rows_after(files[1], before[1], batches)
        for path, data in zip(files, before, strict=True):
            if trained or (path.read_bytes() if path.is_file() else None) == data:
                continue
            if data is None:
                path.unlink()
            else:
                write(path, data)

    return put_back


def _rows_after(path: Path, before: bytes | None, batches: int) -> bool:
    """Whether metrics.csv has got rows after `batches`."""
    now = path.read_bytes() if path.is_file() else b""
    newest = now.rstrip().rpartition(b"\n")[2].partition(b",")[0]
    return now != before and newest.isdigit() and int(newest) > batches


def timestamp() -> str:
    return time.strftime("%Y-%m-%d_%H-%M-%S")


def slug(words: list[str], longest: int = 60) -> str:
    """Overrides as part of a folder's name, in letters that need no quotes."""
    return re.sub(r"[^\w.-]+", "_", ",".join(words).replace("=", "-"))[:longest].strip("_.-")
