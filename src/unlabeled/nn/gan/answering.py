"""Discriminators that answer a question beside their score, from the same features: of what class is it, or which way up?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unlabeled.nn.autoencoders.fully_connected import layers
from unlabeled.nn.gan.two_halves import FeatureDiscriminator
from unlabeled.nn.layers.spectral import spectral_norm as spectral

Said = tuple[Tensor, Tensor]  # scores (B,) and answers (B, outputs), in float32


class AuxiliaryDiscriminator(nn.Module):
    """x (B, ...) -> score (B,), unbounded, and answer (B, outputs)."""

    any_shape = True  # its body says what it takes

    def __init__(
        self,
        body: FeatureDiscriminator,
        shape: Sequence[int],  # of x
        outputs: int | None,
        hidden: Sequence[int] = (),  # layers between the features and the answer
        batch_norm: bool = False,  # of those layers
        spectral_norm: bool = False,  # of the answer's layers; the body has its own
    ):
        super().__init__()
        training = body.training
        with torch.no_grad():
            width = body.eval().features(torch.zeros(1, *shape)).numel()
        self.body = body.train(training)
        norm = nn.BatchNorm1d if batch_norm else None
        parts = layers([width, *hidden, outputs or 1], lambda: nn.LeakyReLU(0.1), norm)
        if spectral_norm:
            parts = [spectral(part) if isinstance(part, nn.Linear) else part for part in parts]
        self.answer = nn.Sequential(nn.Flatten(), *parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body.features(x)
        return self.body.score(features), self.answer(features)


def ask(discriminator: nn.Module, real: Tensor, fake: Tensor, separate_batches: bool) -> tuple[Said, Said]:
    """What it says of real ones and of fakes, in one pass unless it must see them apart."""
    if separate_batches:
        (score_real, answer_real), (score_fake, answer_fake) = discriminator(real), discriminator(fake)
        return (score_real.float(), answer_real.float()), (score_fake.float(), answer_fake.float())
    score, answer = discriminator(torch.cat([real, fake]))
    n = len(real)
    return (score[:n].float(), answer[:n].float()), (score[n:].float(), answer[n:].float())
