"""Maximum mean discrepancy, a distance between the distributions of two sets of points. Gretton et al. 2012,
https://jmlr.org/papers/v13/gretton12a.html, equation 3, the unbiased estimator:

    MMD^2 = 1/(n(n-1)) sum_{i != j} k(z_i, z_j) + 1/(m(m-1)) sum_{i != j} k(p_i, p_j) - 2/(nm) sum_{ij} k(z_i, p_j)

Unbiased, as in WAE's algorithm 2, so that it falls below 0 where both are the same; InfoVAE's code keeps i = j, which
adds a constant 1/n + 1/m, so that the loss depends on the batch size.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unlabeled.errors import UserError, require_several

# squared distance over the expected one between two draws of N(0, I_D), times 2; scale -> k, 1 where points meet
KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    # C / (C + |z - p|^2), C = 2 D s: Tolstikhin et al. 2018, https://arxiv.org/abs/1711.01558, section 4
    "imq": lambda distance, scale: scale / (scale + distance),
    # exp(-|z - p|^2 / (2 D s)): Zhao et al. 2019, https://arxiv.org/abs/1706.02262, section 3.2 leaves the width open
    "rbf": lambda distance, scale: torch.exp(-distance / scale),
}


class MMD:
    """MMD^2 of codes and draws of a prior near N(0, I), the mean over kernels of several widths. No unit.

    A scale of 1 is the mean squared distance between two draws of N(0, I), 2 D, whatever the number of dimensions.
    """

    def __init__(
        self,
        kernel: str = "imq",  # "imq", inverse multiquadratic, whose tails still pull on outliers; or "rbf"
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),  # widths: those of the authors of WAE
    ):
        if kernel not in KERNELS:
            raise UserError(f"kernel={kernel}: there are {' and '.join(KERNELS)}")
        if not scales or min(scales) <= 0:
            raise UserError(f"scales={list(scales)}: at least one, all above 0")
        self.kernel = KERNELS[kernel]
        self.scales = tuple(scales)

    def __call__(self, z: Tensor, prior: Tensor) -> Tensor:
        """Codes z (n, D) and draws of the prior (m, D) -> scalar; 0 where either is a single row.

        Raises UserError if that happens in training.
        """
        require_several(z, "MMD")
        if min(len(z), len(prior)) < 2:
            return z.new_zeros(())
        z, prior = z.float(), prior.float()
        within_z, within_prior = self._off_diagonal(z), self._off_diagonal(prior)
        return within_z + within_prior - 2 * self._values(z, prior).mean()

    def _values(self, a: Tensor, b: Tensor) -> Tensor:
        """k of each row of a and of b, (n, m)."""
        # by differences: the short cut |a|^2 + |b|^2 - 2ab loses all digits where points nearly meet
        distance = (a[:, None] - b).square().mean(-1) / 2
        return torch.stack([self.kernel(distance, scale) for scale in self.scales]).mean(0)

    def _off_diagonal(self, a: Tensor) -> Tensor:
        """Mean of k over pairs of different rows."""
        n = len(a)
        return (self._values(a, a).sum() - n) / (n * (n - 1))  # k(a, a) = 1
