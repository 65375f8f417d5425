"""Unrolled GAN: the generator plays against the critic as it will have answered.

Metz et al. 2017, https://arxiv.org/abs/1611.02163, equations 4 to 7. With f_K the value that both play for after K more
steps of the critic, each on this batch, by its own optimizer from where that is:

    theta_G <- theta_G - eta d f_K(theta_G, theta_D) / d theta_G, through the K steps
    theta_D <- theta_D + eta d f(theta_G, theta_D) / d theta_D: it moves one step only

Both from the weights before the batch, so the generator's turn comes first; K = 0 is a GAN whose players move at once.
The generator's loss at the end is the objective's (the authors' code: f itself, minimax; in the text, either).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from unlabeled.batches import Images, Points
from unlabeled.errors import UserError
from unlabeled.losses.penalty import eager
from unlabeled.methods.gan.gan import GAN
from unlabeled.nn.unrolling import check_unrolls, unrolled


class UnrolledGAN(GAN):
    def __init__(
        self,
        unrolled_steps: int,  # K
        **named: Any,  # of GAN
    ):
        super().__init__(**named)
        if unrolled_steps < 0:
            raise UserError(f"model.unrolled_steps={unrolled_steps}: 0 or more")
        self.unrolled_steps = unrolled_steps

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        players: Any = self.optimizers()
        generator, critic = players
        last = self.every(self.critic_steps)
        with torch.set_grad_enabled(last):
            fake = self.draw(len(batch.x), last)
        if last:
            self.descend(generator, self.generator_loss, batch.x, fake)
        self.descend(critic, self.critic_loss, batch.x, fake.detach())

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        players: Any = self.optimizers()
        real, fake = self.augmentation(real), self.augmentation(fake)
        with eager(self.critic):
            loss = self.objective.generator(self.ahead(players[1].optimizer, real, fake)(fake))
        self.record(generator_loss=loss)
        return loss

    def ahead(self, optimizer: Optimizer, real: Tensor, fake: Tensor) -> Callable[[Tensor], Tensor]:
        """The critic K steps on, a function of fakes that carries a graph back to `fake`."""
        names = [name for name, _ in self.critic.named_parameters()]

        def judge(weights: Sequence[Tensor], x: Tensor) -> Tensor:
            still = {name: buffer.clone() for name, buffer in self.critic.named_buffers()}  # the critic's own stay
            return functional_call(self.critic, still | dict(zip(names, weights, strict=True)), (x,)).float()

        def loss(weights: Sequence[Tensor]) -> Tensor:
            if self.apart:
                score_real, score_fake = judge(weights, real), judge(weights, fake)
            else:
                score_real, score_fake = judge(weights, torch.cat([real, fake])).split([len(real), len(fake)])
            penalty = self.penalty(lambda x: judge(weights, x), real, fake)
            return self.objective.critic(score_real, score_fake) + penalty

        moved = unrolled(optimizer, loss, self.unrolled_steps)
        return lambda x: judge(moved, x)

    def configure_optimizers(self) -> list[Optimizer]:
        generator, critic = super().configure_optimizers()
        check_unrolls(critic)
        return [generator, critic]
