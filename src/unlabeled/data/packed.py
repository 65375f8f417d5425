"""Every image data set as one uint8 array on disk, made once and memory-mapped ever after.

A source knows its files; `pack` turns one of its splits into `images.npy` (N, C, H, W) uint8 and `labels.npy` int64.
The folder's name is a key of everything that the array depends on, and the folder appears under that name only when
it is whole: an interrupted packing leaves nothing that passes for finished.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from unlabeled.errors import UserError

LAYOUT = 1  # raise it when the packed form changes


class Records(NamedTuple):
    """One split of a source, before packing."""

    images: Iterable[np.ndarray | Image.Image]  # uint8 (H, W) or (H, W, 3), any sizes; read lazily, in order
    labels: np.ndarray  # (N,) class index or (N, A) attributes in {0, 1}, int64; -1 where unknown
    # N = len(labels) = number of images


class Source(Protocol):
    """Where images come from."""

    name: str  # folder under the data root
    splits: tuple[str, ...]  # "train", "test", ...; with two domains "train_a", "train_b", "test_a", ...

    def prepare(self, root: Path) -> None:
        """See that the files lie under `root`, whole: download, verify, extract. Raises UserError with what to do."""

    def fingerprint(self, root: Path) -> str:
        """Changes when the content does: checksums of archives, names and sizes and times of a user's own files."""

    def read(self, root: Path, split: str) -> Records:
        """One split's images and labels."""


class Packed(NamedTuple):
    images: Tensor  # (N, C, H, W) uint8, memory-mapped
    labels: Tensor  # (N,) or (N, A) int64
    key: str  # names the content: equal keys, equal arrays


def pack(source: Source, root: Path, folder: Path, split: str, shape: tuple[int, int, int]) -> Packed:
    """The packed form of `split`, made now if it is not there yet.

    Images are scaled (bicubic, antialiased) until they cover `shape`'s height and width, centre-cropped, and turned to
    grey (1 channel) or RGB (3 channels).
    """
    depends = (LAYOUT, source.name, source.fingerprint(root), split, *shape)
    digest = hashlib.sha256("|".join(map(str, depends)).encode()).hexdigest()[:12]
    key = f"{source.name}-{split}-{'x'.join(map(str, shape))}-{digest}"
    place = folder / key
    if not place.is_dir():
        source.prepare(root)
        _make(place, source.read(root, split), shape, f"packing {source.name} {split}")
    images = np.load(place / "images.npy", mmap_mode="c")  # copy on write: the file stays as it is
    return Packed(torch.from_numpy(images), torch.from_numpy(np.load(place / "labels.npy")), key)


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
        images = np.lib.format.open_memmap(unfinished / "images.npy", mode="w+", dtype=np.uint8, shape=(n, *shape))
        count = 0
        for image in tqdm(records.images, desc=title, total=n, unit="image", disable=n < 5000, leave=False):
            images[count] = fit(image, shape)
            count += 1
        if count != n:
            raise UserError(f"{title}: {count} images but {n} labels: the files are not whole; remove and fetch again")
        images.flush()
        np.save(unfinished / "labels.npy", records.labels.astype(np.int64))
        os.chmod(unfinished, 0o755)
        try:
            os.rename(unfinished, place)
        except OSError:
            if not place.is_dir():  # otherwise another process was first, with the same content
                raise
    except OSError as error:
        raise UserError(
            f"{title} failed: {error.strerror or error} (in {place.parent}): free some space or say data.packed=FOLDER"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def fit(image: np.ndarray | Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """One image as uint8 (C, H, W): scaled to cover, centre-cropped, grey or RGB."""
    channels, height, width = shape
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture = picture.convert({1: "L", 3: "RGB"}[channels])
    if picture.size != (width, height):
        scale = max(width / picture.width, height / picture.height)
        size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        picture = picture.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
