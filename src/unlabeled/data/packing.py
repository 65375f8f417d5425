"""Image data sets packed as one uint8 array: `images.npy` (N, C, H, W), and `labels.npy` int64."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from unlabeled.data.protocols import Source
from unlabeled.data.store import ArrayWriter, Packed, load_array, load_labels, place
from unlabeled.errors import UserError

LAYOUT = 2  # raise it when the packed form changes
CHUNK = 256  # images at a time
LEFT_OUT = "left_out.json"  # lists files that could not be read, with the reason

Picture = np.ndarray | Image.Image | Callable[[], Image.Image]  # uint8 (H, W) or (H, W, 3); or how to read it


class RawImages(NamedTuple):
    """One split of a source, before packing."""

    images: np.ndarray | Iterable[Picture]  # uint8 (N, H, W) or (N, H, W, 3); or one by one, of any sizes
    labels: np.ndarray  # (N,) class index, (N, A) attributes in {0, 1} or (N, F) factors, int64; -1 where unknown
    # N = len(labels) = number of images
    whole: bool = True  # False: images that cannot be read may be left out


class Unreadable(UserError):
    """A picture file that cannot be read."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"cannot read the image {path} ({reason}): remove or replace it")
        self.path, self.reason = path, reason


def pack(source: Source[RawImages], root: Path, folder: Path, split: str, shape: tuple[int, int, int]) -> Packed:
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
    title = f"packing {source.name} {split}"

    def read() -> Callable[[Path], None]:
        source.prepare(root)
        return partial(_write, source.read(root, split), shape, title)

    (images, labels), new = place(folder, key, partial(_load, shape), read, title)
    arrays = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
    return Packed(arrays, key, new, left_out(folder / key))


def _load(shape: tuple[int, int, int], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) uint8, memory-mapped, and labels. Raises nearly anything where a file is not whole."""
    images = load_array(folder / "images.npy", np.uint8, shape)
    return images, load_labels(folder, len(images), "images.npy")


def _write(raw: RawImages, shape: tuple[int, int, int], title: str, folder: Path) -> None:
    """images.npy and labels.npy."""
    n, count = len(raw.labels), 0
    broken: dict[int, Unreadable] = {}  # by their places in `raw`
    with (
        ArrayWriter(folder / "images.npy", np.uint8, shape) as out,
        tqdm(desc=title, total=n, unit="image", disable=None if n >= 5000 else True, leave=False) as bar,
    ):
        for pixels in _fitted(raw.images, shape):
            for i, image in enumerate(pixels):
                if isinstance(image, Unreadable):
                    broken[count + i] = image
                else:
                    out.write(image[None])
            count += len(pixels)
            bar.update(len(pixels))
    if broken:
        _refuse(title, broken, count, raw.whole)
    if count != n:
        raise UserError(f"{title}: {count} images but {n} labels: remove the files and run again")
    np.save(folder / "labels.npy", np.delete(raw.labels, list(broken), 0).astype(np.int64))
    if broken:
        (folder / LEFT_OUT).write_text(json.dumps([(str(one.path), one.reason) for one in broken.values()]))


def _refuse(title: str, broken: dict[int, Unreadable], count: int, whole: bool) -> None:
    """Raise UserError where the images that cannot be read may not be left out."""
    files = describe_files([(str(one.path), one.reason) for one in broken.values()])
    if whole or len(broken) == count:
        raise UserError(f"{title}: {len(broken)} of {count} images cannot be read: {files}: replace or remove them")


def describe_files(files: Sequence[tuple[str, str]], most: int = 5) -> str:
    """Files with the reasons, the first few by name."""
    more = f" and {len(files) - most} more" * (len(files) > most)
    return ", ".join(f"{path} ({reason})" for path, reason in files[:most]) + more


def left_out(place: Path) -> tuple[tuple[str, str], ...]:
    """(path, reason) of each file that could not be read."""
    file = place / LEFT_OUT
    return tuple((path, reason) for path, reason in json.loads(file.read_text())) if file.is_file() else ()


def _fitted(
    images: np.ndarray | Iterable[Picture], shape: tuple[int, int, int]
) -> Iterator[np.ndarray | list[np.ndarray | Unreadable]]:
    """Chunks, in order, of images (C, H, W) uint8 or the errors in their place."""
    channels, height, width = shape
    native = {1: (height, width), 3: (height, width, 3)}[channels]
    if isinstance(images, np.ndarray) and images.shape[1:] == native:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            yield chunk[:, None] if channels == 1 else chunk.transpose(0, 3, 1, 2)
        return
    pictures = iter(images)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow releases Python's lock
        while some := list(islice(pictures, CHUNK)):
            yield list(pool.map(lambda picture: _try(picture, shape), some))


def _try(picture: Picture, shape: tuple[int, int, int]) -> np.ndarray | Unreadable:
    try:
        return resize(picture, shape)
    except Unreadable as error:
        return error


def resize(picture: Picture, shape: tuple[int, int, int]) -> np.ndarray:
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
