"""Statistics of pairs of features: kernel distance, precision, recall, density, coverage, nearest neighbors.

All use inner products of features, computed once in blocks of rows: no N x N matrix is kept.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unlabeled.evaluation.stats.fits import quiet

MANIFOLD = 3  # neighbors whose distance is the radius in precision and recall (Kynkäänniemi et al.)
BALL = 5  # neighbors whose distance is the radius in density and coverage (Naeem et al.)
SUBSETS, SUBSET, SUBSET_SEED = 100, 1000, 2020  # torch-fidelity's, so that the kernel distance is its number
STEP = 5_000_000  # pairs at a time: 20 MB of distances, 40 MB of the kernel


class FeatureSet:
    """Features (N, D) minus a common centre: a mean far from 0 would exceed the precision of float32."""

    def __init__(self, h: Tensor, centre: Tensor, device: torch.device):
        x = h.double() - centre  # (N, D); centre (D,) float64
        self.x = x.float().to(device)
        self.norm = x.square().sum(1).float().to(device)  # |x|^2
        # h_i . h_j / D + 1 = x_i . x_j / D + shift_i + shift_j
        self.shift = ((x @ centre + centre @ centre / 2) / h.shape[1] + 0.5).to(device)  # float64: its cube is large

    def __len__(self) -> int:
        return len(self.x)


class SelfStats(NamedTuple):
    """Statistics within one set."""

    manifold: Tensor  # (N,) squared distance to the MANIFOLD-th neighbor
    ball: Tensor  # (N,) the same to the BALL-th
    kernel: Tensor  # (S,) sum over the ordered pairs of different members of each subset


class Cross(NamedTuple):
    """Statistics between a set and its reference."""

    precision: float
    recall: float
    density: float
    coverage: float
    kernel: Tensor  # (S,) sum over the pairs of each subset
    distance: Tensor  # (N,) squared, from each to the nearest of the reference
    nearest: Tensor  # (N,) which that is


def subsets(n: int, m: int) -> tuple[Tensor, Tensor]:
    """Which of n and of m images are in each of the kernel distance's subsets: (n, S) and (m, S), 0 or 1."""
    random = np.random.RandomState(SUBSET_SEED)
    size = min(SUBSET, n, m)
    members = torch.zeros(n, SUBSETS), torch.zeros(m, SUBSETS)
    for s in range(SUBSETS):
        for own in members:
            own[random.choice(len(own), size, replace=False), s] = 1
    return members


def products(x: FeatureSet, y: FeatureSet) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows of x, and for each of them with all of y: inner products and squared distances (b, M)."""
    step = max(1, STEP // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        product = x.x[rows] @ y.x.T
        yield rows, product, torch.add(x.norm[rows, None] + y.norm, product, alpha=-2).clamp_(min=0)


def kernel(x: FeatureSet, y: FeatureSet, rows: slice, product: Tensor) -> Tensor:
    """(h_i . h_j / D + 1)^3 of these rows of x and all of y, (b, M).

    In float64: if the mean is far from 0, its values are large and differ by little.
    """
    base = product.double().div_(x.x.shape[1]).add_(x.shift[rows, None]).add_(y.shift)
    return base.square().mul_(base)


def within(x: FeatureSet, members: Tensor) -> SelfStats:
    """members: (N, S), 1 where a row is in a subset."""
    members = members.to(x.shift)
    radii, sums = [], torch.zeros(members.shape[1], dtype=torch.float64)
    ks = [min(k, len(x) - 1) for k in (MANIFOLD, BALL)]
    for rows, product, squared in products(x, x):
        similarity = kernel(x, x, rows, product)
        own = torch.arange(rows.start, rows.stop, device=squared.device)
        similarity[own - rows.start, own] = 0  # a pair is of two
        radii.append(squared.topk(max(ks) + 1, largest=False).values[:, ks].cpu())
        sums += inside(similarity, members[rows], members)
    manifold, ball = torch.cat(radii).unbind(1)
    return SelfStats(manifold, ball, sums)


def between(
    x: FeatureSet, y: FeatureSet, own: SelfStats, reference: SelfStats, members: tuple[Tensor, Tensor]
) -> Cross:
    """x: the set, y: the reference, with the statistics within each and the members of the subsets.

    precision: share of x within a ball of y; recall: of y within a ball of x (Kynkäänniemi et al. 2019,
    https://arxiv.org/abs/1904.06991, eq. 1 and 2). density: how many balls of y an image of x lies in, over the number
    that the reference's own lie in; coverage: share of y's balls with an image of x in them (Naeem et al. 2020,
    https://arxiv.org/abs/2002.09797, eq. 3 and 4). A ball includes its border.
    """
    device = x.x.device
    manifold_x, manifold_y, ball_y = (r.to(device) for r in (own.manifold, reference.manifold, reference.ball))
    members_x, members_y = (part.to(x.shift) for part in members)
    precise, dense = 0, 0
    recalled = torch.zeros(len(y), dtype=torch.bool, device=device)
    covered = recalled.clone()
    sums = torch.zeros(members_x.shape[1], dtype=torch.float64)
    nearest = []
    for rows, product, squared in products(x, y):
        precise += int((squared <= manifold_y).any(1).sum())
        recalled |= (squared <= manifold_x[rows, None]).any(0)
        in_ball = squared <= ball_y
        dense += int(in_ball.sum())
        covered |= in_ball.any(0)
        sums += inside(kernel(x, y, rows, product), members_x[rows], members_y)
        nearest.append(torch.stack([part.cpu().double() for part in squared.min(1)]))
    distance, index = torch.cat(nearest, 1)
    return Cross(
        precision=precise / len(x),
        recall=float(recalled.double().mean()),
        density=dense / (min(BALL, len(y) - 1) * len(x)),
        coverage=float(covered.double().mean()),
        kernel=sums,
        distance=distance,
        nearest=index.long(),
    )


def inside(similarity: Tensor, members_x: Tensor, members_y: Tensor) -> Tensor:
    """The sum of similarities (b, M) over each subset's pairs, (S,), float64 on the CPU."""
    return ((similarity @ members_y) * members_x).sum(0).cpu()


def kernel_distance(x: Tensor, y: Tensor, cross: Tensor, size: int) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy under (x . y / D + 1)^3: mean and spread over the subsets.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4. x, y, cross: (S,) sums of the kernel over the
    pairs of `size` images.
    """
    each = (x + y) / (size * (size - 1)) - 2 * cross / size**2
    return float(each.mean()), float(each.std(correction=0))


def search(
    x: FeatureSet,
    bank: Tensor,  # (M, D) features
    centre: Tensor,  # (D,) x's
    distance: Tensor,  # (N,) squared, to the nearest that is known
    nearest: Tensor,  # (N,) its number
    numbers: Tensor,  # (M,) of the bank's rows
) -> tuple[Tensor, Tensor]:
    """`distance` and `nearest` (N,) after looking through the bank too."""
    for part, own in zip(bank.split(10_000), numbers.split(10_000), strict=True):
        if not len(part):
            continue  # `split` gives one empty part of an empty bank
        found = [squared.min(1) for _, _, squared in products(x, FeatureSet(part, centre, x.x.device))]
        squared = torch.cat([each.values for each in found]).cpu().double()
        index = torch.cat([each.indices for each in found]).cpu()
        nearest = torch.where(squared < distance, own[index], nearest)
        distance = torch.minimum(squared, distance)
    return distance, nearest


def nearer(samples: Tensor, unseen: Tensor) -> float:
    """P(a sample is nearer than an unseen image is to its own nearest), in %; ties count half. Mann & Whitney's U."""
    from scipy.stats import mannwhitneyu

    with quiet():
        u = mannwhitneyu(unseen.numpy(), samples.numpy(), method="asymptotic").statistic
    return 100 * float(u) / (len(samples) * len(unseen))
