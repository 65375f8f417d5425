"""Downloads: fetched completely or not at all, verified, and extracted without trusting the archive.

A download grows as NAME.part and an extraction in a hidden folder; both get their name only once they are complete.
"""

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from tqdm import tqdm

from unlabeled.data.download.http import open_url
from unlabeled.errors import UserError

TIMEOUT = 30.0  # seconds without a byte after which a server counts as gone
CHUNK = 1 << 20  # bytes
NO_DOWNLOAD = "data=digits, data=plain2striped and data=sprites need no download"


class File(NamedTuple):
    """A file on the web."""

    name: str  # on this machine
    urls: Sequence[str]  # the same bytes, tried in this order
    checksum: str = ""  # hexadecimal md5 or sha256; "" where nobody publishes one
    size: int | None = None  # bytes, where known


class Unreachable(Exception):
    """An address that failed; the next one may work."""


def fetch(file: File, folder: Path) -> Path:
    """The verified file in `folder`, fetched from the first address that works if it is missing.

    An interrupted download is continued where the server supports it. Raises UserError.
    """
    path = folder / file.name
    if path.is_file():  # put there by hand, or by an earlier run
        if wrong := fault(path, file):
            raise UserError(f"{path} is not the file it should be ({wrong}): remove it, or put the right one there")
        return path
    part = path.with_name(f"{path.name}.part")
    failures = []
    with _alone(part) as stream:
        if path.is_file():  # another process fetched it while this one waited
            part.unlink()
            return path
        for url in file.urls:
            try:
                _download(url, stream, file)
            except Unreachable as reason:
                failures.append(f"{url} ({reason})")
            except OSError as error:
                part.unlink()  # frees the space
                raise UserError(
                    f"cannot write {part} ({error.strerror}): free some space, or say data.root=FOLDER"
                ) from error
            else:
                os.fsync(stream.fileno())
                os.replace(part, path)
                return path
        if stream.tell() == 0:
            part.unlink()
    raise UserError(
        f"could not fetch {file.name} from {', nor from '.join(failures)}; put it by hand at "
        f"{path.resolve()} and run again ({NO_DOWNLOAD})"
    )


def by_hand(name: str, home: str, folder: Path, files: Sequence[str]) -> UserError:
    """The error for data that a program cannot fetch."""
    return UserError(
        f"data={name} must be fetched by hand: get {', '.join(files)} from {home} and put them into "
        f"{folder.resolve()} ({NO_DOWNLOAD})"
    )


def fault(path: Path, file: File) -> str:
    """The fault of a file's bytes; "" if none is found."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes, not {file.size:,}"
    with open(path, "rb") as stream:
        if file.checksum:
            kind = {32: "md5", 64: "sha256"}[len(file.checksum)]
            digest = hashlib.new(kind)
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
            found = digest.hexdigest()
            return "" if found == file.checksum else f"{kind} {found}, not {file.checksum}"
        # Without a checksum: at least no error page. The rest is tested by the archive's CRCs in `extract`.
        right = {"zip": b"PK", "gz": b"\x1f\x8b", "tgz": b"\x1f\x8b"}.get(file.name.rsplit(".", 1)[-1], b"")
        return "" if stream.read(2).startswith(right) else "not an archive"


@contextmanager
def _alone(part: Path) -> Iterator[io.FileIO]:
    """`part`, open for appending and locked: of two runs started at once, the second waits."""
    while True:
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            stream = io.FileIO(part, "a")  # unbuffered: a full disk shows at the write, not at the close
        except OSError as error:
            raise UserError(f"cannot write {part} ({error.strerror}): say data.root=FOLDER") from error
        with stream:
            try:
                import fcntl

                fcntl.flock(stream, fcntl.LOCK_EX)
            except (ImportError, OSError):  # no locks on this system or file system
                pass
            if not part.exists() or not os.path.samestat(os.fstat(stream.fileno()), part.stat()):
                continue  # the first run renamed or removed it
            stream.seek(0, os.SEEK_END)
            yield stream
            return


def _download(url: str, stream: io.FileIO, file: File) -> None:
    """Download all of `file` into `stream`, retrying as long as each attempt makes progress."""
    resumed = stream.tell() > 0
    while True:
        before = stream.tell()
        try:
            _append(url, stream, file)
            break
        except Unreachable:
            if stream.tell() <= before:
                raise
    if wrong := fault(Path(stream.name), file):
        _restart(stream)
        if resumed:  # the existing part may have been wrong: once more, from the start
            return _download(url, stream, file)
        raise Unreachable(f"wrong bytes, removed: {wrong}")


def _restart(stream: io.FileIO) -> None:
    stream.seek(0)
    stream.truncate()


def _append(url: str, stream: io.FileIO, file: File) -> None:
    """One request for the rest. Raises Unreachable where the server fails, OSError where the disk does."""
    request = urllib.request.Request(url, headers={"User-Agent": "unlabeled"})
    start = stream.tell()
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = open_url(request, TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise Unreachable(f"HTTP {error.code} {error.reason}") from error
        _restart(stream)  # nothing follows the part: it is complete or of another file; start again to find out
        return _append(url, stream, file)
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(_reason(error)) from error
    with response:
        if start and not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            _restart(stream)  # this server ignores ranges and sends the whole file
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else file.size
        if file.size is not None and total != file.size:
            raise Unreachable(f"offers {total:,} bytes, not {file.size:,}")
        with tqdm(desc=file.name, total=total, initial=start, unit="B", unit_scale=True, leave=False) as bar:
            while True:
                try:
                    chunk = memoryview(response.read(CHUNK))
                except (OSError, HTTPException) as error:
                    raise Unreachable(_reason(error)) from error
                if not chunk:
                    break
                bar.update(len(chunk))
                while chunk:
                    chunk = chunk[stream.write(chunk) :]
    if total is not None and stream.tell() != total:
        raise Unreachable(f"the connection was cut after {stream.tell():,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner or type(error).__name__)


def extract(archive: Path, folder: Path) -> Path:
    """The content of a zip or tar(.gz) as `folder`; a single folder on top of the archive is dropped.

    Nothing is written outside, whatever the archive says: names that lead out, links and devices are refused.
    `folder` appears when everything is extracted and the archive's own check sums agree. Raises UserError.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(
            f"cannot extract {archive} into {folder.parent} ({error.strerror}): extract it there by hand, "
            "or say data.root=FOLDER"
        ) from error
    try:
        (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, unfinished)
        content = unfinished
        inside = list(unfinished.iterdir())
        if len(inside) == 1 and inside[0].is_dir():
            content = inside[0]
        os.chmod(content, 0o755)
        try:
            os.rename(content, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first
                raise
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is not a whole zip or tar archive ({error}): remove it and run again") from error
    except OSError as error:
        raise UserError(
            f"cannot extract {archive} into {folder.parent} ({error.strerror or error}): free some space, "
            "or say data.root=FOLDER"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The relative path that `name` stands for, if it stays inside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise UserError(f"{archive} would write outside its folder ({name!r}): not extracted; do not trust this file")
    return path


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        members = source.infolist()
        for member in members:
            _inside(member.filename, archive)
        for member in tqdm(
            members, desc=f"extracting {archive.name}", unit="file", disable=len(members) < 1000, leave=False
        ):
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(f"{archive} holds a link ({member.filename!r}): not extracted; do not trust this file")
            target = folder / _inside(member.filename, archive)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as data, open(target, "wb") as out:
                shutil.copyfileobj(data, out, CHUNK)  # read to its end, which checks the member's CRC


def _untar(archive: Path, folder: Path) -> None:
    size = archive.stat().st_size
    with (
        open(archive, "rb") as raw,
        tqdm.wrapattr(
            raw, "read", desc=f"extracting {archive.name}", total=size, disable=size < 1e7, leave=False
        ) as read,
    ):
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        data = gzip.GzipFile(fileobj=read) if zipped else read
        with tarfile.open(fileobj=data, mode="r|") as source:
            for member in source:
                _member(source, member, archive, folder)
        while data.read(CHUNK):  # to its end, where gzip's CRC stands
            pass
        raw.seek(max(0, size - 512))
        if not zipped and any(raw.read()):  # cut between two files, which nothing else detects
            raise tarfile.ReadError("its end is missing")


def _member(source: tarfile.TarFile, member: tarfile.TarInfo, archive: Path, folder: Path) -> None:
    target = folder / _inside(member.name, archive)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.isfile():
        data = source.extractfile(member)
        assert data is not None
        with open(target, "wb") as out:
            shutil.copyfileobj(data, out, CHUNK)
    elif member.islnk() and (folder / _inside(member.linkname, archive)).is_file():
        shutil.copyfile(folder / member.linkname, target)  # a file that was packed once under two names
    else:
        raise UserError(f"{archive} holds a link or a device ({member.name!r}): not extracted; do not trust this file")
