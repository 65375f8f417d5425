"""Agreement of clusters of codes with classes that training did not see."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unlabeled.capabilities import Clusters, Encodes
from unlabeled.evaluation.cache import cached
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.metrics.probe import MOST_CLASSES, classified
from unlabeled.evaluation.stats.fits import quiet
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix

NAMES = ("kmeans_accuracy", "nmi", "ari")  # of k-means
OWN = ("cluster_accuracy", "cluster_nmi", "cluster_ari")  # of the method's clusters
UNITS = ("%", "", "")


class Clustering:
    """k-means on the scored split's codes, with as many clusters as classes; baseline: k-means on raw features.

    kmeans_accuracy: under the best one-to-one match of clusters and classes. nmi: mutual information of clusters and
    classes, over the mean of their entropies, 0 to 1. ari: adjusted Rand index, 0 at chance and 1 at most.
    cluster_accuracy, cluster_nmi, cluster_ari: the same for the method's own clusters.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "cluster_accuracy": Headline(20, "images whose cluster is matched to their class"),
    }

    def __init__(self, n_init: int = 10):  # runs of k-means, of which the best counts
        self.n_init = n_init

    def applies(self, study: Study) -> bool:
        return isinstance(study.method, Encodes) and classified(study.data)

    def measure(self, study: Study) -> list[Metric]:
        settings = {"n_init": self.n_init, "version": 1}
        raw = cached(study, "clustering", [study.split], settings, lambda: self.scores(study, study.raw(study.split)))
        codes = study.codes(study.split)
        own = self.assigned(study) if isinstance(study.method, Clusters) else None
        if not study.is_main:
            return []
        ours = self.scores(study, codes)
        if not ours:
            study.notes.append(
                f"k-means needs more labelled {study.split} images than classes, which are {MOST_CLASSES} at most, and "
                "images of two classes"
            )
            return []
        if ours["clusters"] < study.classes:
            study.notes.append(
                f"k-means found {ours['clusters']} of {study.classes} clusters: the codes of the "
                f"{study.split} images have only so many values"
            )
        facts = {"split": study.split, "images": int((codes.y >= 0).sum()), "clusters": study.classes}
        facts |= {
            "n_init": self.n_init,
            "seed": study.seed,
            "dimension": codes.h.shape[1],
            "baseline": study.kind.raw_name,
        }
        numbers = [
            Metric(name, ours[name], unit, "higher", facts | {"baseline_value": raw[name]})
            for name, unit in zip(NAMES, UNITS, strict=True)
        ]
        if own is None:
            return numbers
        known = own.y >= 0
        found = agreement(own.h[known][:, 0].long().numpy(), own.y[known].numpy())
        facts = {"split": study.split, "images": int(known.sum()), "clusters": study.method.clusters}
        facts |= {"baseline": f"k-means on {study.kind.raw_name}"}
        return numbers + [
            Metric(name, value, unit, "higher", facts | {"baseline_value": raw[of_pixels]})
            for name, value, unit, of_pixels in zip(OWN, found, UNITS, NAMES, strict=True)
        ]

    def assigned(self, study: Study) -> Features:
        """The method's own clusters of the same rows, as features (N, 1)."""
        return study.features(lambda x: study.method.assign(x)[:, None], study.split, f"clustering {study.split}")

    def scores(self, study: Study, features: Features) -> dict[str, float]:
        """Scores and the number of clusters found; {} if there is nothing to cluster, and on other processes."""
        known = features.y >= 0
        h, y, classes = features.h[known], features.y[known].numpy(), study.classes
        if not study.is_main or len(y) <= classes or classes > MOST_CLASSES or len(np.unique(y)) < 2:
            return {}
        from sklearn.cluster import KMeans

        with quiet():
            model = KMeans(classes, n_init=self.n_init, random_state=mix(study.seed, 3) % 2**32)
            cluster = model.fit_predict(h.numpy())
        return dict(zip(NAMES, agreement(cluster, y), strict=True)) | {"clusters": len(np.unique(cluster))}


def agreement(cluster: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Accuracy in %, NMI and ARI of clusters (N,) with classes (N,)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    with quiet():
        return (
            matched(torch.from_numpy(cluster), torch.from_numpy(y), int(y.max()) + 1),
            float(normalized_mutual_info_score(y, cluster)),
            float(adjusted_rand_score(y, cluster)),
        )


def matched(cluster: Tensor, y: Tensor, classes: int) -> float:
    """% of rows whose cluster is matched to their class, by the best one-to-one matching (Kuhn 1955).

    With more clusters than classes, the rows of unmatched clusters count as wrong.
    """
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((int(cluster.max()) + 1, classes))
    np.add.at(together, (cluster.numpy(), y.numpy()), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(100 * together[rows, columns].sum() / len(y))
