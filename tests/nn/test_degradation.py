"""Degradations: what is left, and what is not."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from unlabeled.errors import UserError
from unlabeled.nn.augment.degradation import (
    BlocksHole,
    CentreHole,
    Degradation,
    Edges,
    Grey,
    Hole,
    LowResolution,
    RegionHole,
)

HOLES = [CentreHole(), BlocksHole(), RegionHole()]
ALL = [Edges(), Grey(), LowResolution(2), LowResolution(4), *HOLES]


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("degradation", ALL, ids=repr)
def test_range_type_and_rows(degradation: Degradation) -> None:
    x = images(4, 3, 16, 20)
    torch.manual_seed(0)
    y = degradation(x)
    assert y.dtype == x.dtype and y.abs().max() <= 1 and y.shape[:2] == (4, 3)
    assert degradation(x.bfloat16()).dtype == torch.bfloat16
    torch.manual_seed(0)
    assert torch.equal(degradation(x), y)
    if degradation.random:
        assert not torch.equal(degradation(x), y)
    else:
        torch.testing.assert_close(torch.cat([degradation(one) for one in x.split(1)]), y)


def test_grey_is_the_luma() -> None:
    x = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(Grey()(x), torch.full_like(x, 0.299 - 0.114))


def test_low_resolution_is_matlabs_bicubic() -> None:
    """Against its kernel written out, away from the border, where the two differ."""
    x = images(1, 1, 32, 32).double() * 0.5  # nothing is clamped
    for scale in (2, 4):
        place = (torch.arange(4 * scale, dtype=torch.float64) + 0.5) / scale - 2  # a window about an output pixel
        t = place.abs()
        near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        kernel = torch.where(t <= 1, near, far)
        kernel = kernel / kernel.sum()
        margin = 4 * scale // 2 - scale // 2
        found = conv2d(pad(x, (margin,) * 4), torch.outer(kernel, kernel)[None, None], stride=scale)
        inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
        torch.testing.assert_close(LowResolution(scale)(x.float()).double()[inner], found[inner], rtol=0, atol=1e-6)


def test_edges_are_thin_black_lines_between_areas() -> None:
    x = torch.full((2, 3, 16, 16), -0.5)
    x[0, :, :, 8:] = 0.5  # a step: one line, on either side of it
    x[1, :, 4:12, 4:12] = 0.5  # a square: its outline
    y = Edges()(x)
    assert set(y.unique().tolist()) == {-1.0, 1.0} and torch.equal(y, y[:, :1].expand_as(y))
    line = y[0, 0] < 0
    assert torch.equal(line.sum(1), torch.ones(16, dtype=torch.int64)) and line[:, 7:9].any(1).all()
    outline = y[1, 0] < 0
    assert 24 <= outline.sum() <= 40 and not outline[6:10, 6:10].any() and not outline[:3].any()
    torch.testing.assert_close(Edges()(0.1 * x + 0.3), y)  # contrast and brightness have no effect
    assert (Edges()(torch.zeros(1, 1, 8, 8)) == 1).all()


@pytest.mark.parametrize("hole", HOLES, ids=repr)
def test_nothing_of_what_is_under_a_hole_is_left(hole: Hole) -> None:
    x = images(3, 3, 16, 16)
    mask = hole.mask(x)
    assert mask.shape == (3, 1, 16, 16) and mask.dtype == torch.bool
    y = hole.fill(x, mask)
    assert torch.equal(y, hole.fill(torch.where(mask, torch.nan, x), mask))
    assert torch.equal(y.masked_fill(mask, 0), x.masked_fill(mask, 0))
    inside = y[0, 0][mask[0, 0]]
    assert (inside == inside[0]).all() and inside[0].item() == pytest.approx(
        x[0, 0][~mask[0, 0]].mean().item(), abs=1e-5
    )


def test_holes_cover_their_share() -> None:
    x = images(64, 1, 32, 24)
    share = lambda hole: hole.mask(x).float().mean((1, 2, 3))
    assert (share(CentreHole(0.5)) == 0.25).all()
    assert (share(RegionHole(0.3)) == round(0.3 * 32 * 24) / (32 * 24)).all()
    blocks = share(BlocksHole(0.25, 0.25))  # each adds 36 of 768 pixels at most
    assert (blocks >= 0.25).all() and (blocks < 0.25 + 36 / 768).all() and blocks.std() > 0
    assert len({mask.numpy().tobytes() for mask in BlocksHole().mask(x)}) == 64


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Edges(0), "threshold=0 must be above 0"),
        (lambda: Edges(float("nan")), "threshold=nan must be above 0"),
        (lambda: LowResolution(1), "scale=1 must be a whole number"),
        (lambda: LowResolution(1.5), "scale=1.5 must be a whole number"),  # type: ignore[arg-type]
        (lambda: LowResolution(2)(images(1, 1, 8, 9)), "sides of 8x9 are no multiples of scale=2"),
        (lambda: Grey()(images(1, 1, 4, 4)), "have no colour to lose"),
        (lambda: CentreHole(1), "side=1 must lie between 0 and 1"),
        (lambda: BlocksHole(share=-1), "share=-1 must lie between 0 and 1"),
        (lambda: RegionHole(cells=1), "cells=1 must be a whole number from 2 up"),
    ],
)
def test_what_cannot_be_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=said):
        make()
