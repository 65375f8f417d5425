"""Autoencoder, plain and regularised.

Rumelhart, Hinton & Williams 1986, https://doi.org/10.1038/323533a0; regularised as Bengio, Courville & Vincent 2013,
https://arxiv.org/abs/1206.5538, section 7.2, write it:

    min over encoder f, decoder g of  E L(x, g(b(f(x)))) + Omega(f, g, x)

with L a distance (losses.distance), b a bottleneck (nn.augment.bottleneck: none, noise, or the largest values only) and
Omega a regularizer (losses.regularizer). Sparse, contractive, redundant and regularised autoencoders differ in L, b or
Omega only: see conf/model/.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.losses.distance import Distance
from unlabeled.losses.regularizer import Regularizer
from unlabeled.methods.autoencoder.filters import filters
from unlabeled.methods.method import Method


class Autoencoder(Method):
    def __init__(
        self,
        encoder: nn.Module,  # f: x (B, C, H, W) -> code (B, D)
        decoder: nn.Module,  # g: code (B, D) -> output (B, C, H, W) for the distance
        distance: Distance,  # L
        bottleneck: nn.Module,  # b: (B, D) -> (B, D); without noise in evaluation
        regularizer: Regularizer,  # Omega
        latent_dim: int,  # D
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.distance = distance
        self.bottleneck = bottleneck
        self.regularizer = regularizer
        self.latent_dim = latent_dim
        self.optimizer = optimizer
        self.schedule = schedule

    def encode(self, x: Tensor) -> Tensor:
        return self.bottleneck(self.encoder(x).float())

    def decode(self, z: Tensor) -> Tensor:
        return self.distance.image(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        return filters(self.encoder, x.shape[1:])

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.loss(batch.x, batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(batch.x, batch.x)

    def loss(self, input: Tensor, target: Tensor) -> Tensor:
        """L(target, g(b(f(input)))) + Omega, mean over the batch; pixels are summed."""
        z = self.encoder(input).float()
        output = self.decoder(self.bottleneck(z)).float()
        error = self.distance(output, target).mean()
        extra = self.regularizer(self.encoder, self.decoder, input, z)
        image = self.distance.image(output.detach())
        self.record(
            loss=error + extra,
            reconstruction_loss=error,
            regularizer=extra,
            mean_squared_error=(image - target).square().mean(),
        )
        return error + extra

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer([*self.encoder.parameters(), *self.decoder.parameters()])
