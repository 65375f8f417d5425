"""Wasserstein GAN.

Arjovsky, Chintala & Bottou 2017, https://arxiv.org/abs/1701.07875, algorithm 1: after each step of the critic (here
`discriminator`) each of its weights is clipped to [-c, c].
"""

import sys
from typing import Any

import torch
from torch.optim import Optimizer

from unlabeled.errors import UserError
from unlabeled.methods.gan.gan import GAN
from unlabeled.nn.layers.batch_statistics import has_batch_norm


class WGAN(GAN):
    def __init__(
        self,
        clip_value: float,  # c
        **named: Any,  # of GAN
    ):
        super().__init__(**named)
        if clip_value <= 0:
            raise UserError(f"model.clip_value={clip_value}: it must be positive")
        self.clip_value = clip_value

    def on_fit_start(self) -> None:
        if has_batch_norm(self.discriminator) and self.trainer.is_global_zero:
            print(
                f"note: the critic's weights are clipped to {self.clip_value}, and its batch norm undoes the Lipschitz "
                "bound: model.discriminator.batch_norm=false keeps it",
                file=sys.stderr,
                flush=True,
            )

    @torch.no_grad()
    def clip(self, optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.clamp_(-self.clip_value, self.clip_value)

    def configure_optimizers(self) -> list[Optimizer]:
        generator, discriminator = super().configure_optimizers()
        discriminator.register_step_post_hook(self.clip)
        return [generator, discriminator]
