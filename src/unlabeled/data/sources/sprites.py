"""sprites: white shapes on black in every combination of shape, scale, rotation and place. No download.

In the manner of dSprites (Matthey et al. 2017, https://github.com/deepmind/dsprites-dataset): five factors that are
independent of each other and make an image without chance, so that what a representation makes of them can be
measured. Drawn with soft edges, where dSprites' pixels are black or white; its 40 rotations and 32 places a side are
fewer here, for a packed array of a moderate size.

A square turned by 90 degrees and an ellipse turned by 180 are the same image again, under another label, as in
dSprites: their rotation cannot be told in full. No other two images are equal.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unlabeled.data.packing import RawImages
from unlabeled.errors import UserError

DRAWING = 1  # raise it when an image looks different from before

# In sides of the picture, at the largest scale.
REACH = 0.18  # radius of the circle that each shape just fills
MARGIN = 0.22  # from the picture's edge to the nearest centre: shapes are whole, their soft edge included
SMALLEST = 16  # pixels a side: less, and half a pixel of soft edge leaves the margin


def _box(u: np.ndarray, v: np.ndarray, half: float) -> np.ndarray:
    """Distance to the outline of the square |u|, |v| <= half; negative inside."""
    a, b = np.abs(u) - half, np.abs(v) - half
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _box(u, v, REACH / np.sqrt(2))


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Twice as wide as high. The distance is f / |grad f| of f = |(u / a, v / b)| - 1: exact at the outline."""
    a, b = REACH, REACH / 2
    f = np.hypot(u / a, v / b)
    return (f - 1) * f / np.maximum(np.hypot(u / a**2, v / b**2), 1e-6)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square standing on a corner, with half a disc on each of its upper sides."""
    shift = (np.sqrt(2) - 1) / (3 - np.sqrt(2))  # the middle of the circle around a heart, in half sides
    half = REACH / (np.sqrt(2) * (shift + 1))
    p, q = (u - v) / np.sqrt(2) + shift * half, (-u - v) / np.sqrt(2) + shift * half  # along the square's sides
    discs = np.minimum(np.hypot(p - half, q), np.hypot(p, q - half)) - half
    return np.minimum(_box(p, q, half), discs)


SHAPES = {"square": _square, "ellipse": _ellipse, "heart": _heart}  # (u, v), v downwards -> distance from the outline


class Sprites:
    """Every combination once, y fastest, then x, rotation, scale, shape. Labels (N, 5): each factor's index."""

    name = "sprites"
    splits = ("train",)

    def __init__(self, size: int = 64, scales: int = 6, rotations: int = 20, positions: int = 16):
        for name, value, least in (
            ("size", size, SMALLEST),
            ("source.scales", scales, 1),
            ("source.rotations", rotations, 1),
            ("source.positions", positions, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise UserError(f"data.{name}={value}: sprites need a whole number of at least {least}")
        self.size = size  # side in pixels
        self.scales = scales  # from half of the largest to the largest
        self.rotations = rotations  # over the full circle, clockwise
        self.positions = positions  # of x, and of y

    @property
    def factors(self) -> dict[str, int]:
        """Name -> number of values, in the order of the labels' columns."""
        counts = (len(SHAPES), self.scales, self.rotations, self.positions, self.positions)
        return dict(zip(("shape", "scale", "rotation", "x", "y"), counts, strict=True))

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return f"drawing-{DRAWING}-{self.size}-{'-'.join(map(str, self.factors.values()))}"

    def read(self, root: Path, split: str) -> RawImages:
        labels = np.indices(tuple(self.factors.values())).reshape(len(self.factors), -1).T
        return RawImages(self._images(), np.ascontiguousarray(labels, np.int64))

    def _images(self) -> Iterator[np.ndarray]:
        scales = np.linspace(0.5, 1, self.scales) if self.scales > 1 else np.ones(1)
        turns = np.arange(self.rotations) / self.rotations
        places = np.linspace(MARGIN, 1 - MARGIN, self.positions) if self.positions > 1 else np.full(1, 0.5)
        for shape in SHAPES:
            for scale in scales:
                for turn in turns:
                    for x in places:
                        yield from draw(shape, scale, turn, x, places, self.size)


def draw(shape: str, scale: float, turn: float, x: float, y: np.ndarray, size: int) -> np.ndarray:
    """A sprite at each of the heights y (n,): (n, size, size) uint8.

    scale in (0, 1], turn in circles, x and y in sides of the picture from its upper left corner.
    """
    pixels = (np.arange(size, dtype=np.float32) + 0.5) / size
    across, down = pixels[None, None, :] - np.float32(x), (pixels[None, :] - y[:, None].astype(np.float32))[:, :, None]
    cos, sin = (np.float32(f(2 * np.pi * turn) / scale) for f in (np.cos, np.sin))
    distance = SHAPES[shape](cos * across + sin * down, cos * down - sin * across) * scale
    return (255 * (0.5 - distance * size).clip(0, 1)).round().astype(np.uint8)
