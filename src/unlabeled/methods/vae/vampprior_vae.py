"""VAE with a VampPrior.

Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120, equations 9 and 10:

    ELBO = log p(x|z) - [log q(z|x) - log 1/K sum_k q(z|u_k)],  z ~ q(z|x),  u_k learned

The algorithm is VAE's with distributions.prior.VampPrior, plus figures of the learned pseudo-inputs u_k.
"""

from typing import Any

from torch import Tensor

from unlabeled.distributions.prior import VampPrior
from unlabeled.errors import UserError
from unlabeled.methods.vae.vae import VAE


class VampPriorVAE(VAE):
    prior: VampPrior

    def __init__(self, prior: VampPrior, **named: Any):  # named: of VAE
        if not isinstance(prior, VampPrior):
            raise UserError(f"model=vampprior_vae has prior=vamp, not {type(prior).__name__}: for others say model=vae")
        super().__init__(prior=prior, **named)

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Pseudo-inputs, and the images decoded from the means of their components of the prior."""
        images = self.prior.images()[:32]
        captions = [f"component {i + 1}" for i in range(len(images))]
        return {"pseudo_inputs": (images, captions), "components": (self.reconstruct(images), captions)}
