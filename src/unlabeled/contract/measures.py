"""What training must change, measured without the method's own loss: a wrong sign also goes down."""

from collections.abc import Callable
from typing import Any

import torch

from unlabeled.batches import Paired
from unlabeled.capabilities import Classifies, Reconstructs, Translates, TranslatesBack

Measure = Callable[[Any, Any], torch.Tensor]  # method, batch -> what falls while it learns


def error(method: Any, batch: Any) -> torch.Tensor:
    """Reconstruction error: falls."""
    return (method.reconstruct(batch.x) - batch.x).square().mean()


def doubt(method: Any, batch: Any) -> torch.Tensor:
    """1 minus the probability that it gives to the true class: falls."""
    method.eval()
    sure = method.classify(batch.x).softmax(1)
    return 1 - torch.stack([row[label] for row, label in zip(sure, batch.y.tolist(), strict=True)]).mean()


def cycle_error(method: Any, batch: Any) -> torch.Tensor:
    """There and back again: falls."""
    return (method.translate_back(method.translate(batch.a)) - batch.a).abs().mean()


def translation_error(method: Any, batch: Any) -> torch.Tensor:
    """Distance of translations to their true counterparts: falls."""
    return (method.translate(batch.a) - batch.b).abs().mean()


def known(method: Any) -> dict[Measure, list[str]]:
    """Those of what a method can do."""
    found: dict[Measure, list[str]] = {}
    learns_pairs = method.batch is Paired
    if isinstance(method, Reconstructs):
        found[error] = []
    if isinstance(method, Classifies):
        found[doubt] = []
    if isinstance(method, Translates) and isinstance(method, TranslatesBack):
        found[cycle_error] = []
    elif learns_pairs and isinstance(method, Translates):
        found[translation_error] = []
    return found
