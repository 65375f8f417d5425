"""Regularizers of autoencoders: (encoder, decoder, x, z) -> scalar, z = f(x) (B, D) before any noise.

Each is a mean over the batch; units and pixels are summed. Jacobians and gradients are in float32.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError


class Regularizer(Protocol):
    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        """Images x (B, C, H, W) and their codes z (B, D) -> scalar."""


class NoRegularizer:
    """0."""

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        return z.new_zeros(())


class Sum:
    """The sum of several regularizers."""

    def __init__(self, parts: dict[str, Regularizer]):
        self.parts = parts

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        return torch.stack([part(encoder, decoder, x, z) for part in self.parts.values()]).sum()


# Sparse codes


class L1:
    """weight |z|_1."""

    def __init__(self, weight: float = 0.1):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        return self.weight * z.abs().sum(1).mean()


class KLSparsity:
    """weight sum_j KL(rho || rho_j), rho_j the mean of unit j over the batch, in nats. Ng 2011, Sparse autoencoder.

    Units are sigmoids, each to be active in a share rho of images. Ng's mean is over all training images, here over
    the batch, so that batches of fewer than about 1 / rho images cannot reach it.
    """

    def __init__(self, weight: float = 0.1, rho: float = 0.05):
        if not 0 < rho < 1:
            raise UserError(f"regularizer=kl_sparsity: rho={rho} must lie between 0 and 1")
        self.weight, self.rho = weight, rho

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        if z.min() < 0 or z.max() > 1:
            raise UserError(
                "regularizer=kl_sparsity needs codes in [0, 1], the activities of sigmoid units, and these are not: "
                "say model.encoder.code._target_=torch.nn.Sigmoid, of a fully connected encoder"
            )
        active = z.float().mean(0).clamp(1e-6, 1 - 1e-6)  # finite logarithms for units that are never active
        rho = torch.full_like(active, self.rho)
        divergence = rho * (rho / active).log() + (1 - rho) * ((1 - rho) / (1 - active)).log()
        return self.weight * divergence.sum()


class Weights:
    """weight |theta|^2, theta all weights of both networks but not their biases: Ng 2011's weight decay."""

    def __init__(self, weight: float = 0.01):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        weights = [p for network in (encoder, decoder) for p in network.parameters() if p.ndim > 1]
        return self.weight * torch.stack([p.square().sum() for p in weights]).sum()


# Contraction: Rifai et al. 2011, https://icml.cc/2011/papers/455_icmlpaper.pdf, equation 2. x is in [0, 1] there:
# that Jacobian is twice, its square four times the one of images in [-1, 1].


class ContractiveLayer:
    """weight |J_f(x)|_F^2 in closed form, of one sigmoid layer: sum_j (z_j (1 - z_j))^2 |W_j|^2, equation 5's."""

    def __init__(self, weight: float = 0.1):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        linear = [part for part in encoder.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        sigmoid = [part for part in encoder.modules() if isinstance(part, nn.Sigmoid)]
        if len(linear) != 1 or not isinstance(linear[0], nn.Linear) or len(sigmoid) != 1:
            raise UserError(
                "regularizer=contractive_layer is for an encoder of one sigmoid layer (fully_connected_encoder with "
                "model.encoder.hidden=[] model.encoder.code._target_=torch.nn.Sigmoid): take regularizer=contractive"
            )
        slope = (z * (1 - z)).square()  # (B, D)
        return self.weight * (slope @ linear[0].weight.float().square().sum(1)).mean()


class Contractive:
    """weight |J_f(x)|_F^2 of any encoder, estimated: E |v^T J|^2 over random signs v (Hutchinson 1989)."""

    def __init__(self, weight: float = 0.1, num_samples: int = 1):
        if num_samples < 1:
            raise UserError(f"regularizer=contractive: num_samples={num_samples}: at least 1")
        self.weight, self.num_samples = weight, num_samples

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        signs = (random_signs(z) for _ in range(self.num_samples))
        return 4 * self.weight / self.num_samples * squared_products(encoder, x.detach(), signs)


class ContractiveExact:
    """The same exactly, by one vector-Jacobian product for each number of the code."""

    def __init__(self, weight: float = 0.1):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        units = torch.eye(z.shape[1], device=z.device)
        return 4 * self.weight * squared_products(encoder, x.detach(), (unit.expand(z.shape) for unit in units))


# Ghosh et al. 2020, https://arxiv.org/abs/1903.12436, section 3.2


class CodeNorm:
    """weight |z|^2 / 2: equation 7's second term."""

    def __init__(self, weight: float = 4e-4):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        return self.weight * z.square().sum(1).mean() / 2


class DecoderWeights:
    """weight |theta|^2, theta all of the decoder's parameters."""

    def __init__(self, weight: float = 4e-7):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        return self.weight * torch.stack([p.square().sum() for p in decoder.parameters()]).sum()


class DecoderGradient:
    """weight |J_g(z)|_F^2 of the decoder's output, estimated by one random sign a pixel.

    The authors' code takes the gradient of the sum of all pixels, one fixed direction in which changes can cancel.
    """

    def __init__(self, weight: float = 4e-7):
        self.weight = weight

    def __call__(self, encoder: nn.Module, decoder: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            signs = random_signs(decoder(z))
        return self.weight * squared_products(decoder, z, [signs])


def random_signs(like: Tensor) -> Tensor:
    """-1 or 1, each by a fair coin."""
    return torch.empty_like(like, dtype=torch.float32).bernoulli_(0.5).mul_(2).sub_(1)


def squared_products(
    network: Callable[[Tensor], Tensor],
    x: Tensor,  # (B, ...)
    directions: Iterable[Tensor],  # of the shape of network(x)
) -> Tensor:
    """sum over directions v of |v^T J(x)|^2, J the network's Jacobian, mean over the batch; also in validation."""
    training = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.float() if x.requires_grad else x.float().clone().requires_grad_()
        output, total = network(x), []
        for v in directions:
            (gradient,) = torch.autograd.grad(output, x, v.clone(), create_graph=training, retain_graph=True)
            total.append(gradient.square().flatten(1).sum(1).mean())
        return torch.stack(total).sum()
