"""Images as people have them, to and from the tensors that methods take.

What is taken, one image or many:

- numpy arrays (H, W), (H, W, C), (B, H, W), (B, H, W, C) with C = 1, 3 or 4; of three dimensions the last is taken for
  channels where it is 1, 3 or 4, and else the first for a batch
- torch tensors, whose channels come first: (H, W), (C, H, W), (B, H, W), (B, C, H, W)
- PIL images; paths of image files, and of folders with images in them; lists and tuples of all these

Whole numbers lie in [0, 255], floats in [0, 1], truth values are black and white. What is transparent lies on white.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlabeled.batches import from_uint8, to_uint8
from unlabeled.data.packing import resize
from unlabeled.data.sources.pictures import opaque, open_picture, search
from unlabeled.errors import UserError
from unlabeled.evaluation.figures import drawing

Images: TypeAlias = Union[  # noqa: UP007 - it names itself
    np.ndarray, Tensor, Image.Image, str, os.PathLike, Sequence["Images"]
]
CHANNELS = (1, 3, 4)
ROUNDING = 1e-4  # by which floats may leave [0, 1]


def to_batch(images: Images, shape: Sequence[int]) -> Tensor:
    """Images as floats (B, C, H, W) in [-1, 1] of `shape` (C, H, W), brought there as a data set's images are.

    They are scaled (bicubic, antialiased) until they cover height and width, cropped at the centre, and turned to grey
    or RGB. Raises UserError for what is no image.
    """
    channels, height, width = shape
    found = [resize(picture, (channels, height, width)) for picture in _each(images)]
    if not found:
        raise UserError("no images: the list, or the array, is empty")
    return from_uint8(torch.from_numpy(np.stack(found)))


def to_arrays(x: Tensor) -> np.ndarray:
    """uint8 (B, H, W, C) of floats (B, C, H, W) in [-1, 1]."""
    return to_uint8(x.cpu()).permute(0, 2, 3, 1).contiguous().numpy()


def grid(images: Images, columns: int = 8, side: int = 64) -> Image.Image:
    """Images side by side in one PIL image, which a notebook shows.

    Takes what a Run gives, and everything that a Run takes; all of one size. Each is enlarged by a whole factor to
    about `side` pixels.
    """
    if type(columns) is not int or columns < 1:
        raise UserError(f"columns={columns}: 1 or more")
    found = [np.asarray(picture() if callable(picture) else picture) for picture in _each(images)]
    if not found:
        raise UserError("no images: the list, or the array, is empty")
    if len({array.shape[:2] for array in found}) > 1:
        raise UserError("a grid is of images of one size: these differ")
    colours = [array if array.ndim == 3 else np.stack([array] * 3, 2) for array in found]
    x = from_uint8(torch.from_numpy(np.stack(colours)).permute(0, 3, 1, 2))
    return drawing.grid(x, min(columns, len(found)), side=side)


def to_points(points: Any, dimensions: int, what: str = "points") -> Tensor:
    """Points (B, D) as float32, of what numpy makes an array of; one point (D,) alone is a batch of one."""
    try:
        array = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} are an array (B, {dimensions}) of numbers ({error})") from error
    array = array[None] if array.shape == (dimensions,) else array
    if array.ndim != 2 or array.shape[1] != dimensions or not len(array):
        raise UserError(f"{what} are an array (B, {dimensions}), and this has the shape {tuple(array.shape)}")
    _finite(array, what)
    return torch.from_numpy(np.ascontiguousarray(array))


def _each(images: Any) -> Iterator[Any]:
    """One after the other, uint8 (H, W) or (H, W, 3), a PIL image or how to read one."""
    if isinstance(images, str | os.PathLike):
        yield from _files(Path(images).expanduser())
    elif isinstance(images, Image.Image):
        yield opaque(images)
    elif isinstance(images, Tensor):
        yield from _of_array(_channels_last(images.detach().cpu()), "a tensor")
    elif isinstance(images, np.ndarray | np.generic):
        yield from _of_array(np.asarray(images), "an array")
    elif isinstance(images, list | tuple):
        for image in images:
            if isinstance(image, int | float | np.number):
                raise UserError("a list holds images, and this one numbers: numpy.asarray(LIST) makes an array of it")
            yield from _each(image)
    else:
        raise UserError(f"{type(images).__name__} is no image: give an array, a tensor, a PIL image, a path or a list")


def _files(path: Path) -> Iterator[Any]:
    if path.is_dir():
        found = search(path).found
        if not found:
            raise UserError(f"there are no images in {path}")
        for each in found:
            yield open_picture(each)
    elif path.is_file():
        yield open_picture(path)
    else:
        raise UserError(f"there is no image file and no folder {path}")


def _channels_last(x: Tensor) -> np.ndarray:
    x = x.float() if x.dtype == torch.bfloat16 else x
    if x.ndim == 4 or (x.ndim == 3 and x.shape[0] in CHANNELS):
        if x.shape[-3] not in CHANNELS:
            raise UserError(f"a tensor (B, C, H, W) has 1, 3 or 4 channels, and this has the shape {tuple(x.shape)}")
        x = x.movedim(-3, -1)
    return x.numpy()


def _of_array(array: np.ndarray, what: str) -> Iterator[Any]:
    """array: (H, W), (H, W, C), (B, H, W) or (B, H, W, C)."""
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        array = array[None]
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in CHANNELS:
        first = array.ndim == 4 and array.shape[1] in CHANNELS
        hint = ": an array's channels come last, say ARRAY.transpose(0, 2, 3, 1)" if first else ""
        raise UserError(
            f"{what} of images is (H, W), (H, W, C), (B, H, W) or (B, H, W, C) with 1, 3 or 4 channels, and this has "
            f"the shape {tuple(array.shape)}{hint}"
        )
    if not array.size:
        if len(array):
            raise UserError(f"{what} of the shape {tuple(array.shape)} has no pixels")
        return
    for pixels in _levels(array, what):
        yield opaque(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _levels(array: np.ndarray, what: str) -> np.ndarray:
    """uint8."""
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if not np.issubdtype(array.dtype, np.integer) and not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{what} of images holds whole numbers or floats, and this one {array.dtype}")
    low, high = array.min(), array.max()
    if np.issubdtype(array.dtype, np.integer):
        if low < 0 or high > 255:
            raise UserError(f"whole numbers of images lie in [0, 255], and here in [{low}, {high}]")
        return array.astype(np.uint8)
    _finite(array, "images")
    if low < -ROUNDING or high > 1 + ROUNDING:
        from_minus = -1 - ROUNDING <= low < 0 and high <= 1 + ROUNDING
        hint = "(x + 1) / 2 brings [-1, 1] there" if from_minus else "scale them, or take whole numbers in [0, 255]"
        raise UserError(f"floats of images lie in [0, 1], and here in [{low:.4g}, {high:.4g}]: {hint}")
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def _finite(array: np.ndarray, what: str) -> None:
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise UserError(f"{what} hold numbers that are not finite (NaN or infinite): {bad:,} of {array.size:,}")
