"""A measured quantity and its provenance."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor

from unlabeled.evaluation.study import Study


@dataclass(frozen=True)
class Metric:
    """One line of an evaluation."""

    name: str  # the field's term: "psnr", "elbo", "knn_accuracy"
    value: float
    unit: str  # "dB", "nats", "bits/dim", "%", "" where it has none
    better: Literal["higher", "lower"] | None  # None: neither, as for a count
    facts: dict[str, Any] = field(default_factory=dict)  # provenance: split, number of images, baseline, settings


def standard_error(values: Tensor) -> dict[str, Any]:
    """A fact: the standard error of the mean of values (N,); null for one value."""
    if len(values) < 2:
        return {"standard_error": None, "standard_error_reason": "it takes two images"}
    return {"standard_error": float(values.double().std() / math.sqrt(len(values)))}


def error_of_share(percent: float, n: int) -> dict[str, Any]:
    """The same for a share of n in %, by the binomial distribution."""
    if n < 2:
        return {"standard_error": None, "standard_error_reason": "it takes two images"}
    return {"standard_error": math.sqrt(percent * (100 - percent) / n)}


class Headline(NamedTuple):
    """A number among the first that a report shows."""

    rank: int  # among the headlines of all evaluators, the lowest first
    words: str  # what the number is; {generated} and {reference} are the sets of images that it compares


class Evaluator(Protocol):
    """A measurement of what the method's capabilities allow. Constructed from plain values (conf/evaluation/).

    On several processes all of them call `measure` and make every pass together; the main process alone goes on from
    there: `if not study.is_main: return []`.
    """

    headlines: ClassVar[dict[str, Headline]]  # by the number's name, without brackets

    def applies(self, study: Study) -> bool:
        """Whether the method has the capabilities, and the data are of the kind."""

    def measure(self, study: Study) -> list[Metric]:
        """The numbers; [] on other processes than the main one."""
