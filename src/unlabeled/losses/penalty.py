"""Discriminator penalties: (discriminator, real, fake) -> scalar."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from unlabeled.errors import UserError

Score = Callable[[Tensor], Tensor]  # x (B, ...) -> score (B,)


class Penalty(Protocol):
    def __call__(self, discriminator: Score, real: Tensor, fake: Tensor) -> Tensor:
        """Of real and fake images (B, ...) -> scalar."""


class NoPenalty:
    """0."""

    def __call__(self, discriminator: Score, real: Tensor, fake: Tensor) -> Tensor:
        return real.new_zeros(())


class GradientPenalty:
    """weight * E (|grad D(x)| - 1)^2 between real and fake.

    Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, equation 3.

    One epsilon per image; in float32, since squared gradients leave half precision's range. The critic must not have
    batch norm (section 4): its score of one image must not depend on the others.
    """

    needs_double_backward = True

    def __init__(self, weight: float = 10.0):
        self.weight = check_weight(weight)

    def __call__(self, discriminator: Score, real: Tensor, fake: Tensor) -> Tensor:
        excess = slope(discriminator, between(real, fake)) - 1
        return self.weight * self.cost(excess).mean()

    def cost(self, excess: Tensor) -> Tensor:
        return excess.square()


class OneSidedGradientPenalty(GradientPenalty):
    """weight * E max(0, |grad D(x)| - 1)^2 between real and fake: smaller slopes are free.

    Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, section 4; Petzka et al. 2018, https://arxiv.org/abs/1709.08894
    """

    def cost(self, excess: Tensor) -> Tensor:
        return excess.relu().square()


class Dragan:
    """weight * E (|grad D(x + delta)| - 1)^2 around real images.

    Kodali et al. 2017, https://arxiv.org/abs/1705.07215, equation 4. As in the authors' code, x goes a uniform share of
    the way to x + spread * std(x) * u, u uniform in [0, 1) for each number (the paper writes normal noise); std is of
    each image, not of the batch.
    """

    needs_double_backward = True

    def __init__(self, weight: float = 10.0, spread: float = 0.5):
        self.weight = check_weight(weight)
        self.spread = spread

    def __call__(self, discriminator: Score, real: Tensor, fake: Tensor) -> Tensor:
        real = real.float()
        spread = self.spread * real.flatten(1).std(1).view(-1, *[1] * (real.ndim - 1))
        near = real + spread * torch.rand_like(real)
        return self.weight * (slope(discriminator, between(real, near)) - 1).square().mean()


class R1:
    """weight / 2 * E |grad D(x)|^2 at real images.

    Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, equation 9.
    """

    needs_double_backward = True

    def __init__(self, weight: float = 10.0):
        self.weight = check_weight(weight)

    def __call__(self, discriminator: Score, real: Tensor, fake: Tensor) -> Tensor:
        return (
            self.weight
            / 2
            * torch.stack([squared_slope(discriminator, x).mean() for x in self.places(real, fake)]).sum()
        )

    def places(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        return [real]


class R2(R1):
    """weight / 2 * E |grad D(G(z))|^2 at fakes.

    Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, equation 10.
    """

    def places(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        return [fake]


class R1AndR2(R1):
    """Both zero-centred penalties, as in Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3."""

    def places(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        return [real, fake]


def check_weight(weight: float) -> float:
    if weight < 0:
        raise UserError(f"model.penalty.weight={weight}: it must not be negative")
    return weight


def between(a: Tensor, b: Tensor) -> Tensor:
    """A point on the line from each of a to its one of b, (B, ...)."""
    share = torch.rand(len(a), *[1] * (a.ndim - 1), device=a.device)
    return share * a.float() + (1 - share) * b.float()


def squared_slope(discriminator: Score, x: Tensor) -> Tensor:
    """|grad D(x)|^2 of each of x (B, ...), (B,), with a graph; in float32, where squares do not overflow."""
    with torch.autocast(x.device.type, enabled=False), eager(discriminator):
        x = x.detach().float().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
        return gradient.square().flatten(1).sum(1)


def slope(discriminator: Score, x: Tensor) -> Tensor:
    """|grad D(x)| of each of x (B, ...), (B,), with a graph, with a finite derivative where it is 0."""
    return squared_slope(discriminator, x).clamp(min=1e-12).sqrt()


def eager(network: Any) -> AbstractContextManager[Any]:
    """Run a network without its compiled form, which has no second derivative."""
    if getattr(network, "_compiled_call_impl", None) is None:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
