"""CycleGAN: translation between two domains from unpaired images.

Zhu, Park, Isola & Efros 2017, https://arxiv.org/abs/1703.10593. Translators G: a -> b, F: b -> a, discriminators D:

    G, F minimise  (D_b(G(a)) - 1)^2 + (D_a(F(b)) - 1)^2                              section 4, least squares
                   + lambda (|F(G(a)) - a| + |G(F(b)) - b|)                           equation 2
                   + lambda_identity (|G(b) - b| + |F(a) - a|)                        section 5.2
    D_b minimises  ((D_b(b) - 1)^2 + D_b(pool(G(a)))^2) / 2, and D_a alike            appendix 7.1

each square and absolute value averaged over patches or pixels and channels. The translators move first, then
the discriminators, each pair with one optimizer, as in the authors' released code. The squares of the first line
carry no 1/2, unlike LSGAN's (losses.adversarial.LeastSquares): lambda is measured against them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from unlabeled.batches import Unpaired
from unlabeled.methods.method import Adversarial
from unlabeled.nn.translation.image_pool import ImagePool


class CycleGAN(Adversarial):
    batch = Unpaired

    def __init__(
        self,
        to_b: nn.Module,  # G: a (B, C, H, W) -> b (B, C, H, W) in [-1, 1], row by row: no batch norm
        to_a: nn.Module,  # F: b -> a
        discriminator_a: nn.Module,  # x (B, C, H, W) -> scores (B, ...)
        discriminator_b: nn.Module,
        translator_optimizer: Callable[..., Optimizer],  # parameters -> optimizer
        discriminator_optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rates
        shape: Sequence[int],  # (C, H, W) of the pooled images
        cycle_weight: float = 10.0,  # lambda
        identity_weight: float = 5.0,  # lambda_identity, 0.5 lambda
        pool: int = 50,  # generated images kept of each domain; 0: none
    ):
        super().__init__()
        self.to_b, self.to_a = to_b, to_a
        self.discriminator_a, self.discriminator_b = discriminator_a, discriminator_b
        self.translator_optimizer, self.discriminator_optimizer = translator_optimizer, discriminator_optimizer
        self.schedule = schedule
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.pool_a, self.pool_b = ImagePool(pool, shape), ImagePool(pool, shape)

    def translate(self, a: Tensor) -> Tensor:
        return self.to_b(a)

    def translate_back(self, b: Tensor) -> Tensor:
        return self.to_a(b)

    def training_step(self, batch: Unpaired, batch_idx: int) -> None:
        translators, discriminators = self.players()
        a, b = batch
        # The authors' code calls each translator three times a step. With instance norm rows do not affect each
        # other, so that G(a) and G(b) are one call with the same result.
        fake_b, same_b = self.to_b(torch.cat([a, b])).chunk(2)
        fake_a, same_a = self.to_a(torch.cat([b, a])).chunk(2)
        self.update(translators, self.translator_loss, a, b, fake_a, fake_b, same_a, same_b)
        self.update(discriminators, self.discriminator_loss, a, b, self.pool_a(fake_a), self.pool_b(fake_b))

    def validation_step(self, batch: Unpaired, batch_idx: int) -> None:
        a, b = batch
        cycle_a, cycle_b = self.to_a(self.to_b(a)), self.to_b(self.to_a(b))
        self.record(cycle_a=l1_loss(cycle_a, a), cycle_b=l1_loss(cycle_b, b))

    def translator_loss(
        self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor, same_a: Tensor, same_b: Tensor
    ) -> Tensor:
        generator_loss_a = (self.discriminator_a(fake_a) - 1).square().mean()
        generator_loss_b = (self.discriminator_b(fake_b) - 1).square().mean()
        cycle_a, cycle_b = l1_loss(self.to_a(fake_b), a), l1_loss(self.to_b(fake_a), b)
        identity_a, identity_b = l1_loss(same_a, a), l1_loss(same_b, b)
        self.record(
            generator_loss_a=generator_loss_a, generator_loss_b=generator_loss_b, cycle_a=cycle_a, cycle_b=cycle_b
        )
        self.record(identity_a=identity_a, identity_b=identity_b)
        cycle, identity = cycle_a + cycle_b, identity_a + identity_b
        return generator_loss_a + generator_loss_b + self.cycle_weight * cycle + self.identity_weight * identity

    def discriminator_loss(self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> Tensor:
        loss_a = ((self.discriminator_a(a) - 1).square().mean() + self.discriminator_a(fake_a).square().mean()) / 2
        loss_b = ((self.discriminator_b(b) - 1).square().mean() + self.discriminator_b(fake_b).square().mean()) / 2
        self.record(discriminator_loss_a=loss_a, discriminator_loss_b=loss_b)
        return loss_a + loss_b

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.translator_optimizer([*self.to_b.parameters(), *self.to_a.parameters()]),
            self.discriminator_optimizer([*self.discriminator_a.parameters(), *self.discriminator_b.parameters()]),
        ]
