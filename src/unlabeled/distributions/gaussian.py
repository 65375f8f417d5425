"""Diagonal Gaussians in closed form."""

import math

import torch
from torch import Tensor


def kl_to_standard_normal_terms(mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mu, var) || N(0, 1)) of each dimension in nats, (..., D). Kingma & Welling 2014, appendix B."""
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


def kl_between_terms(mu: Tensor, log_var: Tensor, mu_p: Tensor, log_var_p: Tensor) -> Tensor:
    """KL(N(mu, var) || N(mu_p, var_p)) of each dimension in nats, (..., D)."""
    difference = log_var - log_var_p
    return 0.5 * ((mu - mu_p).square() * torch.exp(-log_var_p) + difference.exp() - 1 - difference)


def kl_to_standard_normal(mu: Tensor, log_var: Tensor) -> Tensor:
    """Their sum, (..., D) -> (...)."""
    return kl_to_standard_normal_terms(mu, log_var).sum(-1)


def log_normal(x: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """log N(x; mu, var) in nats, (..., D) -> (...)."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mu).square() * torch.exp(-log_var)).sum(-1)
