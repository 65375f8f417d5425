"""Autoencoders as discriminators, and the networks of BEGAN.

Zhao et al. 2017, https://arxiv.org/abs/1609.03126, section 2.3; Berthelot et al. 2017, https://arxiv.org/abs/1703.10717,
section 3.5 and figure 1.
"""

from collections.abc import Callable

from torch import Tensor, nn

from unlabeled.nn.layers.init import glorot
from unlabeled.nn.layers.sizes import sides
from unlabeled.nn.layers.upsampling import Enlarge


class Euclidean:
    """The norm of an error (B, ...) -> (B,): EBGAN's energy, equation 13."""

    def __call__(self, error: Tensor) -> Tensor:
        return error.square().flatten(1).sum(1).clamp(min=1e-12).sqrt()


class MeanAbsolute:
    """The mean absolute error over pixels and channels, (B, ...) -> (B,): BEGAN's L(v), equation 1 with eta = 1."""

    def __call__(self, error: Tensor) -> Tensor:
        return error.abs().flatten(1).mean(1)


class AutoencoderDiscriminator(nn.Module):
    """Image (B, C, H, W) -> score (B,): minus the energy of its reconstruction error."""

    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> code (B, D)
        decoder: nn.Module,  # code -> x', unbounded
        energy: Callable[[Tensor], Tensor],  # x' - x (B, C, H, W) -> (B,), not negative
    ):
        super().__init__()
        self.encoder, self.decoder, self.energy = encoder, decoder, energy

    def features(self, x: Tensor) -> Tensor:
        """The code (B, D)."""
        return self.encoder(x)

    def score(self, code: Tensor, x: Tensor) -> Tensor:
        """(B,), of them."""
        return -self.energy(self.decoder(code).float() - x)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.features(x), x)


class Encoder(nn.Sequential):
    """BEGAN's. Image (B, C, H, W) -> code (B, dim): two convolutions a stage, width more channels with each halving."""

    def __init__(self, shape: tuple[int, int, int], dim: int, width: int = 64):
        channels, height, breadth = shape
        pyramid = sides(height, breadth)  # paper: until 8x8, of images of 32 to 128 pixels
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1), nn.ELU()]
        for i, _ in enumerate(pyramid):
            if i:
                layers += [nn.Conv2d(i * width, (i + 1) * width, 3, 2, 1), nn.ELU()]  # rounds up
            layers += [x for _ in range(2) for x in (nn.Conv2d((i + 1) * width, (i + 1) * width, 3, 1, 1), nn.ELU())]
        h, w = pyramid[-1]
        super().__init__(*layers, nn.Flatten(), nn.Linear(len(pyramid) * width * h * w, dim))
        self.apply(initialize)


class Decoder(nn.Sequential):
    """BEGAN's decoder, also its generator. Code (B, dim) -> (B, C, H, W): pixels repeated, two convolutions a stage.

    `bound`: to [-1, 1] by tanh, which the paper does not mention.
    """

    def __init__(self, shape: tuple[int, int, int], dim: int, width: int = 64, bound: bool = False):
        channels, height, breadth = shape
        *larger, (h, w) = sides(height, breadth)
        layers: list[nn.Module] = [nn.Linear(dim, width * h * w), nn.Unflatten(1, (width, h, w))]
        layers += [nn.Conv2d(width, width, 3, 1, 1), nn.ELU(), nn.Conv2d(width, width, 3, 1, 1), nn.ELU()]
        for to in reversed(larger):
            layers += [Enlarge(width, width, to), nn.ELU(), nn.Conv2d(width, width, 3, 1, 1), nn.ELU()]
        super().__init__(*layers, nn.Conv2d(width, channels, 3, 1, 1), *([nn.Tanh()] if bound else []))
        self.apply(initialize)


def initialize(module: nn.Module) -> None:
    """Glorot's: with PyTorch's own a signal vanishes in so many layers without norm, and all images get one code."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        glorot(module)
