"""Data sets that are archives: fetched and extracted here, or laid there by hand."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from unlabeled.data.content import Files
from unlabeled.data.download.archives import File, extract, fetch
from unlabeled.errors import UserError

SEAL = ".extracted"  # in a folder that was extracted here: the digest of what it holds


class Extracted:
    """The folder of an extracted archive.

    What was extracted here and lies there unchanged is known by the archive's checksum. What somebody laid there, and
    what was changed since, is known by its own content: once it is completed, it is packed again.
    """

    _files: Files | None = None

    def known(self, folder: Path, archive: str) -> str | Files:
        """The fingerprint of `folder`; archive: what stands for the whole, also before it is there."""
        if self._files is None and folder.is_dir():
            seal = ""
            with suppress(OSError, ValueError):
                seal = (folder / SEAL).read_text("ascii")
            self._files = Files.below(folder, {seal: archive})
        return self._files or archive


def obtain(file: File, folder: Path) -> Path:
    """The extracted content of an archive: as it lies in `folder`, or fetched beside it and extracted."""
    if not folder.is_dir():
        extract(fetch(file, folder.parent), folder)
        seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Remember that this is what an archive held."""
    with suppress(OSError):  # then the folder is known by its content
        (folder / SEAL).write_text(Files.below(folder).digest())


def check_counts(name: str, places: Iterable[tuple[Path, str, int, int]], then: str) -> None:
    """Raises UserError where a folder holds another number of something than was published.

    places: (folder, of what, how many are there, how many were published); then: what to do.
    """
    wrong = [
        f"{folder} holds {found:,} {what}, not {published:,}" if folder.is_dir() else f"there is no {folder}"
        for folder, what, found, published in places
        if found != published
    ]
    if wrong:
        raise UserError(f"data={name} is not whole: {', '.join(wrong)}; {then}")


class Archive(Extracted):
    """Fetches and extracts the archive; a subclass says which, and reads what is in it."""

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
