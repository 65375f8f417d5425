"""Bidirectional GAN: an encoder beside the generator, and a discriminator of images and codes together.

Donahue, Krahenbuhl & Darrell 2017, https://arxiv.org/abs/1605.09782, equation 3; with Dumoulin et al. 2017 (ALI),
https://arxiv.org/abs/1606.00704, whose encoder is stochastic:

    min_{G, E} max_D  E log D(x, E(x)) + E log(1 - D(G(z), z))

At the optimum E inverts G (theorem 2), although images are never compared with their reconstructions. G and E minimise
the discriminator's objective with real and fake exchanged (section 3.5), not minus its value. Paper: z uniform in
[-1, 1]; here Gaussian, as in the other GANs.
"""

from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.methods.gan.two_player import TwoPlayerGAN
from unlabeled.nn.layers.batch_statistics import freeze_batch_norm_stats


class BiGAN(TwoPlayerGAN):
    # discriminator: x (B, C, H, W), z (B, Z) -> score (B,)

    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> z (B, Z)
        **named: Any,  # of TwoPlayerGAN; generator_optimizer is the encoder's too
    ):
        super().__init__(**named)
        self.encoder = encoder

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def statistics(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else freeze_batch_norm_stats(nn.ModuleList([self.generator, self.encoder]))

    def training_step(self, batch: Images, batch_idx: int) -> None:
        both, discriminator = self.players()
        last = self.is_update_batch(self.discriminator_steps)
        z = self.sample_prior(len(batch.x))
        with torch.set_grad_enabled(last), self.statistics(last):
            fake, found = self.decode(z), self.encode(batch.x)
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach(), found.detach(), z)
        if last:
            self.update(both, self.generator_loss, batch.x, fake, found, z)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.record(mean_squared_error=(self.reconstruct(batch.x) - batch.x).square().mean())

    def discriminator_loss(self, real: Tensor, fake: Tensor, found: Tensor, z: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        pixels = prod(real.shape[1:])  # for a penalty each pair is one vector, image and code

        def score(pair: Tensor) -> Tensor:
            return self.discriminator(pair[:, :pixels].unflatten(1, real.shape[1:]), pair[:, pixels:])

        pair_real, pair_fake = (torch.cat([x.flatten(1), code], 1) for x, code in ((real, found), (fake, z)))
        return self.penalized_loss(self.scores(real, fake, found, z), score, pair_real, pair_fake)

    def generator_loss(self, real: Tensor, fake: Tensor, found: Tensor, z: Tensor) -> Tensor:
        score_real, score_fake = self.scores(self.augmentation(real), self.augmentation(fake), found, z)
        loss = self.objective.discriminator(score_fake, score_real)
        self.record(generator_loss=loss)
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        of_both = [*self.generator.parameters(), *self.encoder.parameters()]
        return [self.generator_optimizer(of_both), self.discriminator_optimizer(self.discriminator.parameters())]
