"""What a trained method can do. Evaluation and callbacks know methods only through these.

A missing capability is an absent method. Every call expects evaluation mode and no gradient.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Samples(Protocol):
    def sample(self, n: int) -> Tensor:
        """n images (n, C, H, W) in [-1, 1]."""


class SeenClasses(Protocol):
    """The classes that training images have: they alone are drawn."""

    seen: Tensor  # int64 (k,), ascending

    def restrict(self, classes: Tensor) -> None:
        """Make it these (k,)."""


@runtime_checkable
class SamplesClasses(Protocol):
    classes: int  # K
    labels: SeenClasses

    def sample_class(self, y: Tensor) -> Tensor:
        """An image (C, H, W) in [-1, 1] of each of the classes y, int64 (n,), 0 to K - 1."""


@runtime_checkable
class Encodes(Protocol):
    def encode(self, x: Tensor) -> Tensor:
        """Features (B, D) of images (B, C, H, W). Deterministic: a posterior's mean, never a draw."""


@runtime_checkable
class Decodes(Protocol):
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of codes (B, D). Deterministic."""


@runtime_checkable
class SamplesPrior(Protocol):
    def sample_prior(self, n: int) -> Tensor:
        """n codes (n, D) from the prior, as `decode` takes them."""


@runtime_checkable
class SamplesPosterior(Protocol):
    def sample_posterior(self, x: Tensor) -> Tensor:
        """A code (B, D) of each image (B, C, H, W), z ~ q(z|x), as `decode` takes them."""


@runtime_checkable
class Reconstructs(Protocol):
    def reconstruct(self, x: Tensor) -> Tensor:
        """Images the shape of x, in [-1, 1]. Deterministic."""


@runtime_checkable
class BoundsLikelihood(Protocol):
    bin_width: float  # width of one 8-bit grey level in the units of the density; 1 for a probability

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Lower bound on log p(x) in nats, (B,)."""


@runtime_checkable
class ReadsProbabilities(Protocol):
    """A likelihood of black and white pixels."""

    def observe(self, x: Tensor) -> Tensor:
        """What it reads of images x (B, C, H, W), in [-1, 1]."""

    def highest(self, x: Tensor) -> Tensor:
        """The log p(x|z) in nats (B,) that none exceeds, of images as `observe` gives them: 0 where none is grey."""


@runtime_checkable
class ElboTerms(Protocol):
    def elbo_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x|z) for a draw z ~ q(z|x), and KL(q(z|x) || p(z)), each (B,), in nats; no weight of training's."""


@runtime_checkable
class WeighsSamples(Protocol):
    def observe(self, x: Tensor) -> Tensor:
        """The image whose likelihood is meant, in [-1, 1]: where grey is drawn, the draw. Of itself, itself."""

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(x, z) - log q(z|x) in nats for k draws z ~ q(z|x) of each image: (k, B)."""


@runtime_checkable
class Classifies(Protocol):
    def classify(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""


@runtime_checkable
class ClassifiesCodes(Protocol):
    def classify_codes(self, h: Tensor) -> Tensor:
        """Logits (B, classes) of codes (B, D) as `encode` gives them: with them `classify` need not encode again."""


@runtime_checkable
class Clusters(Protocol):
    clusters: int  # K

    def assign(self, x: Tensor) -> Tensor:
        """The cluster of each image (B, C, H, W): int64 (B,), 0 to K - 1."""


@runtime_checkable
class IntermediateFeatures(Protocol):
    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        """Features (B, D) after each stage of the network, first to last: name -> features."""


@runtime_checkable
class Translates(Protocol):
    def translate(self, a: Tensor) -> Tensor:
        """Images of domain b for images a (B, C, H, W)."""


@runtime_checkable
class TranslatesBack(Protocol):
    def translate_back(self, b: Tensor) -> Tensor:
        """Images of domain a for images b (B, C, H, W)."""


@runtime_checkable
class Scores(Protocol):
    def score(self, x: Tensor) -> Tensor:
        """The discriminator's score (B,) of each of x (B, ...): higher is more like the data."""


@runtime_checkable
class DrawsFigures(Protocol):
    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """The method's own pictures of itself at work on images x: title -> (images (n, C, H, W), n captions)."""
