"""Base class of discriminators, discriminators with auxiliary outputs, and discriminators of codes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.nn.layers.mlp import layers
from unlabeled.nn.layers.spectral import spectral_norm as spectral

ScoreAndAnswer = tuple[Tensor, Tensor]  # scores (B,) and answers (B, outputs), in float32


class FeatureDiscriminator(nn.Module):
    """x (B, ...) -> features (B, ...) by its `body` -> score (B,), unbounded, by its `head`."""

    body: nn.Module
    head: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """The last layer before the score, (B, ...)."""
        return self.body(x)

    def score(self, features: Tensor) -> Tensor:
        """(B,), of them."""
        return self.head(features).flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.features(x))


class AuxiliaryDiscriminator(nn.Module):
    """A discriminator that also predicts a property of the image from its features: its class, or its rotation.

    x (B, ...) -> score (B,), unbounded, and answer (B, outputs).
    """

    any_shape = True  # its body's shapes are checked

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


def scores_and_answers(
    discriminator: nn.Module, real: Tensor, fake: Tensor, separate_batches: bool
) -> tuple[ScoreAndAnswer, ScoreAndAnswer]:
    """Scores and answers of real images and of fakes, in one pass unless they must be separate batches."""
    if separate_batches:
        (score_real, answer_real), (score_fake, answer_fake) = discriminator(real), discriminator(fake)
        return (score_real.float(), answer_real.float()), (score_fake.float(), answer_fake.float())
    score, answer = discriminator(torch.cat([real, fake]))
    n = len(real)
    return (score[:n].float(), answer[:n].float()), (score[n:].float(), answer[n:].float())


class JointDiscriminator(nn.Module):
    """D(D_x(x), D_z(z)) of an image and a code. Dumoulin et al. 2017, https://arxiv.org/abs/1606.00704, section 2.2.

    x (B, ...), z (B, latent_dim) -> score (B,), unbounded.
    """

    any_shape = True  # its body's shapes are checked

    def __init__(
        self,
        body: FeatureDiscriminator,  # D_x is its features(x); its score is not used
        shape: Sequence[int],  # of x
        latent_dim: int,
        hidden: int = 512,  # width of the layers of z and of both
    ):
        super().__init__()
        training = body.training
        with torch.no_grad():
            width = body.eval().features(torch.zeros(1, *shape)).numel()
        self.body = body.train(training)
        activation = lambda: nn.LeakyReLU(0.2)
        self.code = nn.Sequential(*layers([latent_dim, hidden, hidden], activation), activation())
        self.both = nn.Sequential(*layers([width + hidden, hidden, hidden, 1], activation))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        features = self.body.features(x).flatten(1)
        return self.both(torch.cat([features, self.code(z).to(features.dtype)], 1))[:, 0]


class CodeDiscriminator(nn.Module):
    """Code (B, dim) -> score (B,), unbounded.

    Makhzani et al. 2015, https://arxiv.org/abs/1511.05644: two hidden layers of 1,000, ReLU.
    """

    def __init__(self, dim: int, hidden: Sequence[int] = (1000, 1000)):
        super().__init__()
        self.layers = nn.Sequential(*layers([dim, *hidden, 1], nn.ReLU))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)[:, 0]


class LabelledCodeDiscriminator(CodeDiscriminator):
    """Code (B, dim) and class (B,), -1 where unknown -> score (B,).

    The class is concatenated with the code, one-hot of `classes` + 1, whose last entry is for unknown ones.
    """

    def __init__(self, dim: int, classes: int | None, hidden: Sequence[int] = (1000, 1000)):
        self.classes = classes or 0
        super().__init__(dim + self.classes + 1, hidden)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        part = one_hot(torch.where(y < 0, self.classes, y), self.classes + 1)
        return super().forward(torch.cat([z, part.to(z.dtype)], 1))
