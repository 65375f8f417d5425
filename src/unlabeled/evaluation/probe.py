"""What frozen features say about classes that training never saw: nearest neighbours and a linear classifier.

Both learn from labelled training images and are scored on others; each is told beside the same probe on raw
pixels.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.batches import Images
from unlabeled.capabilities import Encodes
from unlabeled.evaluation.features import Features
from unlabeled.evaluation.number import Number
from unlabeled.seeding import mix


class Probe:
    """Accuracy in % of a nearest-neighbour vote and of logistic regression on `encode`'s features."""

    def __init__(
        self,
        k: int = 20,
        temperature: float = 0.07,
        penalties: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),  # to choose from, see `Linear`
        held_out: float = 0.2,  # share of the training images that chooses the penalty
        max_train: int = 10_000,  # training images at most; more are drawn from
    ):
        self.k, self.temperature = k, temperature
        self.penalties, self.held_out = penalties, held_out
        self.max_train = max_train

    def applies(self, study: Any) -> bool:
        """Where the method encodes and each image has one class; attributes are left to others."""
        data = study.data
        return isinstance(study.method, Encodes) and data.batch is Images and (data.classes or 0) > 1

    def measure(self, study: Any) -> list[Number]:
        splits = ("train", study.split)
        ours, raw = [study.codes(split) for split in splits], [study.raw(split) for split in splits]
        if not study.leads:
            return []
        known, scored = ((features.y >= 0).nonzero()[:, 0] for features in ours)
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(mix(study.seed)))
        rows = known[order[: self.max_train]].sort().values
        if len(rows) < 10 or not len(scored):
            return []  # too few labels to learn from
        reached = []
        for train, test in (ours, raw):
            train, test = (Features(f.h[r], f.y[r]) for f, r in ((train, rows), (test, scored)))
            reached.append(self.scores(train, test, study.data.classes, study.seed))
        ours, raw = reached
        facts: dict[str, Any] = {
            "split": study.split,
            "images": len(scored),
            "train_images": len(rows),
            "train_images_of": len(known),
            "seed": study.seed,
            "dimension": ours.dimension,
            "baseline": "raw pixels",
            "baseline_dimension": raw.dimension,
        }
        vote = {
            "k": min(self.k, len(rows)),
            "temperature": self.temperature,
            "distance": "cosine",
            "baseline_value": raw.knn,
        }
        choice = {
            "penalty": ours.penalty,
            "converged": ours.converged,
            "baseline_penalty": raw.penalty,
            "penalty_chosen_on": f"{self.held_out:.0%} of the training images",
            "baseline_value": raw.linear,
        }
        return [
            Number("knn_accuracy", ours.knn, "%", "higher", facts | vote),
            Number("linear_accuracy", ours.linear, "%", "higher", facts | choice),
        ]

    def scores(self, train: Features, test: Features, classes: int, seed: int) -> "Scores":
        vote = neighbours(train, test.h, self.k, self.temperature, classes)
        linear = fit(train, self.penalties, self.held_out, seed)
        return Scores(
            knn=percent(vote == test.y),
            linear=percent(linear.predict(test.h) == test.y),
            penalty=linear.penalty,
            converged=linear.converged,
            dimension=train.h.shape[1],
        )


class Scores(NamedTuple):
    """What one kind of features reaches."""

    knn: float  # %
    linear: float  # %
    penalty: float  # of the linear classifier
    converged: bool
    dimension: int


def percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()


def neighbours(
    train: Features,
    queries: Tensor,  # (M, D)
    k: int,
    temperature: float,
    classes: int,
    chunk: int = 512,  # queries at a time: bounds the memory to chunk x N similarities
) -> Tensor:
    """Each query's class (M,) by a vote of its k nearest in angle, weighted by exp(cosine / temperature).

    Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4.
    """
    bank = normalize(train.h, dim=1)
    predicted = []
    for part in queries.split(chunk):
        cosine, nearest = (normalize(part, dim=1) @ bank.T).topk(min(k, len(bank)), dim=1)  # (m, k)
        votes = torch.zeros(len(part), classes)
        votes.scatter_add_(1, train.y[nearest], (cosine / temperature).exp())
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


class Linear:
    """Multinomial logistic regression on features standardised by those it was fitted to."""

    def __init__(self, train: Features, penalty: float):
        self.penalty = penalty  # lambda in: mean cross-entropy in nats + lambda / 2 |w|^2
        self.mean = train.h.mean(0)
        spread = train.h.std(0, correction=0)
        self.spread = torch.where(spread > 1e-6, spread, 1.0)  # constant features stay constant
        self.model, self.converged = self._fit(train, penalty)

    def _fit(self, train: Features, penalty: float) -> tuple[Any, bool]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        # The usual tolerance of 1e-4 stops up to 7% early.
        model = LogisticRegression(C=1 / (penalty * len(train.y)), tol=1e-6, max_iter=2000)
        # one thread: small products, where BLAS threads that wait for each other cost many times the work
        with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(self.standardised(train.h), train.y.numpy())
        return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)

    def standardised(self, h: Tensor) -> Any:
        return ((h - self.mean) / self.spread).numpy()

    def predict(self, h: Tensor) -> Tensor:
        return torch.from_numpy(self.model.predict(self.standardised(h)))


def fit(train: Features, penalties: Sequence[float], held_out: float, seed: int) -> Linear:
    """Refits on all of train with the penalty that is best on a part of it: of equals, the strongest."""
    order = torch.randperm(len(train.y), generator=torch.Generator().manual_seed(mix(seed, 1)))
    m = max(1, round(held_out * len(order)))
    part, rest = (Features(train.h[rows], train.y[rows]) for rows in (order[:m], order[m:]))
    best, chosen = -1.0, penalties[0]
    for penalty in sorted(penalties, reverse=True):
        score = percent(Linear(rest, penalty).predict(part.h) == part.y)
        if score > best:
            best, chosen = score, penalty
    return Linear(train, chosen)
