"""Measures of disentanglement, of codes (N, D) and factors (N, F) as arrays."""

import math

import numpy as np
import torch

from unlabeled.evaluation.stats.fits import quiet

Codes = np.ndarray  # (N, D) float64
Factors = np.ndarray  # (N, F) int64, indices of values


def binned(h: Codes, bins: int) -> np.ndarray:
    """Each dimension in bins of equal width from its least to its greatest value: (N, D) int64."""
    low, width = h.min(0), np.ptp(h, axis=0)
    share = (h - low) / np.where(width > 0, width, 1)
    return np.minimum((share * bins).astype(np.int64), bins - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mutual information (D, F) in nats of every column of a (N, D) and every column of b (N, F), all indices."""
    from sklearn.metrics import mutual_info_score

    with quiet():
        return np.array([[mutual_info_score(x, y) for y in b.T] for x in a.T])


def entropies(y: Factors) -> np.ndarray:
    """The entropy of every factor, (F,), in nats."""
    shares = [np.unique(column, return_counts=True)[1] / len(y) for column in y.T]
    return np.array([-(p * np.log(p)).sum() for p in shares])


def gap(matrix: np.ndarray) -> float:
    """Mean over factors of the largest minus the second largest value of (D, F); with D = 1 the second is 0."""
    second, first = np.sort(np.vstack([np.zeros(matrix.shape[1]), matrix]), axis=0)[-2:]
    return float((first - second).mean())


def mig(information: np.ndarray, entropy: np.ndarray) -> float:
    """Mutual information gap, in [0, 1]. Chen et al. 2018, https://arxiv.org/abs/1802.04942, equation 6.

    1 / F sum_j (I(z_a; v_j) - I(z_b; v_j)) / H(v_j), a and b the dimensions with most information on factor j.
    """
    return gap(information / entropy)


def modularity(information: np.ndarray) -> float:
    """In [0, 1]. Ridgeway & Mozer 2018, https://arxiv.org/abs/1802.05312, equation 2.

    Mean over dimensions of 1 - sum of I_j^2 over all factors but the best / ((F - 1) I_best^2); 0 for a dimension
    without information.
    """
    squares = information**2
    best = squares.max(1)
    rest = (squares.sum(1) - best) / (np.where(best > 0, best, 1) * (squares.shape[1] - 1))
    return float(np.where(best > 0, 1 - rest, 0).mean())


def separability(h_train: Codes, y_train: Factors, h_test: Codes, y_test: Factors) -> np.ndarray:
    """Accuracy (D, F) of a linear classifier of one dimension, on other images.

    Its `gap` is the separated attribute predictability (SAP), in [0, 1]: Kumar et al. 2018,
    https://arxiv.org/abs/1711.00848, section 3. The paper uses the R^2 of a regression for numerical factors;
    the protocol treats all as classes.
    """
    from sklearn.svm import LinearSVC

    accuracy = np.zeros((h_train.shape[1], y_train.shape[1]))
    for i, j in np.ndindex(accuracy.shape):
        model = LinearSVC(C=0.01, class_weight="balanced", dual=False)
        with quiet():
            model.fit(h_train[:, [i]], y_train[:, j])
        accuracy[i, j] = (model.predict(h_test[:, [i]]) == y_test[:, j]).mean()
    return accuracy


def boosted(h_train: Codes, y_train: Factors, h_test: Codes, y_test: Factors, rounds: int) -> tuple[np.ndarray, float]:
    """Importance (D, F) of each dimension for each factor, a column's sum 1 (or 0); mean accuracy on other images.

    The protocol's trees, one for each class and round, but on codes in 255 bins, with the gain of Newton's step: exact
    trees take 25 times as long, and their importances differ by a few hundredths. The paper (below) uses random
    forests, whose importances are less concentrated.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    importance, right = np.zeros((h_train.shape[1], y_train.shape[1])), []
    for j in range(y_train.shape[1]):
        model = HistGradientBoostingClassifier(
            max_iter=rounds, max_depth=3, max_leaf_nodes=None, min_samples_leaf=1, early_stopping=False, random_state=0
        )
        with quiet():
            model.fit(h_train, y_train[:, j])
        # scikit-learn states no importance of these trees; their nodes are in no public attribute
        for tree in (tree for one_round in model._predictors for tree in one_round):
            splits = tree.nodes[tree.nodes["is_leaf"] == 0]
            np.add.at(importance[:, j], splits["feature_idx"], splits["gain"])
        right.append((model.predict(h_test) == y_test[:, j]).mean())
    total = importance.sum(0)
    return importance / np.where(total > 0, total, 1), float(np.mean(right))


def disentanglement(importance: np.ndarray) -> float:
    """How much each dimension matters for one factor only, in [0, 1].

    Eastwood & Williams 2018, https://openreview.net/forum?id=By-7dz-AZ, section 2: sum_i rho_i (1 - H_F(P_i)), P_i
    row i of R / its sum, the entropy to base F, rho_i the row's share of all importance.
    """
    total = importance.sum(1)
    if not total.any():
        return 0.0
    shares = importance / np.where(total > 0, total, 1)[:, None]
    return float(((1 - _entropy(shares)) * total / total.sum()).sum())


def completeness(importance: np.ndarray) -> float:
    """How much each factor uses one dimension only, in [0, 1]: `disentanglement` of R's columns, to base D."""
    return disentanglement(importance.T)


def _entropy(p: np.ndarray) -> np.ndarray:
    """The entropy of rows (N, K), to base K; 0 if K is 1."""
    logs = np.log(np.where(p > 0, p, 1)) / math.log(max(2, p.shape[1]))
    return -(p * logs).sum(1)


def votes(
    h: Codes,
    y: Factors,
    spread: np.ndarray,  # (D,), standard deviation over all images
    alive: np.ndarray,  # (D,), bool: dimensions that vote
    n: int,  # votes
    images: int,  # images a vote
    generator: torch.Generator,
    chunk: int = 100,  # votes at a time: bounds the memory to chunk x images codes
) -> np.ndarray:
    """How often each dimension varied least while each factor was fixed: (D, F).

    Kim & Mnih 2018, https://arxiv.org/abs/1802.05983, section 4: a factor and a value of it are drawn; the dimension
    with the lowest variance over images of that value, relative to its variance over all images, votes for the factor.
    Images are drawn with replacement from the given ones; the paper draws from all combinations.
    """
    table = np.zeros((h.shape[1], y.shape[1]), np.int64)
    if not alive.any():
        return table
    living, scaled = np.flatnonzero(alive), torch.from_numpy(h[:, alive] / spread[alive])
    shares = torch.randint(y.shape[1], (n,), generator=generator).bincount(minlength=y.shape[1]).tolist()
    for j, m in enumerate(shares):
        order = torch.from_numpy(y[:, j].argsort(kind="stable"))  # rows of one value are adjacent
        count = torch.from_numpy(np.unique(y[:, j], return_counts=True)[1])
        first = count.cumsum(0) - count
        values = (count > 1).nonzero()[:, 0]  # a single image varies in nothing
        if not len(values):
            continue
        for part in values[torch.randint(len(values), (m,), generator=generator)].split(chunk):
            share = torch.rand(len(part), images, generator=generator, dtype=torch.float64)
            rows = order[first[part, None] + (share * count[part, None]).long()]  # (m, images)
            least = scaled[rows].var(1).argmin(1).numpy()
            np.add.at(table[:, j], living[least], 1)
    return table


def majority(train: np.ndarray, test: np.ndarray) -> float:
    """The FactorVAE score: the share of votes for the factor that their dimension voted for most in `train`."""
    return float(test[np.arange(len(test)), train.argmax(1)].sum() / max(1, test.sum()))


def fewest(y: Factors) -> int:
    """The number of images of the rarest value of any factor."""
    return min(int(np.unique(column, return_counts=True)[1].min()) for column in y.T)
