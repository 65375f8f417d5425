"""Data sets in archives, extracted here or by the user."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from unlabeled.data.content import Files
from unlabeled.data.download.archives import File, extract, fetch
from unlabeled.errors import UserError

SEAL = ".extracted"  # file in a folder that was extracted here, with the digest of its content


class Extracted:
    """The folder of an extracted archive.

    A folder that was extracted here and is unchanged is identified by the archive's checksum; any other by its content,
    so that it is packed again after a change.
    """

    _files: Files | None = None

    def known(self, folder: Path, archive: str) -> str | Files:
        """The fingerprint of `folder`; archive: that of the complete archive, also before it is fetched."""
        if self._files is None and folder.is_dir():
            seal = ""
            with suppress(OSError, ValueError):
                seal = (folder / SEAL).read_text("ascii")
            self._files = Files.below(folder, {seal: archive})
        return self._files or archive


def obtain(file: File, folder: Path) -> Path:
    """The extracted content of an archive, fetched and extracted if `folder` does not exist."""
    if not folder.is_dir():
        extract(fetch(file, folder.parent), folder)
        seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Mark a folder as the unchanged content of an archive."""
    with suppress(OSError):  # then the folder is identified by its content
        (folder / SEAL).write_text(Files.below(folder).digest())


def check_counts(name: str, places: Iterable[tuple[Path, str, int, int]], then: str) -> None:
    """Raise UserError where a folder holds another number of files than published.

    places: (folder, what is counted, found, published); then: what to do.
    """
    wrong = [
        f"{folder} holds {found:,} {what}, not {published:,}" if folder.is_dir() else f"there is no {folder}"
        for folder, what, found, published in places
        if found != published
    ]
    if wrong:
        raise UserError(f"data={name} is not whole: {', '.join(wrong)}; {then}")


class Archive(Extracted):
    """Fetches and extracts an archive; a subclass names it and reads its content."""

    folder: str  # under the data root, extracted
    archive: str
    checksum: str  # md5 or sha256 of the archive

    def __init__(self, mirrors: Sequence[str]):  # addresses of folders with the archive
        self.mirrors = mirrors

    def prepare(self, root: Path) -> None:
        urls = [f"{mirror.rstrip('/')}/{self.archive}" for mirror in self.mirrors]
        obtain(File(self.archive, urls, self.checksum), root / self.folder)

    def fingerprint(self, root: Path) -> str | Files:
        return self.known(root / self.folder, self.checksum)
