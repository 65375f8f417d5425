"""Lower bounds on the likelihood."""

import math
from typing import Any

import torch

from unlabeled.batches import Images
from unlabeled.capabilities import BoundsLikelihood
from unlabeled.evaluation.number import Number
from unlabeled.seeding import seed_noise


class Likelihood:
    """The method's bound on log p(x), in nats and in bits per dimension, with its standard error over images.

    Densities are turned into probabilities of 8-bit levels by a level's width: bits/dim =
    -(log p(x) / D + log width) / log 2. The facts say how the likelihood reads grey.
    """

    def __init__(self, split: str = "test", seed: int = 0):
        self.split = split
        self.seed = seed

    def applies(self, method: Any, data: Any) -> bool:
        return isinstance(method, BoundsLikelihood) and data.batch is Images

    def measure(self, method: Any, data: Any) -> list[Number]:
        bounds = []
        for i, batch in enumerate(data.loader(self.split)):
            seed_noise(self.seed, i)
            bounds.append(method.log_likelihood(batch.x.to(method.device)).double())
        bound = torch.cat(bounds)
        dimensions = math.prod(data.shape)
        bits = -(bound / dimensions + math.log(method.level_width)) / math.log(2)
        facts = {
            "split": self.split,
            "images": len(bound),
            "noise_seed": self.seed,
            "reads": str(getattr(method, "likelihood", type(method).__name__)),
            "standard_error": float(bound.std() / math.sqrt(len(bound))),
        }
        return [
            Number("log_likelihood_bound", float(bound.mean()), "nats", "higher", facts),
            Number(
                "bits_per_dim", float(bits.mean()), "bits/dim", "lower", facts | {"level_width": method.level_width}
            ),
        ]
