"""Autoencoder.

Rumelhart, Hinton & Williams 1986, https://doi.org/10.1038/323533a0; here convolutional, as in Fleuret's EE-559 course,
https://fleuret.org/dlc/:

    min over encoder f, decoder g of  E |x - g(f(x))|^2
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.methods.method import Method


class Autoencoder(Method):
    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> code (B, D)
        decoder: nn.Module,  # code (B, D) -> (B, C, H, W)
        latent_dim: int,  # D
        optimizer: Callable[..., Optimizer],
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.optimizer = optimizer

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).float()

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).float().clamp(-1, 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        error = (batch.x - self.decoder(self.encoder(batch.x)).float()).square()
        loss = error.sum((1, 2, 3)).mean()  # over pixels the sum, over the batch the mean
        self.record(loss=loss, mean_squared_error=error.mean())
        return loss

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters())
