"""Store of named arrays on disk, made once and memory-mapped afterwards.

A folder's name is a key of everything that its arrays depend on. It gets that name only once it is complete, so that an
interrupted packing leaves nothing that looks finished; a folder that is damaged later is made again.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.files import DISK_FULL

T = TypeVar("T")


class Packed(NamedTuple):
    """One split of a data set, packed."""

    arrays: dict[str, Tensor]  # memory-mapped; "labels" (N,) or (N, A) int64 among them
    key: str  # names the content: equal keys, equal arrays
    new: bool = False  # packed just now
    left: tuple[tuple[str, str], ...] = ()  # files that could not be read, and why

    @property
    def labels(self) -> Tensor:
        return self.arrays["labels"]

    @property
    def images(self) -> Tensor:
        """(N, C, H, W) uint8, of images."""
        return self.arrays["images"]


def place(
    folder: Path,
    key: str,
    load: Callable[[Path], T],  # opens a packed folder; raises any error where it is incomplete
    read: Callable[[], Callable[[Path], None]],  # opens the source; returns what writes its arrays into a folder
    title: str,  # of error lines
) -> tuple[T, bool]:
    """`load` of FOLDER/KEY, made now if it is not there or damaged; and whether it was made."""
    target = folder / key
    fault = _fault(target, load)
    if fault is None:
        return load(target), False
    try:
        _make(target, load, read(), title)
    except UserError as error:
        if not fault:
            raise
        raise UserError(f"{target} is damaged ({fault}); remove it: it could not be made anew, {error}") from error
    if fault:
        print(f"note: {target} was damaged ({fault}) and is made anew", file=sys.stderr)
    return load(target), True


def _fault(target: Path, load: Callable[[Path], Any]) -> str | None:
    """The fault of a packed folder; "" where there is none yet, None where it is complete."""
    try:
        load(target)
    except Exception as error:  # random bytes make numpy raise nearly anything
        return " ".join(str(error).split())[:200] or "unreadable" if os.path.lexists(target) else ""
    return None


def _make(target: Path, load: Callable[[Path], Any], write: Callable[[Path], None], title: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise UserError(
            f"cannot write packed data under {target.parent} ({error.strerror}): say data.packed=FOLDER"
        ) from error
    try:
        write(unfinished)
        for path in unfinished.iterdir():  # otherwise a crash could leave the name without the content
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        os.chmod(unfinished, 0o755)
        _rename(unfinished, target, load)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise UserError(f"{title} failed: {error}") from error
        raise UserError(
            f"{title}: {target.parent} is full ({error.strerror}): free some space, or say data.packed=FOLDER"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _rename(finished: Path, target: Path, load: Callable[[Path], Any]) -> None:
    """Give the folder its name, replacing a damaged folder; another process may have made a complete one meanwhile."""
    for _ in range(3):  # in between another process may do the same
        try:
            os.rename(finished, target)
        except OSError:
            if not (fault := _fault(target, load)):
                if fault is None:
                    return  # another process was first, with the same content
                raise
        else:
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        with suppress(FileNotFoundError):
            os.rename(target, aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)
    raise FileExistsError(f"{target} cannot be replaced: remove it")


class ArrayWriter:
    """An .npy file (N, *shape) that is written in pieces: N is known at the end.

    Written, not memory-mapped: a full disk is an error at the write, and would kill the process at the map.
    """

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...] = ()):
        self.file = open(path, "wb")  # noqa: SIM115
        self.dtype, self.shape, self.rows = np.dtype(dtype), shape, 0
        self._head()

    def _head(self) -> None:
        """As long for every N: numpy leaves room for it."""
        head = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self.file, head | {"shape": (self.rows, *self.shape)})

    def write(self, rows: np.ndarray) -> None:
        """Append rows (n, *shape)."""
        self.file.write(rows.astype(self.dtype, copy=False).tobytes())
        self.rows += len(rows)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *error: object) -> None:
        with self.file:
            if error[0] is None:
                self.file.seek(0)
                self._head()


def load_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array (N, *shape), memory-mapped; changes to it stay in memory. Raises ValueError where it is not whole."""
    array = np.load(path, mmap_mode="c")
    whole = array.offset + array.nbytes == path.stat().st_size
    if array.dtype != dtype or array.shape[1:] != shape or not whole:
        raise ValueError(f"{path.name} is not whole")
    return array


def load_labels(folder: Path, n: int, beside: str) -> np.ndarray:
    """labels.npy, (n,) or (n, A) int64. Raises ValueError where they are not those of the n rows of `beside`."""
    labels = np.load(folder / "labels.npy")
    if labels.dtype != np.int64 or len(labels) != n or labels.min(initial=0) < -1:
        raise ValueError(f"labels.npy does not fit {beside}")
    return labels
