"""Path-length regularisation, by which steps of one length in w change images by one amount."""

import torch
from torch import Tensor

from unlabeled.errors import UserError


class PathLength:
    """weight * E (|J_w^T y| - a)^2, J_w the Jacobian of images by their styles, y ~ N(0, I / (H W)).

    Karras et al. 2020, https://arxiv.org/abs/1912.04958, equation 4; a is the running mean of lengths, a constant to
    the gradient. Squared lengths are means over layers. The weight of 2 is the authors' ln 2 / (r^2 (ln r - ln 2)) of
    appendix B: 2 over the pixels and over the 2 log2(r) - 2 layers of an image of r x r.
    """

    needs_double_backward = True

    def __init__(self, weight: float = 2.0, decay: float = 0.01):
        if weight < 0:
            raise UserError(f"model.path_length.weight={weight}: it must not be negative")
        self.weight = weight
        self.decay = decay  # the share of a new length in the running mean

    def lengths(self, x: Tensor, w: Tensor) -> Tensor:
        """|J_w^T y|, (B,), of images x (B, C, H, W) made of styles w (B, layers, W), with a graph."""
        y = torch.randn_like(x) / (x.shape[2] * x.shape[3]) ** 0.5
        (product,) = torch.autograd.grad((x * y).sum(), w, create_graph=True)
        return product.square().sum(2).mean(1).clamp(min=1e-12).sqrt()

    def __call__(self, lengths: Tensor, mean: Tensor) -> Tensor:
        return self.weight * (lengths - mean).square().mean()
