"""M2 of Kingma et al. 2014, https://arxiv.org/abs/1406.5298, as a prior of codes z.

A code has a class y, uniform, and a style s ~ N(0, I), and is drawn from p(z|y, s).

With q(y|z) a classifier, equations 6 and 7, in nats:

    -L(z, y) = E log p(z|y, s) + log p(y) - KL(q(s|z, y) || p(s)),  s ~ q(s|z, y)     at most log p(z, y)
    -U(z)    = sum_y q(y|z) (-L(z, y)) + H(q(y|z))                                    at most log p(z)
"""

import math

import torch
from torch import Tensor, nn

from unlabeled.distributions.gaussian import log_normal
from unlabeled.distributions.posterior import DiagonalGaussian, Drawn, Infer
from unlabeled.distributions.prior import StandardNormal
from unlabeled.errors import UserError


class M2(nn.Module):
    """A prior of codes z (..., Z) of images, with a class and a style."""

    def __init__(
        self,
        classifier: nn.Module,  # z (B, Z) -> logits (B, K)
        inference: nn.Module,  # z (B, Z), y (B,) -> (B, 2 S), as the posterior q(s|z, y) reads it
        generation: nn.Module,  # s (B, S), y (B,) -> mu and log_var of z, (B, 2 Z)
        style_dim: int,  # S
        classes: int | None,  # K
    ):
        super().__init__()
        if not classes:
            raise UserError(
                "model.prior: M2 learns from class labels, and this data has none: put its images into a folder for "
                "each class, or take data=digits"
            )
        self.classifier = classifier
        self.inference = inference
        self.generation = generation
        self.posterior = DiagonalGaussian()
        self.style = StandardNormal(style_dim)
        self.classes = classes

    def bound(self, z: Tensor, y: Tensor) -> Tensor:
        """-L(z, y), codes (B, Z) and classes (B,) -> (B,), in nats."""
        drawn = self.posterior.draw(self.inference(z, y))
        mu, log_var = self.posterior.read(self.generation(drawn.z, y))
        return log_normal(z, mu, log_var) - math.log(self.classes) - self.style.kl(drawn).sum(1)

    def log_prob(self, z: Tensor, infer: Infer | None = None) -> Tensor:
        """-U(z), (..., Z) -> (...), in nats."""
        flat = z.flatten(0, -2)
        log_q = self.classifier(flat).float().log_softmax(1)  # (B, K)
        every = torch.arange(self.classes, device=z.device).repeat(len(flat))
        bounds = self.bound(flat.repeat_interleave(self.classes, 0), every).unflatten(0, log_q.shape)
        return (log_q.exp() * (bounds - log_q)).sum(1).unflatten(0, z.shape[:-1])

    def kl(self, drawn: Drawn, infer: Infer | None = None) -> Tensor:
        """log q(z|x) + U(z) of the draw, (B, 1), in nats."""
        return (drawn.log_q - self.log_prob(drawn.z))[:, None]

    def sample_class(self, y: Tensor) -> Tensor:
        """A code (B, Z) of each class (B,)."""
        mu, log_var = self.posterior.read(self.generation(self.style.sample(len(y)), y))
        return mu + (log_var / 2).exp() * torch.randn_like(mu)

    def sample(self, n: int, infer: Infer | None = None) -> Tensor:
        """n codes (n, Z)."""
        return self.sample_class(torch.randint(self.classes, (n,), device=self.style.centre.device))
