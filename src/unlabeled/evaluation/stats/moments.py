"""Running sums for the Fréchet distance and the inception score of any number of images."""

import math

import torch
from torch import Tensor

SPLITS, SPLIT_SEED = 10, 2020  # torch-fidelity's, so that the inception score is its number


class Moments:
    """Count, sum and sum of outer products of features, in float64, so that the order of blocks changes nothing."""

    def __init__(self, dim: int):
        self.n = 0
        self.total = torch.zeros(dim, dtype=torch.float64)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, h: Tensor) -> None:
        """h: (B, D)."""
        h = where_float64(h).double()
        if self.total.device != h.device:  # an accelerator's features are summed there
            self.to(h.device)
        self.n += len(h)
        self.total += h.sum(0)
        self.outer.addmm_(h.T, h)

    def merge(self, other: "Moments") -> None:
        self.n += other.n
        self.total += other.total
        self.outer += other.outer

    def without(self, other: "Moments") -> "Moments":
        """The moments of the rows that are not in `other`, which holds a part of the rows."""
        rest = Moments(0)
        rest.n, rest.total, rest.outer = self.n - other.n, self.total - other.total, self.outer - other.outer
        return rest

    def to(self, device: torch.device | str) -> "Moments":
        self.total, self.outer = self.total.to(device), self.outer.to(device)
        return self

    @property
    def mean(self) -> Tensor:
        return self.total / self.n

    @property
    def covariance(self) -> Tensor:
        """Unbiased (D, D)."""
        return (self.outer - self.n * torch.outer(self.mean, self.mean)) / (self.n - 1)


def where_float64(x: Tensor) -> Tensor:
    """x on a device with float64: its own, or the CPU."""
    return x.cpu() if x.device.type == "mps" else x


def frechet(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of two Gaussians, |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^1/2).

    Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6. With B = L L^T, A B and the symmetric L^T A L have the
    same eigenvalues but for zeros. The Cholesky factor is pivoted, and stops at the rank of B: exact where B is
    singular, as it is for fewer images than features.
    """
    from scipy.linalg.lapack import dpstrf

    first, second = a.covariance, b.covariance
    packed, pivots, rank, _ = dpstrf(second.numpy(), lower=1)
    order = torch.from_numpy(pivots).long() - 1
    factor = torch.from_numpy(packed).tril()[:, :rank]  # B[order][:, order] = factor factor^T
    middle = factor.T @ first[order][:, order] @ factor
    root = torch.linalg.eigvalsh(middle).clamp(min=0).sqrt().sum() if rank else 0.0
    distance = (a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * root
    return max(0.0, float(distance))


class ClassSums:
    """Sums of class probabilities p and of their entropy for each split, for the inception score."""

    def __init__(self, n: int, classes: int):
        import numpy as np

        self.splits = min(SPLITS, n)
        order = torch.from_numpy(np.random.RandomState(SPLIT_SEED).permutation(n))
        ends = torch.tensor([(i + 1) * n // self.splits for i in range(self.splits)])
        self.split = torch.empty(n, dtype=torch.int64)  # of each image
        self.split[order] = torch.searchsorted(ends, torch.arange(n), right=True)
        self.counts = self.split.bincount(minlength=self.splits)
        self.p = torch.zeros(self.splits, classes, dtype=torch.float64)
        self.entropy = torch.zeros(self.splits, dtype=torch.float64)

    def update(self, index: Tensor, logits: Tensor) -> None:
        """logits: (B, K) of the images `index`."""
        p = logits.cpu().double().softmax(1)
        of = torch.nn.functional.one_hot(self.split[index], self.splits).double()  # (B, S)
        self.p.addmm_(of.T, p)
        self.entropy += of.T @ torch.special.entr(p).sum(1)

    def merge(self, other: "ClassSums") -> None:
        self.p += other.p
        self.entropy += other.entropy

    @property
    def meaningful(self) -> bool:
        """Whether the score is meaningful: with one image in a split it is always 1."""
        return int(self.counts.min()) > 1

    def score(self) -> tuple[float, float]:
        """exp(mean KL(p(y|x) || p(y))): mean and spread (standard deviation) over the splits.

        Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 4.
        """
        mean = self.p / self.counts[:, None]
        scores = (torch.special.entr(mean).sum(1) - self.entropy / self.counts).exp()
        spread = float(scores.std(correction=0))
        return float(scores.mean()), spread if math.isfinite(spread) else 0.0
