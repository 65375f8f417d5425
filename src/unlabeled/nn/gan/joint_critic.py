"""A discriminator of an image and a code together. Dumoulin et al. 2017, https://arxiv.org/abs/1606.00704, section 2.2."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unlabeled.nn.autoencoders.fully_connected import layers


class JointDiscriminator(nn.Module):
    """x (B, ...), z (B, latent_dim) -> score (B,), unbounded: D(D_x(x), D_z(z))."""

    any_shape = True  # its body says what it takes

    def __init__(
        self,
        body: nn.Module,  # D_x: a discriminator that gives features(x); its own score has no part
        shape: Sequence[int],  # of x
        latent_dim: int,
        hidden: int = 512,  # width of the layers of z and of both
    ):
        super().__init__()
        training = body.training
        with torch.no_grad():
            width = body.eval().features(torch.zeros(1, *shape)).numel()  # type: ignore[operator]
        self.body = body.train(training)
        activation = lambda: nn.LeakyReLU(0.2)
        self.code = nn.Sequential(*layers([latent_dim, hidden, hidden], activation), activation())
        self.both = nn.Sequential(*layers([width + hidden, hidden, hidden, 1], activation))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        features = self.body.features(x).flatten(1)  # type: ignore[operator]
        return self.both(torch.cat([features, self.code(z).to(features.dtype)], 1))[:, 0]
