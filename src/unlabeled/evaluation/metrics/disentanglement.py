"""Correspondence of single dimensions of a code to single factors of the images.

Five measures, with the protocol of Locatello et al. 2019, https://arxiv.org/abs/1811.12359: 10,000 images to fit or to
estimate, 5,000 others to score. The paper draws images from all combinations of factors; here they are drawn from the
scored split (by default test, which training has not seen).

Codes are centred and divided by one number, so that the dimension that varies most has standard deviation 1, as in a
VAE: so the protocol's constants in units of a VAE's code (the penalty of SAP, the threshold of a dead dimension) are
right for codes of any scale.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.capabilities import Encodes
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.stats.disentanglement import (
    binned,
    boosted,
    completeness,
    disentanglement,
    entropies,
    fewest,
    gap,
    majority,
    mig,
    modularity,
    mutual_information,
    separability,
    votes,
)
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix

Scores = dict[str, tuple[float, str, dict[str, Any]]]  # name -> value, unit, facts


class Disentanglement:
    """MIG, modularity, SAP, DCI and the FactorVAE score; baseline: the same network before training."""

    headlines: ClassVar[dict[str, Headline]] = {
        "mig": Headline(70, "mutual information gap: whether one dimension of a code encodes one factor"),
    }

    def __init__(
        self,
        train: int = 10_000,  # images to fit to, and to estimate mutual information from
        test: int = 5_000,  # other images, to score; a small split is divided 2 : 1
        bins: int = 20,  # of each dimension, for mutual information
        rounds: int = 100,  # of boosting, for DCI
        train_votes: int = 10_000,  # for the FactorVAE score
        test_votes: int = 5_000,
        vote_images: int = 64,  # images a vote
        dead: float = 0.05,  # standard deviation of a code's dimension below which it has no vote
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
        before = None
        if study.untrained is not None:
            before = study.features(study.untrained().encode, study.split, "encoding by an untrained network")
        if not study.is_main:
            return []
        train, test = self.rows(len(codes.h), study.seed)
        varying = [j for j in range(codes.y.shape[1]) if len(codes.y[train, j].unique()) > 1]
        if len(varying) < 2 or not len(test):
            study.notes.append(f"no disentanglement: the {study.split} split varies in fewer than two factors")
            return []
        names = list(getattr(study.data, "factors", ()))
        dimension = codes.h.shape[1]
        if dimension > self.widest:
            study.notes.append(
                f"no sap and dci: codes have {dimension} dimensions, and more than {self.widest} take many "
                f"minutes; say evaluation.evaluators.disentanglement.widest={dimension}"
            )
        ours = self.scores(codes, train, test, varying, study.seed)
        theirs = self.scores(before, train, test, varying, study.seed) if before is not None else {}
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
        """The measures for the varying factors (columns of codes.y), without the slow ones for wide codes."""
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
