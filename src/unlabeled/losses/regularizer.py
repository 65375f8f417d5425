"""What an autoencoder pays beside its error: (encoder, decoder, x, z) -> scalar, z = f(x) (B, D) before any noise."""

from typing import Any

from torch import Tensor


class NoRegularizer:
    """0."""

    def __call__(self, encoder: Any, decoder: Any, x: Tensor, z: Tensor) -> Tensor:
        return z.new_zeros(())
