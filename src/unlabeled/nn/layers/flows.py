"""Normalizing flows: invertible maps with a cheap log-determinant."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, softplus

from unlabeled.errors import UserError
from unlabeled.nn.layers.mlp import layers


class Planar(nn.Module):
    """f(z) = z + u tanh(w z + b), `steps` times. Rezende & Mohamed 2015, https://arxiv.org/abs/1505.05770, section 4.1.

    u, w and b of each step come from a linear map of the context (equation 18 and after). f is invertible by the u' of
    appendix A.1, moved along w to w u' = -1 + log(1 + exp(w u)) > -1.
    """

    def __init__(
        self,
        dim: int,  # Z
        context: int,  # dimensions of h, the encoder's context
        steps: int = 10,
    ):
        super().__init__()
        self.dim, self.steps = dim, steps
        self.parameters_of = nn.Linear(context, steps * (2 * dim + 1))
        nn.init.normal_(self.parameters_of.weight, std=0.01)
        nn.init.normal_(self.parameters_of.bias, std=1 / math.sqrt(dim))  # |w| near 1: u' divides by it

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z_0 (N, Z) and h (N, H) -> z (N, Z), log |det dz / dz_0| (N,)."""
        log_det = z.new_zeros(len(z))
        for step in self.parameters_of(h).float().unflatten(1, (self.steps, -1)).unbind(1):
            u, w, b = step.split([self.dim, self.dim, 1], 1)
            wu = (w * u).sum(1, keepdim=True)
            moved = softplus(wu) - 1  # w u'
            u = u + (moved - wu) * w / w.square().sum(1, keepdim=True).clamp(min=1e-8)
            t = torch.tanh((w * z).sum(1, keepdim=True) + b)
            z = z + u * t
            log_det = log_det + torch.log1p(moved * (1 - t.square())).squeeze(1)  # equation 12
        return z, log_det


class Masked(nn.Linear):
    """A linear layer that keeps only the connections of its mask (outputs, inputs)."""

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """m and s (N, Z), whose dimension d depends on z_1 .. z_(d-1) and h only.

    Germain et al. 2015, https://arxiv.org/abs/1502.03509, section 3: a hidden unit of degree k depends on units of
    degree k or less. Paper: degrees from 1 on; here from 0, so that the first dimension has units that read h.
    """

    def __init__(self, dim: int, context: int, hidden: Sequence[int]):
        super().__init__()
        degrees = [torch.arange(1, dim + 1), *(torch.arange(width) % dim for width in hidden)]
        self.hidden = nn.ModuleList(Masked(b[:, None] >= a) for a, b in pairwise(degrees))
        self.context = nn.Linear(context, hidden[0], bias=False)
        self.head = Masked((torch.arange(1, dim + 1)[:, None] > degrees[-1]).repeat(2, 1))

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        first, *others = self.hidden
        x = nn.functional.silu(first(z) + self.context(h))
        for layer in others:
            x = nn.functional.silu(layer(x))
        m, s = self.head(x).float().chunk(2, 1)
        return m, s


class InverseAutoregressive(nn.Module):
    """z <- sigmoid(s) z + (1 - sigmoid(s)) m, `steps` times. Kingma et al. 2016, https://arxiv.org/abs/1606.04934.

    Algorithm 1 with equations 13 and 14: (m, s) = MADE(z, h), and log |det| is the sum of log sigmoid(s). The order of
    the dimensions is reversed after each step.
    """

    def __init__(
        self,
        dim: int,  # Z
        context: int,  # dimensions of h, the encoder's context
        steps: int = 2,
        hidden: Sequence[int] = (128,),  # widths of each step's network
    ):
        super().__init__()
        if steps < 1 or not hidden:
            raise UserError(f"model.posterior.flow: steps={steps}, hidden={list(hidden)}: at least one of each")
        self.steps = nn.ModuleList(MADE(dim, context, hidden) for _ in range(steps))
        for step in self.steps:
            assert isinstance(step, MADE)
            nn.init.constant_(step.head.bias[dim:], 2.0)  # s of 1 to 2: the gate keeps z at first (after equation 14)

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z_0 (N, Z) and h (N, H) -> z (N, Z), log |det dz / dz_0| (N,)."""
        log_det = z.new_zeros(len(z))
        for step in self.steps:
            m, s = step(z, h)
            gate = torch.sigmoid(s)
            z = (gate * z + (1 - gate) * m).flip(1)
            log_det = log_det + logsigmoid(s).sum(1)
        return z, log_det


class RealNVP(nn.Module):
    """Affine coupling layers. Dinh et al. 2017, https://arxiv.org/abs/1605.08803, equations 7 and 8.

    One half of the dimensions is scaled and shifted by functions of the other, then they are exchanged. The log scale
    lies between -2 and 2.
    """

    def __init__(self, dim: int, steps: int = 8, hidden: int = 128):
        super().__init__()
        if dim < 2:
            raise UserError(
                "a flow of couplings needs codes of at least 2 dimensions: take another sampler, such as gmm"
            )
        self.part = dim // 2
        rest = dim - self.part
        wide = [(self.part, rest) if step % 2 == 0 else (rest, self.part) for step in range(steps)]
        self.steps = nn.ModuleList(nn.Sequential(*layers([a, hidden, hidden, 2 * b], nn.SiLU)) for a, b in wide)
        for step in self.steps:
            nn.init.zeros_(step[-1].weight)  # type: ignore[index]
            nn.init.zeros_(step[-1].bias)  # type: ignore[index]

    def read(self, step: nn.Module, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and log scale of the other half."""
        shift, scale = step(fixed).chunk(2, 1)
        return shift, 2 * torch.tanh(scale / 2)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codes z (N, D) -> noise (N, D), log |det| (N,)."""
        fixed, moved = z[:, : self.part], z[:, self.part :]
        log_det = z.new_zeros(len(z))
        for step in self.steps:
            shift, scale = self.read(step, fixed)
            fixed, moved = (moved - shift) * torch.exp(-scale), fixed
            log_det = log_det - scale.sum(1)
        return torch.cat([fixed, moved], 1), log_det

    def inverse(self, noise: Tensor) -> Tensor:
        """Noise (N, D) -> codes (N, D)."""
        wide = self.part if len(self.steps) % 2 == 0 else noise.shape[1] - self.part
        fixed, moved = noise[:, :wide], noise[:, wide:]
        for step in reversed(self.steps):
            shift, scale = self.read(step, moved)
            fixed, moved = moved, fixed * torch.exp(scale) + shift
        return torch.cat([fixed, moved], 1)
