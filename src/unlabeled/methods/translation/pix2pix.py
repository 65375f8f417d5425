"""pix2pix: translation of images, learned from pairs.

Isola, Zhu, Zhou & Efros 2017, https://arxiv.org/abs/1611.07004, equation 4. Generator G, discriminator D, pairs (a, b):

    D minimises  L_D(D(a, b), D(a, G(a))) / 2                                  section 3.3: halved, so that D is slower
    G minimises  L_G(D(a, G(a))) + lambda |b - G(a)|                           equations 1 and 3

with the losses L_D, L_G of an adversarial objective (paper: equation 1 with the non-saturating L_G), |.| averaged over
pixels and channels. D moves first, as in the authors' released code. G's noise is dropout, which stays on in
`translate` (section 3.4): equal seeds give equal translations, and evaluation seeds each block of images.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from unlabeled.batches import Paired
from unlabeled.losses.adversarial import Objective
from unlabeled.methods.method import Adversarial


class Pix2Pix(Adversarial):
    batch = Paired

    def __init__(
        self,
        generator: nn.Module,  # a (B, C, H, W) -> b (B, C, H, W) in [-1, 1]
        discriminator: nn.Module,  # a, b (B, C, H, W) -> scores (B, ...)
        objective: Objective,
        generator_optimizer: Callable[..., Optimizer],  # parameters -> optimizer
        discriminator_optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rates
        l1_weight: float = 100.0,  # lambda
    ):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.objective = objective
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.schedule = schedule
        self.l1_weight = l1_weight

    def translate(self, a: Tensor) -> Tensor:
        return self.generator(a)

    def training_step(self, batch: Paired, batch_idx: int) -> None:
        generator, discriminator = self.players()
        a, b = batch
        fake = self.generator(a)
        self.update(discriminator, self.discriminator_loss, a, b, fake.detach())
        self.update(generator, self.generator_loss, a, b, fake)

    def validation_step(self, batch: Paired, batch_idx: int) -> None:
        self.record(l1=l1_loss(self.generator(batch.a).float(), batch.b))

    def discriminator_loss(self, a: Tensor, b: Tensor, fake: Tensor) -> Tensor:
        real_scores, fake_scores = self.discriminator(a, b).float(), self.discriminator(a, fake).float()
        loss = self.objective.discriminator(real_scores, fake_scores) / 2
        self.record(discriminator_loss=loss)
        return loss

    def generator_loss(self, a: Tensor, b: Tensor, fake: Tensor) -> Tensor:
        loss = self.objective.generator(self.discriminator(a, fake).float())
        l1 = l1_loss(fake.float(), b)
        self.record(generator_loss=loss, l1=l1)
        return loss + self.l1_weight * l1

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.generator_optimizer(self.generator.parameters()),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]
