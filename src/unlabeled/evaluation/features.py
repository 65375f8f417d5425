"""Features of a split's labelled images, extracted once for every probe."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.errors import UserError


class Features(NamedTuple):
    """One row an image, in the order of the split; on the CPU."""

    h: Tensor  # (N, D) float32
    y: Tensor  # (N,) int64, class index


def labelled(loader: Any) -> Tensor:
    """Places in the split, ascending, of the images whose class is known: its label is not -1."""
    labels = torch.cat([batch.y.cpu() for batch in loader])
    return (labels >= 0).nonzero()[:, 0]


@torch.no_grad()
def extract(
    encode: Callable[[Tensor], Tensor],  # x (B, C, H, W) -> h (B, D)
    loader: Any,  # batches of a split in order
    rows: Tensor,  # (N,) places in the split, ascending
    device: torch.device,
) -> Features:
    """Features and labels of `rows`. In evaluation mode no row depends on the rest of its batch."""
    chosen = torch.zeros(int(rows.max()) + 1 if len(rows) else 0, dtype=torch.bool)
    chosen[rows] = True
    features, labels, start = [], [], 0
    for batch in loader:
        keep = chosen[start : start + len(batch.x)].nonzero()[:, 0].to(batch.x.device)
        start += len(batch.x)
        if len(keep):
            features.append(encode(batch.x[keep].to(device)).flatten(1).float().cpu())
            labels.append(batch.y[keep].cpu())
    h = torch.cat(features)
    if not torch.isfinite(h).all():
        raise UserError("the features of some images are not finite: the checkpoint has diverged, take an earlier one")
    return Features(h, torch.cat(labels))


def pixels(x: Tensor) -> Tensor:
    """The images themselves as features (B, C H W); sides above 32 are first scaled down to 32."""
    side = max(x.shape[2:])
    if side > 32:
        size = [max(1, round(32 * s / side)) for s in x.shape[2:]]
        x = interpolate(x, size, mode="bilinear", antialias=True)
    return x.flatten(1)
