"""Generative adversarial network, unconditional.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1: the critic takes k steps, then the generator one.
DCGAN, and whatever differs from it in objective, penalty or network only, is this algorithm: see conf/model/.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.method import Adversarial


class GAN(Adversarial):
    def __init__(
        self,
        generator: Any,  # z (B, Z) -> x (B, C, H, W) in [-1, 1]; generator.latent_dim is Z
        critic: nn.Module,  # x (B, C, H, W) -> score (B,)
        objective: Any,  # losses.adversarial
        penalty: Callable[..., Tensor],  # losses.penalty
        generator_optimizer: Callable[..., Optimizer],
        critic_optimizer: Callable[..., Optimizer],
        critic_steps: int = 1,  # k in algorithm 1
    ):
        super().__init__()
        if critic_steps < 1:
            raise UserError(f"critic_steps={critic_steps}: at least 1")
        self.generator = generator
        self.critic = critic
        self.objective = objective
        self.penalty = penalty
        self.critic_steps = critic_steps
        self.generator_optimizer = generator_optimizer
        self.critic_optimizer = critic_optimizer

    def draw_codes(self, n: int) -> Tensor:
        return torch.randn(n, self.generator.latent_dim, device=self.device)

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).float()

    def sample(self, n: int) -> Tensor:
        return self.decode(self.draw_codes(n))

    def training_step(self, batch: Images, batch_idx: int) -> None:
        players: Any = self.optimizers()
        generator, critic = players
        self.descend(critic, self.critic_loss, batch.x)
        if self.every(self.critic_steps):
            self.descend(generator, self.generator_loss, batch.x)

    def critic_loss(self, real: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.sample(len(real))
        # real and fake apart: batch norm's statistics are of one kind
        score_real, score_fake = self.critic(real).float(), self.critic(fake).float()
        loss = self.objective.critic(score_real, score_fake)
        penalty = self.penalty(self.critic, real, fake)
        self.record(critic_loss=loss, penalty=penalty, score_real=score_real.mean(), score_fake=score_fake.mean())
        return loss + penalty

    def generator_loss(self, real: Tensor) -> Tensor:
        loss = self.objective.generator(self.critic(self.sample(len(real))).float())
        self.record(generator_loss=loss)
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.generator_optimizer(self.generator.parameters()),
            self.critic_optimizer(self.critic.parameters()),
        ]
