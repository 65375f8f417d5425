"""One-class training data, and how well images of other classes stand out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.batches import Images
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.packing import RawImages
from unlabeled.data.sources.digits import Digits
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Metric
from unlabeled.evaluation.metrics.anomaly import Anomaly, distances, kinds, ranked, ranks, scores
from unlabeled.evaluation.metrics.likelihood import Likelihood
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.study import Study

# Data of some classes


def digits(folder: Path, only: Any = None) -> ImageData:
    return ImageData(Digits(), folder, (1, 8, 8), 50, classes=10, val=0.2, test=0.2, class_subset=only)


def labels(data: ImageData, split: str) -> Tensor:
    table = data.table(split)
    return table.batch(torch.arange(len(table))).y


def test_train_and_val_keep_some_classes_and_test_keeps_all(tmp_path: Path) -> None:
    whole, one, two = digits(tmp_path), digits(tmp_path, 3), digits(tmp_path, [0, 7])
    for split in ("train", "val"):
        every = labels(whole, split)
        for data, classes in ((one, [3]), (two, [0, 7])):
            wanted = whole.table(split).rows[torch.isin(every, torch.tensor(classes))]
            assert torch.equal(data.table(split).rows, wanted) and len(wanted) > 10
            assert set(labels(data, split).tolist()) == set(classes)
    for data in (one, two):
        assert torch.equal(data.table("test").rows, whole.table("test").rows)
    assert whole.class_subset is None and one.class_subset == (3,) and two.class_subset == (0, 7)
    assert whole.keys == one.keys == two.keys, "they are packed once"


class Some:
    """A source with a val split of its own, as long as train."""

    name = "some"
    splits = ("train", "val", "test")

    def __init__(self, labels: np.ndarray):
        self.labels = labels

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return str(self.labels.tolist())

    def read(self, root: Path, split: str) -> RawImages:
        return RawImages(np.zeros((len(self.labels), 8, 8), np.uint8), self.labels)


def some(folder: Path, labels: list[Any], only: Any) -> ImageData:
    return ImageData(Some(np.array(labels)), folder, (1, 8, 8), 2, class_subset=only)


def test_a_val_split_of_its_own_keeps_the_classes_too(tmp_path: Path) -> None:
    data = some(tmp_path, [0, 2, -1, 2], 2)
    assert data.table("train").rows.tolist() == data.table("val").rows.tolist() == [1, 3]
    assert len(data.table("test")) == 4


@pytest.mark.parametrize("only", ["", [], [0, ""], -1, True, 1.5, [0.5]])
def test_what_is_no_class_is_refused(tmp_path: Path, only: Any) -> None:
    with pytest.raises(UserError, match=r"say the name or the number of a class, data.class_subset=0, or several"):
        some(tmp_path, [0, 1], only)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 2, 5], "data=some has no class 4: there are 3, 0 to 5"),
        ([-1, -1, -1], "the images of data=some have no class each"),
        ([[0, 1], [1, 1], [4, 4]], "the images of data=some have no class each"),
    ],
)
def test_a_class_that_is_not_there_is_named(tmp_path: Path, labels: list[Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        some(tmp_path, labels, [0, 4]).table("train")


# Scores, by hand


def test_the_distance_is_the_mean_over_the_two_nearest() -> None:
    train = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]])
    scored = torch.tensor([[0.5, 0.0], [9.0, 0.0], [0.0, 3.0]])
    torch.testing.assert_close(distances(train, scored), torch.tensor([0.5, 4.5, (3 + 10**0.5) / 2]).double())
    torch.testing.assert_close(distances(train[:1], scored), torch.tensor([0.5, 9, 3]).double())


def test_distances_are_exact_far_from_the_origin() -> None:
    g = torch.Generator().manual_seed(0)
    train, scored = (1000 + torch.randn(n, 20, generator=g) / 100 for n in (300, 40))
    reference = torch.cdist(scored.double(), train.double()).topk(2, largest=False).values.mean(1)
    torch.testing.assert_close(distances(train, scored), reference, rtol=1e-4, atol=0)


def test_ranks_by_hand() -> None:
    anomalous = torch.tensor([False, True, False, True])
    found = ranks(anomalous, torch.tensor([1.0, 2, 3, 4]))
    assert found["auroc"] == pytest.approx(75)  # 3 of 4 pairs are in order
    assert found["average_precision"] == pytest.approx(100 * (1 + 2 / 3) / 2)  # found first and third
    assert ranks(anomalous, -torch.tensor([1.0, 2, 3, 4]))["auroc"] == pytest.approx(25)


# The evaluator


class Rows:
    def __init__(self, batch: Images):
        self.all = batch

    def __len__(self) -> int:
        return len(self.all.y)

    def batch(self, index: Tensor) -> Images:
        return Images(self.all.x[index], self.all.y[index])


class Data:
    """Grey images of one value each."""

    batch = Images
    shape = (1, 2, 2)
    classes = 3

    def __init__(self, only: tuple[int, ...] | None, train: list[float], test: list[float], y: list[int]):
        self.class_subset = only
        flat = lambda values: torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        self.splits = {
            "train": Images(flat(train), torch.ones(len(train), dtype=torch.int64)),
            "test": Images(flat(test), torch.tensor(y)),
        }

    def table(self, split: str) -> Rows:
        return Rows(self.splits[split])


class Gives:
    """Everything that scores: the image without what is above 0.5, a bound of minus its grey, its grey as code."""

    device = torch.device("cpu")
    bin_width = 1.0
    calls = 0

    def reconstruct(self, x: Tensor) -> Tensor:
        return x.clamp(max=0.5)

    def log_likelihood(self, x: Tensor) -> Tensor:
        self.calls += 1
        return -x.flatten(1)[:, 0].abs()

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :1] * 3


DATA = {"train": [0.0, 0.125], "test": [0.75, 0.0, -0.5, 1.0, 0.625, 0.125], "y": [0, 1, 1, 2, -1, 1]}


def study(method: Any = None, only: tuple[int, ...] | None = (1,), **settings: Any) -> Study:
    return Study(method or Gives(), Data(only, **DATA), **settings)


def measured(of: Study) -> dict[str, Metric]:
    assert Anomaly().applies(of)
    return {number.name: number for number in Anomaly().measure(of)}


def test_scores_by_hand() -> None:
    found = scores(study())
    assert found["reconstruction"].tolist() == [0.0625, 0, 0, 0.25, 0.015625, 0]
    assert found["likelihood"].tolist() == [0.75, 0, 0.5, 1, 0.625, 0.125]
    wanted = [3 * (abs(x) + abs(x - 0.125)) / 2 for x in DATA["test"]]
    assert found["neighbors"].tolist() == pytest.approx(wanted)


def test_each_kind_is_told_beside_raw_pixels() -> None:
    found = measured(study())
    names = [f"anomaly_{m}[{k}]" for m in ("auroc", "average_precision") for k in kinds(Gives())]
    assert list(found) == names and len(names) == 6
    assert all(number.value == pytest.approx(100) for number in found.values())
    facts = found["anomaly_average_precision[neighbors]"].facts
    assert (facts["images"], facts["anomalies"], facts["train_images"]) == (5, 2, 2), "one label is not known"
    assert facts["chance"] == pytest.approx(40) and facts["normal_classes"] == [1] and facts["k"] == 2
    assert found["anomaly_auroc[neighbors]"].facts["chance"] == 50

    class Blind(Gives):
        """-0.5, a normal image, is as far off as 1.0, the farther anomaly; 0.75 comes third."""

        def encode(self, x: Tensor) -> Tensor:
            x = x.flatten(1)[:, :1]
            return torch.where(x == -0.5, 1.0, x)

    found = measured(study(Blind()))
    number = found["anomaly_auroc[neighbors]"]
    assert number.value == pytest.approx(100 * (2 + 0.5 + 2) / 6) and number.facts["baseline_value"] == 100
    assert found["anomaly_auroc[likelihood]"].value == 100


def test_only_what_the_method_gives() -> None:
    class Encoder:
        device = torch.device("cpu")
        encode = Gives.encode

    assert set(measured(study(Encoder()))) == {"anomaly_auroc[neighbors]", "anomaly_average_precision[neighbors]"}
    assert not Anomaly().applies(study(object()))
    assert not Anomaly().applies(study(only=None))


def test_nothing_to_tell_apart_is_a_note() -> None:
    for only in ((0, 1, 2), (5,)):
        of = study(only=only)
        assert measured(of) == {}
        (note,) = of.notes
        assert f"evaluation.split=test does not have both images of class {', '.join(map(str, only))} and" in note


def test_passes_are_shared() -> None:
    of = study()
    Likelihood().measure(of)
    measured(of)
    ranked(of)
    assert of.method.calls == 1


def test_the_most_and_the_least_anomalous() -> None:
    for only in ((1,), None):
        found = ranked(study(only=only), 2)
        assert list(found) == ["reconstruction", "likelihood", "neighbors"]
        assert found["likelihood"].most.tolist() == [3, 0] and found["likelihood"].least.tolist() == [1, 5]
        assert found["likelihood"].score.tolist() == [0.75, 0, 0.5, 1, 0.625, 0.125]
    of = study(codes=4, seed=2)  # a split of which some rows are encoded
    found, chosen = ranked(of, 99), of.chosen("test")
    every = scores(study())
    for kind, ranking in found.items():
        assert torch.equal(ranking.score, every[kind][chosen])
        assert set(ranking.most.tolist()) == set(chosen.tolist()) and len(ranking.score) == 4
        assert ranking.most.tolist() == ranking.least.flip(0).tolist()
    greys = torch.tensor(DATA["test"])[found["likelihood"].most].abs()
    assert greys.tolist() == sorted(greys.tolist(), reverse=True)
    assert len(measured(of)) == 6


def test_followers_have_nothing_to_say() -> None:
    class Second(Ranks):
        is_main = False

    of = study(ranks=Second())
    assert Anomaly().measure(of) == [] and ranked(of) == {}


def test_a_diverged_checkpoint_is_refused_in_words() -> None:
    class Diverged(Gives):
        def log_likelihood(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, 0] * float("nan")

    with pytest.raises(UserError, match="the likelihood scores of some images are not finite"):
        measured(study(Diverged()))
