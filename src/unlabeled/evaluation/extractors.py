"""What image metrics see images through: a frozen network that gives features and, where it classifies, logits."""

from typing import Any, Protocol

from torch import Tensor


class Extractor(Protocol):
    """Takes images as files hold them; what it does to them first is its policy, stated in `facts`."""

    name: str  # in the metric's name: "inception", "classifier-mnist@ab12cd"
    digest: str  # of the weights: equal digests, equal features
    dim: int  # D, of the features
    classes: int | None  # K, of the logits; None: it has none
    facts: dict[str, Any]  # resize, channels, layer, dtype, weights

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise UserError where images of this shape (C, H, W) do not fit."""

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        """uint8 images (B, C, H, W) -> features (B, D) and logits (B, K), float32, where the extractor is."""
