"""Lower bounds on the likelihood."""

import math
from typing import Any

from torch import Tensor

from unlabeled.batches import Images
from unlabeled.capabilities import BoundsLikelihood
from unlabeled.evaluation.number import Number


class Likelihood:
    """The method's bound on log p(x), in nats and in bits per dimension, with its standard error over images.

    Densities are turned into probabilities of 8-bit levels by a level's width: bits/dim =
    -(log p(x) / D + log width) / log 2. The facts say how the likelihood reads grey.
    """

    def applies(self, study: Any) -> bool:
        return isinstance(study.method, BoundsLikelihood) and study.data.batch is Images

    def measure(self, study: Any) -> list[Number]:
        method, table = study.method, study.table(study.split)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            return (method.log_likelihood(table.batch(index).x.to(method.device)).double(),)

        (bound,) = study.rows(len(table), work, "bounding the likelihood")
        dimensions = math.prod(study.data.shape)
        bits = -(bound / dimensions + math.log(method.level_width)) / math.log(2)
        facts = {
            "split": study.split,
            "images": len(bound),
            "noise_seed": study.seed,
            "reads": str(getattr(method, "likelihood", type(method).__name__)),
            "standard_error": float(bound.std() / math.sqrt(len(bound))),
        }
        return [
            Number("log_likelihood_bound", float(bound.mean()), "nats", "higher", facts),
            Number(
                "bits_per_dim", float(bits.mean()), "bits/dim", "lower", facts | {"level_width": method.level_width}
            ),
        ]
