"""Critic penalties: (critic, real, fake) -> scalar."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


class NoPenalty:
    """0."""

    def __call__(self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        return real.new_zeros(())


class GradientPenalty:
    """weight * E (|grad D(x)| - 1)^2 between real and fake.

    Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, equation 3.

    One epsilon per image; in float32, since squared gradients leave half precision's range. The critic may have no
    batch norm (section 4): its score of one image must not depend on the others.
    """

    differentiates_twice = True

    def __init__(self, weight: float = 10.0):
        self.weight = weight

    def __call__(self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        with torch.autocast(real.device.type, enabled=False), eager(critic):
            epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
            between = (epsilon * real.float() + (1 - epsilon) * fake.float()).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            return self.weight * (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def eager(network: Any) -> AbstractContextManager[Any]:
    """A network that nn.Module.compile has compiled runs as it was written: compiled, it has no second derivative."""
    if getattr(network, "_compiled_call_impl", None) is None:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
