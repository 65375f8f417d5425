"""Relativistic GAN: both losses compare scores of real and of fake images.

Jolicoeur-Martineau 2019, https://arxiv.org/abs/1807.00734, algorithms 1 and 2. Otherwise as GAN: the generator's loss
is the discriminator's with real and fake exchanged. R3GAN (Huang et al. 2024, https://arxiv.org/abs/2501.05441) is this
with the pairwise objective and both zero-centred penalties.
"""

from torch import Tensor

from unlabeled.methods.gan.gan import GAN


class RelativisticGAN(GAN):
    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        score_real, score_fake = self.scores(self.augmentation(real), self.augmentation(fake))
        loss = self.objective.discriminator(score_fake, score_real)
        self.record(generator_loss=loss)
        return loss
