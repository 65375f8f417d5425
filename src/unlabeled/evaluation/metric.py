"""A measured quantity and where it comes from."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """One line of an evaluation."""

    name: str  # the field's term: "psnr", "elbo", "knn_accuracy"
    value: float
    unit: str  # "dB", "nats", "bits/dim", "%", "" where it has none
    better: Literal["higher", "lower"] | None  # None: neither way, as of a count or of a rate that should be 50 %
    facts: dict[str, Any] = field(default_factory=dict)  # provenance: split, number of images, baseline, settings


def standard_error(values: Tensor) -> dict[str, Any]:
    """A fact: that of the mean of values (N,). One value has none."""
    if len(values) < 2:
        return {"standard_error": None, "standard_error_reason": "it takes two images"}
    return {"standard_error": float(values.double().std() / math.sqrt(len(values)))}


def error_of_share(percent: float, n: int) -> dict[str, Any]:
    """The same of a share of n in %, by the binomial distribution."""
    if n < 2:
        return {"standard_error": None, "standard_error_reason": "it takes two images"}
    return {"standard_error": math.sqrt(percent * (100 - percent) / n)}


class Evaluator(Protocol):
    """Measures what a capability allows. Constructed from plain values (conf/evaluation/).

    Sees a `Study` (study.py): `study.method`, `study.data`, and the passes that all evaluators share. On several
    processes all of them call `measure` and make every pass together; what comes after the passes is the leader's:
    `if not study.leads: return []`.
    """

    def applies(self, study: Any) -> bool:
        """Whether the method can do what is measured here, on this kind of batch."""

    def measure(self, study: Any) -> list[Metric]:
        """The numbers."""
