"""Detection of images of classes that training did not see."""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from unlabeled.capabilities import BoundsLikelihood, Encodes, Reconstructs
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.metrics.likelihood import bounds
from unlabeled.evaluation.study import Study

NEAREST = 2  # Bergman et al. 2020, section 4: k = 2


class Anomaly:
    """Training has the normal classes alone, one or some; the scored split has all, and all others are the positive
    class. anomaly_auroc and anomaly_average_precision in %, for each score of the method:

    - reconstruction: mean squared error of `reconstruct`
    - likelihood: minus the bound on log p(x)
    - neighbors: mean Euclidean distance to the codes of the 2 nearest training images; Bergman et al. 2020,
      https://arxiv.org/abs/2002.10445, section 3. The baseline is the same on raw pixels.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "anomaly_auroc": Headline(80, "how surely images of unseen classes stand out: 50 is chance"),
    }

    def applies(self, study: Study) -> bool:
        one_class = study.kind.raw is not None and getattr(study.data, "class_subset", None) is not None
        return one_class and bool(kinds(study.method))

    def measure(self, study: Study) -> list[Metric]:
        found = scores(study)
        raw = study.raw("train"), study.raw(study.split)
        if not study.is_main:
            return []
        known, chosen = raw[1].y >= 0, tuple(getattr(study.data, "class_subset", ()))
        normal = [study.class_names[c] if c < len(study.class_names) else c for c in chosen]
        anomalous = ~torch.isin(raw[1].y, torch.tensor(chosen))[known]
        if anomalous.all() or not anomalous.any():
            classes = ", ".join(map(str, normal))
            study.notes.append(
                f"no anomaly detection: evaluation.split={study.split} does not have both images of class {classes} "
                "and others; test has all"
            )
            return []
        facts = {
            "split": study.split,
            "images": len(anomalous),
            "anomalies": int(anomalous.sum()),
            "normal_classes": normal,
            "train_images": len(raw[0].h),
            "baseline": f"neighbors of {study.kind.raw_name}",
        }
        numbers = []
        baseline = ranks(anomalous, distances(raw[0].h, raw[1].h)[known])
        chance = {"auroc": 50.0, "average_precision": 100 * float(anomalous.double().mean())}
        reached = {kind: ranks(anomalous, score[known]) for kind, score in found.items()}
        for measure in chance:
            for kind, values in reached.items():
                more = {"baseline_value": baseline[measure], "chance": chance[measure]}
                if kind == "neighbors":
                    more["k"] = min(NEAREST, len(raw[0].h))
                name = f"anomaly_{measure}[{kind}]"
                numbers.append(Metric(name, values[measure], "%", "higher", facts | more))
        return numbers


class Ranking(NamedTuple):
    """Rows of the scored split by one score."""

    most: Tensor  # (n,), the most anomalous first
    least: Tensor  # (n,), the least anomalous first
    score: Tensor  # (N,), of `study.chosen(study.split)`


def ranked(study: Study, n: int = 16) -> dict[str, Ranking]:
    """The most and the least anomalous images of the scored split, for each kind of score, on any data.

    Every process calls it; the others than the main one get {}.
    """
    rows, found = study.chosen(study.split), scores(study)
    rankings = {}
    for kind, score in found.items():
        order = score.argsort(stable=True)
        rankings[kind] = Ranking(rows[order.flip(0)[:n]], rows[order[:n]], score)
    return rankings


def kinds(method: Any) -> list[str]:
    """The kinds of score that a method has."""
    needs = {"reconstruction": Reconstructs, "likelihood": BoundsLikelihood, "neighbors": Encodes}
    return [kind for kind, capability in needs.items() if isinstance(method, capability)]


def scores(study: Study) -> dict[str, Tensor]:
    """Scores (N,) of the chosen rows of the scored split, by kind, float64, higher for anomalies; {} on other ranks."""
    method, table, rows = study.method, study.table(study.split), study.chosen(study.split)

    def work(index: Tensor) -> tuple[Tensor, ...]:
        x = table.batch(rows[index]).x.to(study.device)
        return ((method.reconstruct(x) - x).square().flatten(1).mean(1).cpu().double(),)

    def passes() -> dict[str, Tensor]:
        found = {}
        for kind in kinds(method):
            if kind == "reconstruction":
                (found[kind],) = study.rows(len(rows), work, "reconstructing")
            elif kind == "likelihood":
                found[kind] = -bounds(study)[0][rows]
            else:
                train, scored = study.codes("train"), study.codes(study.split)
                if study.is_main:
                    found[kind] = distances(train.h, scored.h)
        for kind, score in found.items():
            if not torch.isfinite(score).all():
                raise UserError(
                    f"the {kind} scores of some images are not finite: the checkpoint has diverged, take an earlier"
                )
        return found if study.is_main else {}

    result: dict[str, Tensor] = study.once("anomaly scores", passes)
    return result


def distances(train: Tensor, scored: Tensor) -> Tensor:
    """Mean Euclidean distance (M,) of features (M, D) to the nearest of train (N, D), float64."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=min(NEAREST, len(train)), algorithm="brute").fit(train.numpy())
    return torch.from_numpy(nearest.kneighbors(scored.numpy())[0]).double().mean(1)


def ranks(anomalous: Tensor, score: Tensor) -> dict[str, float]:
    """Area under the ROC curve and average precision, in %."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        "auroc": 100 * float(roc_auc_score(anomalous, score)),
        "average_precision": 100 * float(average_precision_score(anomalous, score)),
    }
