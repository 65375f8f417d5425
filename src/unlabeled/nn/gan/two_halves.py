"""Discriminators in two halves, so that a question beside the score, or a distance, can be of the features between them."""

from torch import Tensor, nn


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
