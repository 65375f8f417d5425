"""Progressive GAN: both networks grow together, from the smallest images to the largest.

Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 2 and appendix A. Of S sizes the first is trained, then
each next one fades in and is trained: 2 S - 1 phases, here equal shares of the budget (paper: 600,000 images each, or
800,000). While a size fades in, real images are blended too. Adam forgets its moments when a size is added, as in the
authors' code. Otherwise as GAN, with WGAN-GP's objective and a drift term.
"""

from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images, Points
from unlabeled.methods.gan.gan import GAN
from unlabeled.nn.gan.progressive import Discriminator, Generator, resized

SIZE = 1_000_000  # units of growth from one size to the next: an integer buffer is exact in a checkpoint


class ProgressiveGAN(GAN):
    grown: Tensor
    generator: Generator
    discriminator: Discriminator

    def __init__(self, **named: Any):  # of GAN
        super().__init__(**named)
        self.reached = 0  # `grown` on the host
        self.register_buffer("grown", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_post_hook(lambda method, _: method.grow(int(method.grown)))
        self.grow(0)

    def grow(self, reached: int) -> None:
        self.reached = reached
        self.grown.fill_(reached)
        for network in (self.generator, self.discriminator):
            network.grow(reached / SIZE)

    def decode(self, z: Tensor) -> Tensor:
        """Images at full size, at any stage."""
        return resized(self.generator(z).float(), self.generator.pyramid[-1]).clamp(-1, 1)

    def draw(self, n: int, last: bool) -> Tensor:
        """Fakes of training, at the stage's size."""
        return self.generator(self.sample_prior(n)).float()

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        before = self.generator.stage
        # a run whose budget is made longer does not shrink
        self.grow(max(self.reached, round(SIZE * level(self.progress, len(self.generator.pyramid)))))
        if self.generator.stage > before:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()
        self.record(resolution=self.grown / SIZE)
        super().training_step(batch._replace(x=self.discriminator.shrunk(batch.x)), batch_idx)


def level(progress: float, sizes: int) -> float:
    """Growth of both networks at a share of the run: 0 at the first size, 1.3 when the third has an alpha of 0.3."""
    phase, within = divmod(progress * (2 * sizes - 1), 1)
    return (phase + 1) // 2 - (1 - within) * (phase % 2)
