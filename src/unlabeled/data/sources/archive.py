"""Data sets that are one archive."""

from collections.abc import Sequence
from pathlib import Path

from unlabeled.data.download import File, obtain


class Archive:
    """Fetches and extracts the archive; a subclass says which, and reads what is in it."""

    folder: str  # under the data root, extracted
    archive: str
    checksum: str  # md5 or sha256 of the archive

    def __init__(self, mirrors: Sequence[str]):  # addresses of folders with the archive
        self.mirrors = mirrors

    def prepare(self, root: Path) -> None:
        urls = [f"{mirror.rstrip('/')}/{self.archive}" for mirror in self.mirrors]
        obtain(File(self.archive, urls, self.checksum), root / self.folder)

    def fingerprint(self, root: Path) -> str:
        return self.checksum
