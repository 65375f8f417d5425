"""Whether the codes fall into clusters that are the classes, though no label was used."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.capabilities import Encodes
from unlabeled.evaluation.features import Features
from unlabeled.evaluation.kept import kept
from unlabeled.evaluation.number import Number
from unlabeled.evaluation.probe import MOST_CLASSES, classified
from unlabeled.seeding import mix

UNITS = {"kmeans_accuracy": "%", "nmi": "", "ari": ""}


class Clustering:
    """k-means on the scored split's codes, with as many clusters as classes, beside the same on raw pixels.

    kmeans_accuracy: under the best one-to-one match of clusters and classes. nmi: mutual information of clusters and
    classes, over the mean of their entropies, 0 to 1. ari: adjusted Rand index, 0 at chance and 1 at most.
    """

    def __init__(self, starts: int = 10):  # of k-means, of which the tightest counts
        self.starts = starts

    def applies(self, study: Any) -> bool:
        return isinstance(study.method, Encodes) and classified(study.data)

    def measure(self, study: Any) -> list[Number]:
        settings = {"starts": self.starts, "version": 1}
        raw = kept(study, "clustering", [study.split], settings, lambda: self.scores(study, study.raw(study.split)))
        codes = study.codes(study.split)
        if not study.leads:
            return []
        ours = self.scores(study, codes)
        if not ours:
            study.notes.append(
                f"k-means needs more labelled {study.split} images than classes, which are {MOST_CLASSES} at most"
            )
            return []
        facts = {"split": study.split, "images": int((codes.y >= 0).sum()), "clusters": study.data.classes}
        facts |= {"starts": self.starts, "seed": study.seed, "dimension": codes.h.shape[1], "baseline": "raw pixels"}
        return [
            Number(name, value, UNITS[name], "higher", facts | {"baseline_value": raw[name]})
            for name, value in ours.items()
        ]

    def scores(self, study: Any, features: Features) -> dict[str, float]:
        """The leader's; empty where there is nothing to cluster."""
        known = features.y >= 0
        h, y, classes = features.h[known], features.y[known].numpy(), study.data.classes
        if not study.leads or len(y) <= classes or classes > MOST_CLASSES:
            return {}
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            model = KMeans(classes, n_init=self.starts, random_state=mix(study.seed, 3) % 2**32)
            cluster = model.fit_predict(h.numpy())
        return {
            "kmeans_accuracy": matched(torch.from_numpy(cluster), torch.from_numpy(y), classes),
            "nmi": float(normalized_mutual_info_score(y, cluster)),
            "ari": float(adjusted_rand_score(y, cluster)),
        }


def matched(cluster: Tensor, y: Tensor, classes: int) -> float:
    """% of rows whose cluster is matched to their class, in the one-to-one match where these are most (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((classes, classes))
    np.add.at(together, (cluster.numpy(), y.numpy()), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(100 * together[rows, columns].sum() / len(y))
