"""Nearest neighbors and linear classifiers on frozen features.

They learn from labelled training examples and are scored on others. Baselines: the same on the kind's raw features, and
on the codes of the same network before training.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.capabilities import Encodes, IntermediateFeatures
from unlabeled.errors import UserError
from unlabeled.evaluation.cache import cached
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.kinds import Data, kind_of
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.stats.linear import fit_logistic, fit_ridge, percent
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix

RIDGE = tuple(float(f"{10 ** (i / 2):.3g}") for i in range(-10, 5))  # 1e-5 to 1e2
MOST_CLASSES = 1000  # for logistic regression: its time grows with them

Scores = dict[str, tuple[float, dict[str, Any]]]  # name -> what is reached in %, and how


class Probe:
    """Accuracy in % of nearest neighbors, ridge regression and logistic regression on codes; of the last also with a
    share of the labels. With `study.transfer`, the same on its data.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "linear_accuracy": Headline(40, "classes that a linear classifier predicts from the codes"),
        "knn_accuracy": Headline(60, "classes that the nearest codes predict"),
    }

    def __init__(
        self,
        neighbors: Sequence[Sequence[float]] = ((20, 0.07), (200, 0.1)),  # k, and the temperature of their votes
        ridge: Sequence[float] = RIDGE,  # penalties to choose from, see stats/linear.py
        logistic: Sequence[float] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5),  # none: it is left out
        held_out: float = 0.2,  # share of the training images that chooses the penalty
        choose_on: int = 10_000,  # training images at most that logistic regression chooses its penalty on
        labels: Sequence[float] = (0.01, 0.1),  # shares of the labels
        stages: bool = False,  # also after each stage of the network
    ):
        self.neighbors = [(int(k), temperature) for k, temperature in neighbors]
        self.ridge, self.logistic = list(ridge), list(logistic)
        self.held_out, self.choose_on = held_out, choose_on
        self.labels = list(labels)
        self.stages = stages
        if not self.neighbors or min(min(pair) for pair in self.neighbors) <= 0:
            raise UserError(f"probe.neighbors={neighbors}: pairs of a number of images and a temperature, above 0")
        if not self.ridge or min(self.ridge + self.logistic) <= 0:
            raise UserError("probe.ridge and probe.logistic are penalties above 0, of which ridge needs one at least")
        if not all(0 < share < 1 for share in [held_out, *self.labels]):
            raise UserError(f"probe.labels={self.labels}, probe.held_out={held_out}: shares between 0 and 1")

    def applies(self, study: Study) -> bool:
        """Also to examples without a class each, which are not probed: a note says why."""
        return isinstance(study.method, Encodes) and any(one.kind.raw is not None for one in sites(study))

    def measure(self, study: Study) -> list[Metric]:
        numbers = []
        for one in sites(study):
            known = len(one.notes)
            found = self.numbers(one) if classified(one.data) else []
            if not classified(one.data):
                one.notes.append(f"no probes: data={one.data.source.name} {unclassified(one.data)}")
            if one is not study:
                found = [replace(number, name=f"{number.name}[{one.data.source.name}]") for number in found]
                study.notes += one.notes[known:]
            numbers += found
        return numbers

    def numbers(self, study: Study) -> list[Metric]:
        """Of one data set."""
        if study.split == "train":
            study.notes.append("probes learn on train, and are not scored there: say evaluation.split=test")
            return []
        splits = ("train", study.split)
        settings = vars(self) | {"stages": None, "version": 1}  # raw features have no stages
        raw: Scores = cached(study, "probe", splits, settings, lambda: self.raw(study))
        codes = {"": [study.codes(split) for split in splits]}
        fresh = {}
        if study.untrained:
            untrained = study.once("untrained", study.untrained)
            fresh[""] = [study.features(untrained.encode, split, f"encoding {split}, untrained") for split in splits]
        if self.stages and isinstance(study.method, IntermediateFeatures):
            codes |= staged(study, study.method, splits)
            if study.untrained:
                fresh |= staged(study, untrained, splits)
        if not study.is_main:
            return []
        train, test = labelled(codes[""])
        if len(train.y.unique()) < 2 or not len(test.y):
            study.notes.append(f"probes need labelled train images of two classes, and labelled {study.split} images")
            return []
        facts = {"split": study.split, "images": len(test.y), "train_images_of": len(study.table("train"))}
        facts |= {"seed": study.seed, "baseline": study.kind.raw_name}
        numbers = []
        for stage, features in codes.items():
            before: Scores = {}
            if stage in fresh and fresh[stage][0].h.std(0).any():  # equal codes: weights that only training sets
                before = self.scores(study, fresh[stage], bool(stage))
            for name, (value, how) in self.scores(study, features, bool(stage)).items():
                known = raw[name][1]
                beside = {f"baseline_{key}": known[key] for key in ("dimension", "penalty") if key in known}
                beside["baseline_value"] = raw[name][0]
                if name in before:
                    beside["untrained_value"] = before[name][0]
                title = f"{name}[{stage}]" if stage else name
                numbers.append(Metric(title, value, "%", "higher", facts | how | beside))
        self.note_omissions(study, len(train.y))
        return numbers

    def raw(self, study: Study) -> Scores:
        features = [study.raw(split) for split in ("train", study.split)]
        return self.scores(study, features, False) if study.is_main else {}

    def scores(self, study: Study, features: Sequence[Features], brief: bool) -> Scores:
        """Every probe of one kind of features; `brief`: without logistic regressions."""
        train, test = labelled(features)
        if len(train.y.unique()) < 2 or not len(test.y):
            return {}
        found: Scores = {}
        classes, n = study.classes, len(train.y)

        def score(name: str, predicted: Tensor, how: dict[str, Any]) -> None:
            found[name] = (percent(predicted == test.y), {"dimension": train.h.shape[1], "train_images": n} | how)

        for (k, temperature), vote in zip(
            self.neighbors, neighbors(train, test.h, self.neighbors, classes), strict=True
        ):
            how = {"k": min(k, n), "temperature": temperature, "distance": "cosine"}
            score("knn_accuracy" if k == 20 else f"knn{k}_accuracy", vote, how)
        ridge = fit_ridge(train, self.ridge, self.held_out, classes, study.seed)
        score("ridge_accuracy", ridge.predict(test.h), ridge.facts)
        if brief or not self.logistic or classes > MOST_CLASSES:
            return found
        for share in [1.0, *self.labels]:
            part = train
            if share < 1:
                rows = balanced(train.y, share, classes, study.seed)
                part, n = Features(train.h[rows], train.y[rows]), len(rows)
                if not n:
                    continue
            logistic = fit_logistic(part, self.logistic, self.held_out, self.choose_on, study.seed)
            score("linear_accuracy" + named(share), logistic.predict(test.h), logistic.facts)
        return found

    def note_omissions(self, study: Study, n: int) -> None:
        """Notes on what was left out."""
        classes = study.classes
        if not self.logistic:
            return
        if classes > MOST_CLASSES:
            study.notes.append(f"no linear_accuracy: the data have {classes} classes, more than {MOST_CLASSES}")
            return
        for share in self.labels:
            if not per_class(n, share, classes):
                some = f"{100 * share:g}% of {n} labelled train images are fewer than the {classes} classes"
                study.notes.append(f"no linear_accuracy{named(share)}: {some}")


def sites(study: Study) -> list[Study]:
    """The study, and that of the same method on other data."""
    return [study, study.transfer] if study.transfer else [study]


def classified(data: Data) -> bool:
    """Whether examples have classes, and raw features to compare codes with."""
    return kind_of(data.batch).raw is not None and (data.classes or 0) > 1


def unclassified(data: Data) -> str:
    """Why `classified` is false."""
    kind = kind_of(data.batch)
    if not kind.single:
        return f"has no single {kind.noun}s"
    if getattr(data, "factors", None) or getattr(data, "attributes", None):
        labels = "factors" if getattr(data, "factors", None) else "attributes"
        return f"has {labels} and no class for each {kind.noun}"
    if data.classes:
        return f"has {kind.noun}s of one class only"
    return f"has no class for each {kind.noun} (folders of images, a folder for each class, are classes)"


def labelled(features: Sequence[Features]) -> list[Features]:
    """The rows with a known class."""
    return [Features(f.h[f.y >= 0], f.y[f.y >= 0]) for f in features]


def staged(study: Study, method: IntermediateFeatures, splits: Sequence[str]) -> dict[str, list[Features]]:
    """Features of each split after each stage of the network, by its name; all stages in one pass."""
    found: dict[str, list[Features]] = {}
    for split in splits:
        table, chosen = study.table(split), study.chosen(split)
        names: list[str] = []

        def work(index: Tensor, table: Any = table, chosen: Tensor = chosen, names: list[str] = names) -> Any:
            stages = method.intermediate_features(table.batch(chosen[index]).x.to(study.device))
            names[:] = stages
            return tuple(h.float() for h in stages.values())

        columns = study.rows(len(chosen), work, f"encoding {split} by stages")
        for name, h in zip(study.ranks.gather(names)[0], columns, strict=True):
            found.setdefault(name, []).append(Features(h, study.codes(split).y))
    return found


def named(share: float) -> str:
    return "" if share == 1 else f"_{100 * share:g}%"


def per_class(n: int, share: float, classes: int) -> int:
    """Examples of each class in a share of n."""
    return round(n * share) // classes


def balanced(y: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Rows of a share of y (N,), equally many of each class (of a rare one, all), drawn by the seed; ascending.

    Empty if the share has fewer rows than there are classes.
    """
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(mix(seed, 2)))
    each = per_class(len(y), share, classes)
    return torch.cat([order[y[order] == c][:each] for c in range(classes)]).sort().values


def directions(h: Tensor) -> Tensor:
    """Features (N, D) scaled to length 1, in float64."""
    return normalize(h.double(), dim=1)


def neighbors(
    train: Features,
    queries: Tensor,  # (M, D)
    votes: Sequence[tuple[int, float]],  # k and temperature
    classes: int,
    chunk: int = 128,  # queries at a time: bounds the memory to chunk x N similarities
) -> list[Tensor]:
    """For each k and temperature, each query's class (M,) by a vote of its k nearest in angle, weighted by
    exp(cosine / temperature).

    Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4.
    """
    centre = torch.stack([directions(part).sum(0) for part in train.h.split(4096)]).sum(0) / len(train.h)

    def about(h: Tensor) -> Tensor:
        """Directions minus their mean: cosines of features far from 0 differ by less than the precision of float32."""
        return torch.cat([(directions(part) - centre).float() for part in h.split(4096)])

    bank = about(train.h)
    along = bank @ centre.float()
    most = min(max(k for k, _ in votes), len(bank))
    predicted: list[list[Tensor]] = [[] for _ in votes]
    for part in queries.split(chunk):
        turned = about(part)
        cosine, nearest = (turned @ bank.T + along).topk(most, dim=1)  # (m, most), the nearest first
        cosine += (directions(part) @ centre).float()[:, None]
        for (k, temperature), found in zip(votes, predicted, strict=True):
            counted = torch.zeros(len(part), classes)
            counted.scatter_add_(1, train.y[nearest[:, :k]], (cosine[:, :k] / temperature).exp())
            found.append(counted.argmax(1))
    return [torch.cat(found) for found in predicted]
