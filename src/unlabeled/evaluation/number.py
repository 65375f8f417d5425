"""A measured quantity and where it comes from."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Number:
    """One line of an evaluation."""

    name: str  # the field's term: "psnr", "elbo", "knn_accuracy"
    value: float
    unit: str  # "dB", "nats", "bits/dim", "%", "" where it has none
    better: Literal["higher", "lower"]
    facts: dict[str, Any] = field(default_factory=dict)  # provenance: split, number of images, baseline, settings


class Evaluator(Protocol):
    """Measures what a capability allows. Constructed from plain values (conf/evaluation/).

    `method` is in evaluation mode, on its device, without gradients; `data` is prepared: `data.loader(split)` gives
    batches in order, `data.shape`, `data.classes` and `data.batch` are facts.
    """

    def applies(self, method: Any, data: Any) -> bool:
        """Whether the method can do what is measured here, on this kind of batch."""

    def measure(self, method: Any, data: Any) -> list[Number]:
        """The numbers."""
