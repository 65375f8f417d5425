"""How far single dimensions of a code stand for single factors of the images, where these are known.

Five measures, with the protocol of Locatello et al. 2019, https://arxiv.org/abs/1811.12359: 10,000 images to fit or to
estimate, 5,000 others to score. There images are drawn at random from all combinations of factors; here from the
scored split (by default test, which training has not seen).

Codes are first centred and divided by one number, so that the dimension that varies most has standard deviation 1, as
a VAE's: what the protocol states in units of a VAE's code (the penalty of SAP, the threshold of a dead dimension)
then means the same for codes of any unit.
"""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unlabeled.capabilities import Encodes
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.stats.fits import quiet
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix

Codes = np.ndarray  # (N, D) float64
Factors = np.ndarray  # (N, F) int64, indices of values
Scores = dict[str, tuple[float, str, dict[str, Any]]]  # name -> value, unit, facts


class Disentanglement:
    """MIG, modularity, SAP, DCI and the FactorVAE score, each beside the same network before training."""

    headlines: ClassVar[dict[str, Headline]] = {
        "mig": Headline(70, "mutual information gap: whether one dimension of a code encodes one factor"),
    }

    def __init__(
        self,
        train: int = 10_000,  # images to fit to, and to estimate mutual information from
        test: int = 5_000,  # other images, that what was fitted is scored on; a small split is shared 2 : 1
        bins: int = 20,  # of each dimension, for mutual information
        rounds: int = 100,  # of boosting, for DCI
        train_votes: int = 10_000,  # for the FactorVAE score
        test_votes: int = 5_000,
        vote_images: int = 64,  # images a vote
        dead: float = 0.05,  # standard deviation of a code's dimension under which it has no vote
        widest: int = 64,  # dimensions; SAP and DCI of more would take many minutes
    ):
        if min(train, test, bins, rounds, train_votes, test_votes, vote_images - 1) < 1:
            raise UserError("evaluation.evaluators.disentanglement: counts are at least 1, vote_images at least 2")
        self.train, self.test = train, test
        self.bins, self.rounds = bins, rounds
        self.train_votes, self.test_votes, self.vote_images = train_votes, test_votes, vote_images
        self.dead, self.widest = dead, widest

    def applies(self, study: Study) -> bool:
        probed = isinstance(study.method, Encodes) and study.kind.raw is not None
        return probed and bool(getattr(study.data, "factors", None))

    def measure(self, study: Study) -> list[Metric]:
        codes = study.codes(study.split)
        beside = None
        if study.untrained is not None:
            beside = study.features(study.untrained().encode, study.split, "encoding by an untrained network")
        if not study.is_main:
            return []
        train, test = self.rows(len(codes.h), study.seed)
        varying = [j for j in range(codes.y.shape[1]) if len(codes.y[train, j].unique()) > 1]
        if len(varying) < 2 or not len(test):
            study.notes.append(f"disentanglement is left out: the {study.split} split varies in fewer than two factors")
            return []
        names = list(getattr(study.data, "factors", ()))
        dimension = codes.h.shape[1]
        if dimension > self.widest:
            study.notes.append(
                f"sap and dci are left out: codes have {dimension} dimensions, and more than {self.widest} take many "
                f"minutes; say evaluation.evaluators.disentanglement.widest={dimension}"
            )
        ours = self.scores(codes, train, test, varying, study.seed)
        theirs = self.scores(beside, train, test, varying, study.seed) if beside is not None else {}
        shared: dict[str, Any] = {
            "split": study.split,
            "factors": [names[j] for j in varying],
            "dimension": dimension,
            "seed": study.seed,
        }
        numbers = []
        for name, (value, unit, facts) in ours.items():
            known = {"images": len(test), "train_images": len(train)} | shared | facts
            if name in theirs:
                known |= {"baseline": "untrained network", "baseline_value": theirs[name][0]}
            numbers.append(Metric(name, value, unit, "higher", known))
        return numbers

    def rows(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Rows of n, drawn by the seed: to fit to, and others to score."""
        order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, 2)))
        m = min(self.train, round(n * self.train / (self.train + self.test)))
        return order[:m].sort().values, order[m : m + self.test].sort().values

    def scores(self, codes: Features, train: Tensor, test: Tensor, varying: list[int], seed: int) -> Scores:
        """All that is affordable, of the factors (columns of codes.y) that vary."""
        h, y = codes.h.double().numpy(), codes.y[:, varying].numpy()
        h = h - h[train].mean(0)
        h /= h[train].std(0).max() or 1.0
        (h_train, y_train), (h_test, y_test) = ((h[rows], y[rows]) for rows in (train, test))

        information = mutual_information(binned(h_train, self.bins), y_train)
        estimated = {"images": len(train), "train_images": 0, "bins": self.bins}
        found: Scores = {
            "mig": (mig(information, entropies(y_train)), "", estimated),
            "modularity": (modularity(information), "", estimated),
        }
        alive = h_train.std(0) >= self.dead
        generator = torch.Generator().manual_seed(mix(seed, 3))
        tables = [
            votes(h_part, y_part, h_train.std(0), alive, n, self.vote_images, generator)
            for h_part, y_part, n in ((h_train, y_train, self.train_votes), (h_test, y_test, self.test_votes))
        ]
        voted = {
            "votes": self.test_votes,
            "train_votes": self.train_votes,
            "images_per_vote": self.vote_images,
            "fewest_to_draw_from": fewest(y_test),  # of one factor's value
            "dimensions_alive": int(alive.sum()),
        }
        found["factor_vae_score"] = (100 * majority(*tables), "%", voted)
        if h.shape[1] > self.widest:
            return found
        support = {"classifier": "linear SVM of one dimension, C = 0.01, balanced classes"}
        found["sap"] = (gap(separability(h_train, y_train, h_test, y_test)), "", support)
        importance, right = boosted(h_train, y_train, h_test, y_test, self.rounds)
        trees = {
            "classifier": f"gradient boosting on histograms, {self.rounds} rounds of depth 3",
            "importance": "total gain of a dimension's splits",
        }
        found["dci_disentanglement"] = (disentanglement(importance), "", trees)
        found["dci_completeness"] = (completeness(importance), "", trees)
        found["dci_informativeness"] = (100 * right, "%", trees)
        return found


def binned(h: Codes, bins: int) -> np.ndarray:
    """Each dimension in bins of equal width from its least to its greatest value: (N, D) int64."""
    low, width = h.min(0), np.ptp(h, axis=0)
    share = (h - low) / np.where(width > 0, width, 1)
    return np.minimum((share * bins).astype(np.int64), bins - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of every column of a (N, D) with every column of b (N, F), all indices: (D, F), in nats."""
    from sklearn.metrics import mutual_info_score

    with quiet():
        return np.array([[mutual_info_score(x, y) for y in b.T] for x in a.T])


def entropies(y: Factors) -> np.ndarray:
    """Of every factor (F,), in nats."""
    shares = [np.unique(column, return_counts=True)[1] / len(y) for column in y.T]
    return np.array([-(p * np.log(p)).sum() for p in shares])


def gap(matrix: np.ndarray) -> float:
    """Mean over factors of the greatest less the second value of (D, F). Of one dimension, the second is 0."""
    second, first = np.sort(np.vstack([np.zeros(matrix.shape[1]), matrix]), axis=0)[-2:]
    return float((first - second).mean())


def mig(information: np.ndarray, entropy: np.ndarray) -> float:
    """Mutual information gap, in [0, 1]. Chen et al. 2018, https://arxiv.org/abs/1802.04942, equation 6.

    1 / F sum_j (I(z_a; v_j) - I(z_b; v_j)) / H(v_j), a and b the dimensions that know most of factor j.
    """
    return gap(information / entropy)


def modularity(information: np.ndarray) -> float:
    """In [0, 1]. Ridgeway & Mozer 2018, https://arxiv.org/abs/1802.05312, equation 2.

    Mean over dimensions of 1 - sum of I_j^2 over all factors but the best / ((F - 1) I_best^2); 0 for a dimension
    that knows nothing.
    """
    squares = information**2
    best = squares.max(1)
    rest = (squares.sum(1) - best) / (np.where(best > 0, best, 1) * (squares.shape[1] - 1))
    return float(np.where(best > 0, 1 - rest, 0).mean())


def separability(h_train: Codes, y_train: Factors, h_test: Codes, y_test: Factors) -> np.ndarray:
    """Accuracy (D, F) of a linear classifier that sees one dimension, on other images.

    Its `gap` is the separated attribute predictability (SAP), in [0, 1]: Kumar et al. 2018,
    https://arxiv.org/abs/1711.00848, section 3. The paper takes the regression's R^2 for factors that are numbers;
    the protocol takes all for classes.
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

    The protocol's trees, a tree a class and round, but on codes in 255 bins, with the gain of Newton's step: exact
    trees take 25 times as long and come to importances within a few hundredths. The paper (below) takes random
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
    """How far a dimension matters for one factor only, in [0, 1].

    Eastwood & Williams 2018, https://openreview.net/forum?id=By-7dz-AZ, section 2: sum_i rho_i (1 - H_F(P_i)), P_i
    row i of R / its sum, the entropy to base F, rho_i the row's share of all importance.
    """
    total = importance.sum(1)
    if not total.any():
        return 0.0
    shares = importance / np.where(total > 0, total, 1)[:, None]
    return float(((1 - _entropy(shares)) * total / total.sum()).sum())


def completeness(importance: np.ndarray) -> float:
    """How far a factor takes one dimension only, in [0, 1]: as `disentanglement`, of R's columns, to base D."""
    return disentanglement(importance.T)


def _entropy(p: np.ndarray) -> np.ndarray:
    """Of rows (N, K), to base K; 0 where K is 1."""
    logs = np.log(np.where(p > 0, p, 1)) / math.log(max(2, p.shape[1]))
    return -(p * logs).sum(1)


def votes(
    h: Codes,
    y: Factors,
    spread: np.ndarray,  # (D,), standard deviation over all images
    alive: np.ndarray,  # (D,), bool: those that vote
    n: int,  # votes
    images: int,  # images a vote
    generator: torch.Generator,
    chunk: int = 100,  # votes at a time: bounds the memory to chunk x images codes
) -> np.ndarray:
    """How often each dimension varied least while each factor stood still: (D, F).

    Kim & Mnih 2018, https://arxiv.org/abs/1802.05983, section 4: a factor is drawn and a value of it; of images that
    have it, the dimension whose variance is least, as a share of its variance over all, votes for the factor. Images
    are drawn with replacement from those at hand, where the paper draws from all combinations.
    """
    table = np.zeros((h.shape[1], y.shape[1]), np.int64)
    if not alive.any():
        return table
    living, scaled = np.flatnonzero(alive), torch.from_numpy(h[:, alive] / spread[alive])
    shares = torch.randint(y.shape[1], (n,), generator=generator).bincount(minlength=y.shape[1]).tolist()
    for j, m in enumerate(shares):
        order = torch.from_numpy(y[:, j].argsort(kind="stable"))  # rows of one value stand together
        count = torch.from_numpy(np.unique(y[:, j], return_counts=True)[1])
        first = count.cumsum(0) - count
        values = (count > 1).nonzero()[:, 0]  # a single image stands still in everything
        if not len(values):
            continue
        for part in values[torch.randint(len(values), (m,), generator=generator)].split(chunk):
            share = torch.rand(len(part), images, generator=generator, dtype=torch.float64)
            rows = order[first[part, None] + (share * count[part, None]).long()]  # (m, images)
            least = scaled[rows].var(1).argmin(1).numpy()
            np.add.at(table[:, j], living[least], 1)
    return table


def majority(train: np.ndarray, test: np.ndarray) -> float:
    """The FactorVAE score: share of votes that name the factor which each dimension named most often in `train`."""
    return float(test[np.arange(len(test)), train.argmax(1)].sum() / max(1, test.sum()))


def fewest(y: Factors) -> int:
    """Images of the rarest value of any factor."""
    return min(int(np.unique(column, return_counts=True)[1].min()) for column in y.T)
