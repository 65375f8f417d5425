"""InfoGAN: a part of the code is recovered from the image.

Chen et al. 2016, https://arxiv.org/abs/1606.03657, equations 5 and 6. A code is c and noise z; Q(c|x) is
computed from D's features:

    L_I(G, Q) = E log Q(c | G(c, z)) + H(c) <= I(c; G(c, z)),    c ~ p(c)
    min_{G, Q} max_D  V(D, G) - lambda L_I(G, Q)

As in the authors' code D's turn trains Q and the features that they share, G's turn G. Noise is uniform in [-1, 1].
An image is encoded as Q's expectation of c, followed by the noise's mean, 0. The most likely value of the first
category is its cluster.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.batches import Images, Points
from unlabeled.errors import UserError
from unlabeled.losses.mutual_information import Codes
from unlabeled.methods.gan.two_player import TwoPlayerGAN
from unlabeled.nn.gan.discriminators import scores_and_answers

SHOWN = 8  # images in a row


class InfoGAN(TwoPlayerGAN):
    batch = (Images, Points)

    def __init__(
        self,
        codes: Codes,  # c
        discriminator: Callable[..., nn.Module],  # outputs -> D: x (B, ...) -> score (B,), Q (B, outputs)
        category_weight: float,  # lambda of c's categories
        number_weight: float,  # lambda of c's numbers
        **named: Any,  # of TwoPlayerGAN; latent_dim is of c and z
    ):
        super().__init__(discriminator=discriminator(outputs=codes.outputs), **named)
        if self.latent_dim <= codes.dim or category_weight < 0 or number_weight < 0:
            raise UserError(
                f"model=infogan: latent_dim={self.latent_dim}, category_weight={category_weight}, "
                f"number_weight={number_weight}: latent_dim is more than the {codes.dim} of c, weights are 0 or more"
            )
        self.codes = codes
        self.clusters = codes.categories[0]
        self.category_weight, self.number_weight = category_weight, number_weight

    def sample_prior(self, n: int) -> Tensor:
        noise = 2 * torch.rand(n, self.latent_dim - self.codes.dim, device=self.device) - 1
        return torch.cat([self.codes.draw(n, self.device), noise], 1)

    def encode(self, x: Tensor) -> Tensor:
        expected = self.codes.mean(self.discriminator(x)[1].float())
        return torch.cat([expected, expected.new_zeros(len(x), self.latent_dim - self.codes.dim)], 1)

    def assign(self, x: Tensor) -> Tensor:
        return self.discriminator(x)[1][:, : self.clusters].argmax(1)

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Rows of images that differ in the noise only, or in one number only, from -2 to 2 as in figure 2."""
        codes = self.sample_prior(SHOWN).repeat(self.clusters, 1)
        which = torch.arange(self.clusters, device=x.device).repeat_interleave(SHOWN)
        codes[:, : self.clusters] = nn.functional.one_hot(which, self.clusters).to(codes)
        predicted = self.assign(images := self.decode(codes))
        captions = [f"category {c}\npredicted {s}" for c, s in zip(which.tolist(), predicted.tolist(), strict=True)]
        pictures = {"categories": (images, captions)}
        start, steps = sum(self.codes.categories), torch.linspace(-2, 2, SHOWN, device=x.device)
        for i in range(self.codes.numbers):
            moved = codes[::SHOWN][: min(self.clusters, 10)].repeat_interleave(SHOWN, 0)  # a row of each category
            moved[:, start + i] = steps.repeat(len(moved) // SHOWN)
            captions = [f"number {i}: {value:+.1f}" for value in moved[:, start + i].tolist()]
            pictures[f"number_{i}"] = (self.decode(moved), captions)
        return pictures

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        generator, discriminator = self.players()
        last = self.is_update_batch(self.discriminator_steps)
        codes = self.sample_prior(len(batch.x))
        with torch.set_grad_enabled(last), self.statistics(last):
            fake = self.decode(codes)
        c = codes[:, : self.codes.dim]
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach(), c)
        if last:
            self.update(generator, self.generator_loss, batch.x, fake, c)

    def information_loss(self, c: Tensor, q: Tensor, stage: str) -> Tensor:
        """-lambda L_I. Records both parts of L_I, in nats."""
        categories, numbers = self.codes.bound(c, q)
        self.record(**{f"{stage}_category_information": categories, f"{stage}_number_information": numbers})
        return -self.category_weight * categories - self.number_weight * numbers

    def discriminator_loss(self, real: Tensor, fake: Tensor, c: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        (score_real, _), (score_fake, q) = scores_and_answers(self.discriminator, real, fake, self.separate_batches)
        loss = self.penalized_loss((score_real, score_fake), lambda x: self.discriminator(x)[0], real, fake)
        return loss + self.information_loss(c, q, "discriminator")

    def generator_loss(self, real: Tensor, fake: Tensor, c: Tensor) -> Tensor:
        score, q = self.discriminator(self.augmentation(fake))
        loss = self.objective.generator(score.float())
        self.record(generator_loss=loss)
        return loss + self.information_loss(c, q, "generator")
