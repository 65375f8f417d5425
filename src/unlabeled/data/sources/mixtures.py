"""Mixtures of Gaussians with known modes, so that missing modes can be counted. No download."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unlabeled.errors import UserError


class Mixture:
    """sum_k weight_k N(centre_k, deviation_k^2 I) in any number of dimensions."""

    def __init__(
        self,
        name: str,  # what a user types after `data=`
        centres: Sequence[Sequence[float]],  # K of D numbers
        deviation: float | Sequence[float],  # of each mode, or of all; the same in every direction
        weights: Sequence[float] | None = None,  # K, to any sum; None: all modes are as likely
    ):
        self.name = name
        self.centres = torch.tensor(centres, dtype=torch.float32)  # (K, D)
        modes = len(self.centres)
        if self.centres.ndim != 2:
            raise UserError(f"data.source.centres of data={name}: say a list of points, [[-0.5],[0.5]]")
        self.deviation = torch.as_tensor(deviation, dtype=torch.float32).expand(modes).clone()  # (K,)
        share = torch.ones(modes) if weights is None else torch.tensor(weights, dtype=torch.float32)
        if len(share) != modes or not (share > 0).all() or not (self.deviation > 0).all():
            raise UserError(f"data={name}: each of {modes} modes has one weight and one deviation, above 0")
        self.weights = share / share.sum()  # (K,)

    @property
    def dimensions(self) -> int:
        return self.centres.shape[1]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n points (n, D), and the mode (n,) that each is of."""
        y = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dimensions, generator=generator)
        return self.centres[y] + self.deviation[y, None] * noise, y

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (B,), of points x (B, D)."""
        scale = self.deviation.to(x.device)
        squares = (x[:, None] - self.centres.to(x.device)).square().sum(2) / (2 * scale.square())  # (B, K)
        peak = self.weights.to(x.device).log() - self.dimensions * (scale.log() + math.log(2 * math.pi) / 2)
        return (peak - squares).logsumexp(1)


class Ring(Mixture):
    """Modes evenly on a circle of radius 1, the first at (1, 0)."""

    def __init__(self, modes: int = 8, deviation: float = 0.01):
        if modes < 2:
            raise UserError(f"data.source.modes={modes}: a ring has 2 at least")
        angles = [2 * math.pi * k / modes for k in range(modes)]
        super().__init__("rings", [(math.cos(a), math.sin(a)) for a in angles], deviation)


class Grid(Mixture):
    """side x side modes in [-1, 1]^2, row by row from below."""

    def __init__(self, side: int = 5, deviation: float = 0.0125):
        if side < 2:
            raise UserError(f"data.source.side={side}: a grid has 2 at least")
        places = [2 * i / (side - 1) - 1 for i in range(side)]
        super().__init__("grid25", [(x, y) for y in places for x in places], deviation)
