"""Relativistic GAN: the generator's loss is of real images too.

Jolicoeur-Martineau 2019, https://arxiv.org/abs/1807.00734, algorithms 1 and 2. Otherwise as GAN: the generator also
wants real images to seem less real than its own. R3GAN (Huang et al. 2024, https://arxiv.org/abs/2501.05441) is this
with the pairwise objective and both zero-centred penalties.
"""

from torch import Tensor

from unlabeled.methods.gan.gan import GAN


class RelativisticGAN(GAN):
    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = self.objective.generator(*self.scores(self.augmentation(real), self.augmentation(fake)))
        self.record(generator_loss=loss)
        return loss
