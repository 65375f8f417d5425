"""Features of the examples of a split."""

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import interpolate


class Features(NamedTuple):
    """One row for each example, in the order of the split; on the CPU."""

    h: Tensor  # (N, D) float32
    y: Tensor  # (N,) class index, (N, A) attributes or (N, F) indices of factors, int64; -1 where unknown


def pixels(x: Tensor) -> Tensor:
    """Pixels as features (B, C H W); images with sides above 32 are first scaled down to 32."""
    side = max(x.shape[2:])
    if side > 32:
        size = [max(1, round(32 * s / side)) for s in x.shape[2:]]
        x = interpolate(x, size, mode="bilinear", antialias=True)
    return x.flatten(1)
