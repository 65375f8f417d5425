"""Digests of file contents, by which data sets are identified wherever they lie."""

import hashlib
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from unlabeled.files import atomic

CHUNK = 1 << 20  # bytes
SETTLED = 2.0  # seconds after which a further change shows in a file's times, on the coarsest file systems


class Files:
    """Files under names of their own. Equal names and bytes have equal digests, wherever and since when they lie.

    All bytes are read once. The digest is then cached in a small file named by the state of the files: folder, size,
    modification and change times in nanoseconds, and inode. A change in place moves the change time, which no program
    can set, even where the modification time is restored; copied, moved and touched files have another state, are read
    again, and get the same digest. Known files cost one stat each: seconds for 200,000 pictures.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],  # name -> where the file lies
        known: Mapping[str, str] | None = None,  # digest -> its replacement: the checksum of an archive
    ):
        self.paths = dict(sorted(paths.items()))
        self.known = known or {}
        self._digest: str | None = None

    @classmethod
    def below(cls, folder: Path, known: Mapping[str, str] | None = None) -> "Files":
        """All files of a folder except hidden ones, by relative paths; links are followed except to a parent."""
        found: dict[str, Path] = {}
        for place, folders, names in os.walk(folder, followlinks=True):
            above = os.path.join(os.path.realpath(place), "")
            inside = [os.path.join(os.path.realpath(os.path.join(place, name)), "") for name in folders]
            folders[:] = [
                name
                for name, real in zip(folders, inside, strict=True)
                if name[0] != "." and not above.startswith(real)
            ]
            found |= {os.path.relpath(os.path.join(place, n), folder): Path(place, n) for n in names if n[0] != "."}
        return cls(found, known)

    def digest(self, kept: Path | None = None) -> str:
        """The digest of all names and bytes. kept: the folder of cached digests."""
        if self._digest is None:
            found = self._kept(kept) if kept else self._read()
            self._digest = self.known.get(found, found)
        return self._digest

    def _kept(self, folder: Path) -> str:
        state, newest = self._state()
        file = folder / ".content" / state
        with suppress(OSError, ValueError):
            if len(found := file.read_text("ascii")) == 64:
                return found
        found = self._read()
        if newest < time.time_ns() - SETTLED * 1e9 and self._state()[0] == state:
            with suppress(OSError):  # packing into this folder reports the error
                file.parent.mkdir(parents=True, exist_ok=True)
                with atomic(file, shared=True) as out:
                    out.write(found.encode("ascii"))
        return found

    def _state(self) -> tuple[str, int]:
        """A digest of the files' state, and the latest of their change times in nanoseconds."""
        digest, newest = hashlib.sha256(), 0
        places: dict[str, str] = {}
        for name, path in self.paths.items():
            parent = os.path.dirname(text := str(path))
            if parent not in places:
                places[parent] = os.path.realpath(parent)
            try:
                found = os.stat(text)
                newest = max(newest, found.st_ctime_ns)
                facts = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
            except OSError:  # a link to nothing
                facts = "gone"
            digest.update(f"{name}\0{places[parent]}\0{facts}\n".encode(errors="surrogateescape"))
        return digest.hexdigest(), newest

    def _read(self) -> str:
        digest, n = hashlib.sha256(), len(self.paths)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases Python's lock
            contents = pool.map(content, self.paths.values())
            shown = tqdm(contents, "reading", n, unit="file", disable=None if n >= 5000 else True, leave=False)
            for name, found in zip(self.paths, shown, strict=True):
                digest.update(f"{name}\0{found}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def content(path: Path) -> str:
    """The sha256 of a file; a word for one that cannot be read, which packing reports."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    except OSError:
        return "unreadable"
    return digest.hexdigest()
