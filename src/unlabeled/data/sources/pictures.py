"""Picture files of any format, depth and transparency: search and reading."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from unlabeled.data.packing import Unreadable
from unlabeled.errors import UserError

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pcx", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# errors on opening that are the file's own fault; other errors are the system's
OF_THE_FILE = (None, errno.ENOENT, errno.EACCES, errno.EPERM)


class Search(NamedTuple):
    """Pictures in a folder and below."""

    found: list[Path]  # sorted
    left: dict[str, list[Path]]  # reason -> paths left out for it


def search(folder: Path) -> Search:
    """Every picture in `folder` and below, except hidden files.

    Links are followed last, and a folder or picture that is reached again counts once, where it was found first: a link
    to a parent or a neighbour adds nothing.
    """
    found: list[Path] = []
    left: dict[str, list[Path]] = {}
    places: set[str] = set()  # real paths of the folders searched
    pictures: set[str] = set()
    waiting: list[str] = [str(folder)]
    links: list[Path] = []  # a heap: links in the order of their paths

    def take(path: Path, real: str) -> None:
        if real in pictures:
            left.setdefault("link to an image that is there already", []).append(path)
        else:
            pictures.add(real)
            found.append(path)

    while waiting or links:
        if not waiting:
            link = heappop(links)
            real = os.path.realpath(link)
            if os.path.isdir(real):
                waiting.append(str(link))
            elif _is_picture(link.name) and os.path.isfile(real):
                take(link, real)
            elif _is_picture(link.name):
                left.setdefault("link to nothing", []).append(link)
            continue
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in places:
            left.setdefault("link to a folder that is there already", []).append(Path(place))
            continue
        places.add(real)
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            left.setdefault(f"folder that cannot be opened, {error.strerror}", []).append(Path(place))
            continue
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_symlink():
                heappush(links, Path(entry.path))
            elif entry.is_dir():
                waiting.append(entry.path)
            elif _is_picture(entry.name) and entry.is_file():
                take(Path(entry.path), os.path.join(real, entry.name))
    return Search(sorted(found, key=lambda path: path.parts), left)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def find(folder: Path) -> list[Path]:
    """Every picture in `folder` and below, once, sorted by path, except hidden files."""
    return search(folder).found


def natural_key(name: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Sort key that orders numbers within names by value: 2 before 10."""
    parts = re.split(r"([0-9]+)", name)  # words and numbers in turns
    return tuple(zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True)), name


def open_picture(path: Path) -> Image.Image:
    """One picture in 8 bits, upright, transparency on white; of several frames the first.

    Raises Unreadable where the file is incomplete or no picture.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
        return opaque(image)
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes Pillow's decoders raise nearly anything
        if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
            raise UserError(f"cannot read the image {path} ({error.strerror}): see to that, and run again") from error
        raise Unreadable(path, _reason(error, path)) from error


def opaque(image: Image.Image) -> Image.Image:
    """A picture in 8 bits, grey or RGB, on white where it is transparent."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _reason(error: Exception, path: Path) -> str:
    """The reason in a few words, without the file's name."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image" if os.path.getsize(path) else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_grey(path: Path) -> bool:
    """Whether a picture has no colour, in whatever mode it is saved. Raises Unreadable."""
    with suppress(Exception), Image.open(path) as file:  # open_picture reports the error
        if file.mode in ("1", "L", "LA", "La") or file.mode.startswith(("I", "F")):
            return True
    image = open_picture(path)
    return image.mode == "L" or not np.ptp(np.asarray(image), axis=2).any()


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from its header alone. Raises Unreadable."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow turns those
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:
        raise Unreadable(path, _reason(error, path)) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit integers by their upper byte (Pillow would clip them); floats are assumed to be in [0, 1]."""
    levels = np.asarray(image)
    scaled = levels * 255.0 if image.mode == "F" else levels / 257.0
    return Image.fromarray(np.clip(scaled.round(), 0, 255).astype(np.uint8))


def lazy_pictures(
    paths: Iterable[Path],
    then: Callable[[Image.Image], Image.Image] | None = None,  # done to each when it is read
) -> Iterator[Callable[[], Image.Image]]:
    """Functions that read the pictures, one by one, when they are packed."""
    for path in paths:
        yield partial(open_picture, path) if then is None else partial(_read_then, path, then)


def _read_then(path: Path, then: Callable[[Image.Image], Image.Image]) -> Image.Image:
    return then(open_picture(path))
