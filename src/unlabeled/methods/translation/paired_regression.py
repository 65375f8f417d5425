"""Regression of an image's counterpart: translation learned from pairs, without a discriminator.

Minimises d(G(a), b) over pairs (a, b), d a distance (losses.distance). With the absolute error it is the "L1" of
Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 4.1: the median of what b may be, which is blurred.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from unlabeled.batches import Paired
from unlabeled.losses.distance import Distance
from unlabeled.methods.method import Method


class PairedRegression(Method):
    batch = Paired

    def __init__(
        self,
        generator: nn.Module,  # a (B, C, H, W) -> b (B, C, H, W)
        distance: Distance,
        optimizer: Callable[..., Optimizer],  # parameters -> optimizer
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        self.generator = generator
        self.distance = distance
        self.optimizer = optimizer
        self.schedule = schedule

    def translate(self, a: Tensor) -> Tensor:
        return self.distance.image(self.generator(a))

    def training_step(self, batch: Paired, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Paired, batch_idx: int) -> None:
        self.loss(batch)

    def loss(self, batch: Paired) -> Tensor:
        """The distance, mean over the batch. Records it, and the absolute error, mean over pixels and channels."""
        output = self.generator(batch.a)
        loss = self.distance(output, batch.b).mean()
        self.record(loss=loss, l1=l1_loss(self.distance.image(output), batch.b))
        return loss

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.generator.parameters())
