"""Batches, as a DataModule gives them to a method: one type for each kind of data.

Images are float tensors (B, C, H, W) in [-1, 1] everywhere between data and evaluation.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """Single images."""

    x: Tensor  # (B, C, H, W) in [-1, 1]
    y: Tensor  # (B,) class index, (B, A) attributes in {0, 1} or (B, F) indices of drawn factors; -1 where unknown


class Points(NamedTuple):
    """Points of a line, a plane or a space of D dimensions."""

    x: Tensor  # (B, D) in about [-1, 1]
    y: Tensor  # (B,) index of each point's mode; -1 if unknown


class Unpaired(NamedTuple):
    """Images of two domains whose rows are unrelated."""

    a: Tensor  # (B, C, H, W) in [-1, 1]
    b: Tensor  # (B, C, H, W) in [-1, 1]


class Paired(NamedTuple):
    """Images of two domains; row i of b is the translation of row i of a."""

    a: Tensor  # (B, C, H, W) in [-1, 1]
    b: Tensor  # (B, C, H, W) in [-1, 1]


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] floats to the nearest of 256 grey levels; values outside are clamped. Inverse of `from_uint8`."""
    return ((x.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def from_uint8(levels: Tensor) -> Tensor:
    """256 grey levels to float32 in [-1, 1]: 0 -> -1, 255 -> 1."""
    return levels.to(torch.float32).div_(127.5).sub_(1)
