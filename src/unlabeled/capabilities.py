"""Capabilities of trained methods, the only view that evaluation and callbacks have of them.

A method lacks a capability by not having its function. x is a batch of the method's kind of examples, images
(B, C, H, W) in [-1, 1] for most. Every call expects evaluation mode and no gradient.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Samples(Protocol):
    def sample(self, n: int) -> Tensor:
        """n examples of the method's kind: images (n, C, H, W) in [-1, 1]."""


class SeenClasses(Protocol):
    """The classes of the training data, the only ones that are sampled."""

    seen: Tensor  # int64 (k,), ascending

    def restrict(self, classes: Tensor) -> None:
        """Set `seen` to these classes (k,)."""


@runtime_checkable
class SamplesClasses(Protocol):
    classes: int  # K
    labels: SeenClasses

    def sample_class(self, y: Tensor) -> Tensor:
        """An example of each of the classes y, int64 (n,), 0 to K - 1: images (n, C, H, W) in [-1, 1]."""


@runtime_checkable
class Encodes(Protocol):
    def encode(self, x: Tensor) -> Tensor:
        """Features (B, D) of examples x (B, ...). Deterministic: a posterior's mean, never a draw."""


@runtime_checkable
class Decodes(Protocol):
    def decode(self, z: Tensor) -> Tensor:
        """Examples (B, ...) of codes (B, D). Deterministic."""


@runtime_checkable
class SamplesPrior(Protocol):
    def sample_prior(self, n: int) -> Tensor:
        """n codes (n, D) from the prior, for `decode`."""


@runtime_checkable
class SamplesPosterior(Protocol):
    def sample_posterior(self, x: Tensor) -> Tensor:
        """A code (B, D) of each example, z ~ q(z|x), as `decode` takes them."""


@runtime_checkable
class Reconstructs(Protocol):
    def reconstruct(self, x: Tensor) -> Tensor:
        """Examples in the shape and range of x. Deterministic."""


@runtime_checkable
class BoundsLikelihood(Protocol):
    bin_width: float  # width of one grey level in the units of the density; 1 for a probability

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Lower bound on log p(x) in nats, (B,)."""


@runtime_checkable
class ReadsProbabilities(Protocol):
    """A likelihood of black and white pixels."""

    def observe(self, x: Tensor) -> Tensor:
        """The values whose probability is meant, in [-1, 1], of images x (B, C, H, W)."""

    def highest(self, x: Tensor) -> Tensor:
        """Upper bound (B,) of log p(x|z) in nats, of images from `observe`: 0 where no pixel is grey."""


@runtime_checkable
class ElboTerms(Protocol):
    def elbo_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x|z) for a draw z ~ q(z|x), and KL(q(z|x) || p(z)), each (B,), in nats, without training weights."""


@runtime_checkable
class WeighsSamples(Protocol):
    def observe(self, x: Tensor) -> Tensor:
        """The example whose likelihood is meant: the draw where grey levels are drawn. Idempotent."""

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(x, z) - log q(z|x) in nats for k draws z ~ q(z|x) of each example: (k, B)."""


@runtime_checkable
class Classifies(Protocol):
    def classify(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of examples."""


@runtime_checkable
class ClassifiesCodes(Protocol):
    def classify_codes(self, h: Tensor) -> Tensor:
        """Logits (B, classes) of codes (B, D) from `encode`, without encoding again."""


@runtime_checkable
class Clusters(Protocol):
    clusters: int  # K

    def assign(self, x: Tensor) -> Tensor:
        """The cluster of each example: int64 (B,), 0 to K - 1."""


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
        """The method's own figures for examples x: title -> (images (n, C, H, W), n captions)."""


def inverts(method: Any) -> bool:
    """Whether `decode` takes the codes of `encode`: an encoder beside a generator need not be its inverse."""
    return isinstance(method, Encodes) and isinstance(method, Decodes) and isinstance(method, Reconstructs)


@torch.no_grad()
def code_width(method: Encodes, x: Tensor) -> int:
    """Numbers of a code. x: (B, ...), of which the first is encoded, on the method's device."""
    return method.encode(x[:1]).shape[1]
