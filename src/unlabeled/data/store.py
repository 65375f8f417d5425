"""Every image data set as one uint8 array on disk, made once and memory-mapped ever after.

A source knows its files; `pack` turns one of its splits into `images.npy` (N, C, H, W) uint8 and `labels.npy`
int64. The folder's name is a key of everything that the array depends on, the content of the files among it, and
the folder appears under that name only when it is whole: an interrupted packing leaves nothing that passes for
finished, and a folder that was damaged later is made anew.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from unlabeled.data.content import Files
from unlabeled.errors import UserError

LAYOUT = 2  # raise it when the packed form changes
CHUNK = 256  # images at a time
LEFT_OUT = "left_out.json"  # lists files that could not be read, with the reason
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Picture = np.ndarray | Image.Image | Callable[[], Image.Image]  # uint8 (H, W) or (H, W, 3); or how to read it


class Records(NamedTuple):
    """One split of a source, before packing."""

    images: np.ndarray | Iterable[Picture]  # uint8 (N, H, W) or (N, H, W, 3); or one by one, of any sizes
    labels: np.ndarray  # (N,) class index, (N, A) attributes in {0, 1} or (N, F) factors, int64; -1 where unknown
    # N = len(labels) = number of images
    whole: bool = True  # no image may be missing; False: those that cannot be read are left out


class Source(Protocol):
    """Where images come from."""

    @property
    def name(self) -> str:
        """What a user types after `data=`."""

    @property
    def splits(self) -> tuple[str, ...]:
        """ "train", and perhaps "val", "test"; with two domains "train_a", "train_b", "test_a", ..."""

    def prepare(self, root: Path) -> None:
        """See that the files lie under `root`, whole: download, verify, extract. Raises UserError."""

    def fingerprint(self, root: Path) -> str | Files:
        """Changes when the content does: checksums of archives that were verified, or the files themselves."""

    def read(self, root: Path, split: str) -> Records:
        """One split's images and labels. Raises UserError for files that are not whole."""


class Unreadable(UserError):
    """A file that is no whole picture."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"cannot read the image {path} ({reason}): remove or replace it")
        self.path, self.reason = path, reason


class Packed(NamedTuple):
    images: Tensor  # (N, C, H, W) uint8, memory-mapped
    labels: Tensor  # (N,) or (N, A) int64
    key: str  # names the content: equal keys, equal arrays
    new: bool = False  # packed just now
    left: tuple[tuple[str, str], ...] = ()  # files that could not be read, and why


def pack(source: Source, root: Path, folder: Path, split: str, shape: tuple[int, int, int]) -> Packed:
    """The packed form of `split`, made now if it is not there yet.

    Images are scaled (bicubic, antialiased) until they cover `shape`'s height and width, centre-cropped, and
    turned to grey (1 channel) or RGB (3 channels).
    """
    if shape[0] not in (1, 3):
        raise UserError(f"images are packed with 1 channel (grey) or 3 (RGB), not {shape[0]}: mend data.shape")
    fingerprint = source.fingerprint(root)
    content = fingerprint if isinstance(fingerprint, str) else fingerprint.digest(folder)
    depends = (LAYOUT, source.name, content, split, *shape)
    digest = hashlib.sha256("|".join(map(str, depends)).encode()).hexdigest()[:12]
    key = f"{source.name}-{split}-{'x'.join(map(str, shape))}-{digest}"
    place = folder / key
    fault = _fault(place, shape)
    if fault is not None:
        try:
            source.prepare(root)
            _make(place, source.read(root, split), shape, f"packing {source.name} {split}")
        except UserError as error:
            if not fault:
                raise
            raise UserError(f"{place} is damaged ({fault}); remove it: it could not be made anew, {error}") from error
        if fault:
            print(f"note: {place} was damaged ({fault}) and is made anew", file=sys.stderr)
    images, labels = _load(place, shape)
    new = fault is not None
    return Packed(torch.from_numpy(images), torch.from_numpy(labels), key, new, left_out(place))


def _load(place: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) uint8, memory-mapped, and labels. Raises nearly anything where a file is not whole."""
    path = place / "images.npy"
    images = np.load(path, mmap_mode="c")  # copy on write: the file stays as it is
    if images.dtype != np.uint8 or images.shape[1:] != shape or images.offset + images.nbytes != path.stat().st_size:
        raise ValueError("images.npy is not whole")
    labels = np.load(place / "labels.npy")
    if labels.dtype != np.int64 or len(labels) != len(images) or labels.min(initial=0) < -1:
        raise ValueError("labels.npy does not fit images.npy")
    return images, labels


def _fault(place: Path, shape: tuple[int, int, int]) -> str | None:
    """What is wrong with the packed form; "" where there is none yet, None where it is whole."""
    try:
        _load(place, shape)
    except Exception as error:  # bytes at random make numpy raise nearly anything
        return " ".join(str(error).split())[:200] or "unreadable" if os.path.lexists(place) else ""
    return None


def _make(place: Path, records: Records, shape: tuple[int, int, int], title: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise UserError(
            f"cannot write packed data under {place.parent} ({error.strerror}): say data.packed=FOLDER"
        ) from error
    try:
        n = len(records.labels)
        count = 0
        spoilt: dict[int, Unreadable] = {}  # by their places in `records`
        # Written, not memory-mapped: a full disk is an error at the write, and would kill at the map.
        with (
            open(unfinished / "images.npy", "wb") as out,
            tqdm(desc=title, total=n, unit="image", disable=None if n >= 5000 else True, leave=False) as bar,
        ):
            _head(out, n, shape)
            for pixels in _fitted(records.images, shape):
                for i, image in enumerate(pixels):
                    if isinstance(image, Unreadable):
                        spoilt[count + i] = image
                    else:
                        out.write(image.tobytes())
                count += len(pixels)
                bar.update(len(pixels))
            if spoilt:
                _refuse(title, spoilt, count, records.whole)
                out.seek(0)
                _head(out, count - len(spoilt), shape)  # as long as it was
            out.flush()
            os.fsync(out.fileno())  # a name that appears before its content would pass for whole after a crash
        if count != n:
            raise UserError(f"{title}: {count} images but {n} labels: remove the files and run again")
        labels = np.delete(records.labels, list(spoilt), 0)
        np.save(unfinished / "labels.npy", labels.astype(np.int64))
        if spoilt:
            (unfinished / LEFT_OUT).write_text(json.dumps([(str(one.path), one.reason) for one in spoilt.values()]))
        os.chmod(unfinished, 0o755)
        _put(unfinished, place, shape)
    except OSError as error:
        if error.errno not in FULL:
            raise UserError(f"{title} failed: {error}") from error
        raise UserError(
            f"{title}: {place.parent} is full ({error.strerror}): free some space, or say data.packed=FOLDER"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put(finished: Path, place: Path, shape: tuple[int, int, int]) -> None:
    """Give the folder its name, which a damaged one may have, or a whole one of another process."""
    for _ in range(3):  # in between another process may do the same
        try:
            os.rename(finished, place)
        except OSError:
            if not (fault := _fault(place, shape)):
                if fault is None:
                    return  # another process was first, with the same content
                raise
        else:
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        with suppress(FileNotFoundError):
            os.rename(place, aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)
    raise FileExistsError(f"{place} cannot be replaced: remove it")


def _head(out: BinaryIO, n: int, shape: tuple[int, int, int]) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)})


def _refuse(title: str, spoilt: dict[int, Unreadable], count: int, whole: bool) -> None:
    """Raise UserError where the images that cannot be read may not be left out."""
    told = named([(str(one.path), one.reason) for one in spoilt.values()])
    if whole or len(spoilt) == count:
        raise UserError(f"{title}: {len(spoilt)} of {count} images cannot be read: {told}: replace or remove them")


def named(files: Sequence[tuple[str, str]], most: int = 5) -> str:
    """Files and what is wrong with them, the first few by name."""
    more = f" and {len(files) - most} more" * (len(files) > most)
    return ", ".join(f"{path} ({reason})" for path, reason in files[:most]) + more


def left_out(place: Path) -> tuple[tuple[str, str], ...]:
    """(path, reason) of each file that could not be read when it was packed."""
    file = place / LEFT_OUT
    return tuple((path, reason) for path, reason in json.loads(file.read_text())) if file.is_file() else ()


def _fitted(
    images: np.ndarray | Iterable[Picture], shape: tuple[int, int, int]
) -> Iterator[np.ndarray | list[np.ndarray | Unreadable]]:
    """Chunks, in order: of images (C, H, W) uint8, or of what is wrong with them."""
    channels, height, width = shape
    native = {1: (height, width), 3: (height, width, 3)}[channels]
    if isinstance(images, np.ndarray) and images.shape[1:] == native:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            yield chunk[:, None] if channels == 1 else chunk.transpose(0, 3, 1, 2)
        return
    pictures = iter(images)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes and scales outside Python's lock
        while some := list(islice(pictures, CHUNK)):
            yield list(pool.map(lambda picture: _try(picture, shape), some))


def _try(picture: Picture, shape: tuple[int, int, int]) -> np.ndarray | Unreadable:
    try:
        return fit(picture, shape)
    except Unreadable as error:
        return error


def fit(picture: Picture, shape: tuple[int, int, int]) -> np.ndarray:
    """One image as uint8 (C, H, W): scaled to cover, centre-cropped, grey or RGB."""
    channels, height, width = shape
    if isinstance(picture, np.ndarray):
        image = Image.fromarray(picture)
    else:
        image = picture if isinstance(picture, Image.Image) else picture()
    image = image.convert({1: "L", 3: "RGB"}[channels])
    if image.size != (width, height):
        scale = max(width / image.width, height / image.height)
        size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        image = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
