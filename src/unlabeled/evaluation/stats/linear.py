"""Linear classifiers of frozen features, whose penalty is chosen on a part of the training images.

Features are standardised by the training images. A penalty is relative to the mean over images, so that one chosen on
a part of them is right for all.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.stats.fits import quiet
from unlabeled.seeding import mix


def percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()


class Standard:
    """Features shifted and scaled to mean 0 and variance 1 over the training images; constant ones become 0."""

    def __init__(self, h: Tensor):  # (N, D)
        self.mean = h.mean(0)
        spread = h.std(0, correction=0)
        self.spread = torch.where(spread > 1e-6, spread, 1.0)

    def __call__(self, h: Tensor) -> Tensor:
        return (h - self.mean) / self.spread


class Fitted(NamedTuple):
    """A fitted classifier."""

    predict: Callable[[Tensor], Tensor]  # h (N, D) -> class (N,)
    facts: dict[str, Any]  # penalty, penalties, penalty_chosen_on, and whether the fit converged


class Moments:
    """Sums over images, float64, that determine every ridge regression; sums of parts add up."""

    def __init__(self, h: Tensor, targets: Tensor, chunk: int = 4096):  # (N, D), (N, K)
        self.n, d, k = len(h), h.shape[1], targets.shape[1]
        self.h, self.t = torch.zeros(d, dtype=torch.float64), torch.zeros(k, dtype=torch.float64)
        self.hh, self.ht = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, k, dtype=torch.float64)
        for part, wanted in zip(h.split(chunk), targets.split(chunk), strict=True):
            part, wanted = part.double(), wanted.double()
            self.h += part.sum(0)
            self.t += wanted.sum(0)
            self.hh.addmm_(part.T, part)
            self.ht.addmm_(part.T, wanted)

    def add(self, other: "Moments") -> None:
        self.n += other.n
        for name in ("h", "t", "hh", "ht"):
            getattr(self, name).add_(getattr(other, name))


class Ridge:
    """argmin over W, b of  mean |targets - h W - b|^2 + lambda |W|^2, for any lambda by one eigendecomposition.

    With S the covariance of h, S = V diag(s) V^T, and C that of h with the targets: W = V (diag(s) + lambda)^-1 V^T C.
    """

    def __init__(self, moments: Moments):
        n = moments.n
        self.mean, self.target = moments.h / n, moments.t / n
        s, self.vectors = torch.linalg.eigh(moments.hh / n - self.mean.outer(self.mean))
        self.values = s.clamp(min=0)
        self.turned = self.vectors.T @ (moments.ht / n - self.mean.outer(self.target))  # V^T C, (D, K)

    def weights(self, penalty: float) -> tuple[Tensor, Tensor]:
        """W (D, K) and b (K,)."""
        w = self.vectors @ (self.turned / (self.values + penalty)[:, None])
        return w, self.target - self.mean @ w

    def predict(self, h: Tensor, penalty: float) -> Tensor:
        """The class (N,) of the largest output."""
        w, b = (part.float() for part in self.weights(penalty))
        return (h @ w + b).argmax(1)


class Logistic:
    """Multinomial logistic regression:  mean cross-entropy in nats + lambda / 2 |W|^2."""

    def __init__(self, h: Tensor, y: Tensor, penalty: float):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        # The usual tolerance of 1e-4 stops up to 7% early.
        self.model = LogisticRegression(C=1 / (penalty * len(y)), tol=1e-6, max_iter=2000)
        # one thread: small products, where BLAS threads that wait for each other cost many times the work
        with quiet() as caught:
            self.model.fit(h.numpy(), y.numpy())
        self.converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)

    def predict(self, h: Tensor) -> Tensor:
        return torch.from_numpy(self.model.predict(h.numpy()))


def fit_ridge(train: Features, penalties: Sequence[float], held_out: float, classes: int, seed: int) -> Fitted:
    """Ridge regression on one-hot targets, refitted on all of train with the penalty that is best on a part."""
    standard = Standard(train.h)
    h, targets = standard(train.h), one_hot(train.y, classes)
    part, rest = divided(len(h), held_out, seed)
    moments = Moments(h[rest], targets[rest])
    candidate = Ridge(moments)
    chosen = strongest_of_the_best(
        penalties, lambda penalty: percent(candidate.predict(h[part], penalty) == train.y[part])
    )
    moments.add(Moments(h[part], targets[part]))
    ridge = Ridge(moments)
    return Fitted(lambda h: ridge.predict(standard(h), chosen), chosen_facts(chosen, penalties, len(part)))


def fit_logistic(
    train: Features,
    penalties: Sequence[float],
    held_out: float,
    choose_on: int,  # training images at most that choose the penalty, `held_out` of them by being left out
    seed: int,
) -> Fitted:
    """Logistic regression, refitted on all of train with the penalty that is best on a part of it."""
    standard = Standard(train.h)
    h = standard(train.h)
    part, rest = divided(len(h), held_out, seed, choose_on)
    chosen = max(penalties)
    if len(penalties) > 1 and len(train.y[rest].unique()) > 1:  # else there is nothing to choose, or to choose on
        chosen = strongest_of_the_best(
            penalties,
            lambda penalty: percent(Logistic(h[rest], train.y[rest], penalty).predict(h[part]) == train.y[part]),
        )
    logistic = Logistic(h, train.y, chosen)
    facts = chosen_facts(chosen, penalties, len(part)) | {"converged": logistic.converged}
    return Fitted(lambda h: logistic.predict(standard(h)), facts)


def divided(n: int, share: float, seed: int, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """At most `limit` of n rows in random order: (held out, the rest)."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, 1)))[:limit]
    m = max(1, round(share * len(order)))
    return order[:m], order[m:]


def strongest_of_the_best(penalties: Sequence[float], score: Callable[[float], float]) -> float:
    """Penalties are tried from the strongest on, until two in a row are worse than the best: weak ones fit slowly."""
    best, chosen, worse = -1.0, max(penalties), 0
    for penalty in sorted(penalties, reverse=True):
        reached = score(penalty)
        worse = worse + 1 if reached < best else 0
        if reached > best:
            best, chosen = reached, penalty
        if worse == 2:
            break
    return chosen


def chosen_facts(penalty: float, penalties: Sequence[float], images: int) -> dict[str, Any]:
    return {"penalty": penalty, "penalties": sorted(penalties), "penalty_chosen_on": f"{images} held-out train images"}
