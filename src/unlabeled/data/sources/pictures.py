"""Picture files in folders: found, and read whatever their format, depth and transparency."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unlabeled.errors import UserError

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pcx", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


def find(folder: Path) -> list[Path]:
    """Every picture in `folder` and below, sorted by its path; hidden files are none."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        wanted = (name for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES))
        found += [Path(place, name) for name in wanted]
    return sorted(found, key=lambda path: path.parts)


def open_picture(path: Path) -> Image.Image:
    """One picture in 8 bits, upright, on white where it is transparent; the first of several frames."""
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
        if image.mode.startswith(("I", "F")):
            return _eight_bits(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB")
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    except Exception as error:  # a broken file makes Pillow's decoders raise nearly anything
        raise UserError(f"cannot read the image {path} ({error}): remove or replace it") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit integers by their upper byte (Pillow would clip them); floats are taken to lie in [0, 1]."""
    levels = np.asarray(image)
    scaled = levels * 255.0 if image.mode == "F" else levels / 257.0
    return Image.fromarray(np.clip(scaled.round(), 0, 255).astype(np.uint8))


def lazily(
    paths: Iterable[Path],
    then: Callable[[Image.Image], Image.Image] | None = None,  # done to each when it is read
) -> Iterator[Callable[[], Image.Image]]:
    """The pictures, each to be read when it is packed."""
    for path in paths:
        yield partial(open_picture, path) if then is None else partial(_read_then, path, then)


def _read_then(path: Path, then: Callable[[Image.Image], Image.Image]) -> Image.Image:
    return then(open_picture(path))
