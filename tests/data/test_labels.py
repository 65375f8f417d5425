"""Few labels: which training sees, how often, and how well what was learned from them classifies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.data.kinds.images import ImageData
from unlabeled.data.packing import RawImages
from unlabeled.data.sources.digits import Digits
from unlabeled.errors import UserError
from unlabeled.evaluation.metrics.classification import Classification
from unlabeled.evaluation.study import Study


class Some:
    """Grey squares with the labels given, each image's level its row."""

    name = "some"
    splits = ("train",)

    def __init__(self, labels: Any):
        self.labels = np.asarray(labels)

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return str(self.labels.tolist())

    def read(self, root: Path, split: str) -> RawImages:
        levels = np.arange(len(self.labels), dtype=np.uint8)[:, None, None]
        return RawImages(np.broadcast_to(levels, (len(levels), 4, 4)), self.labels)


def digits(folder: Path, **named: Any) -> ImageData:
    return ImageData(Digits(), folder, (1, 8, 8), 50, classes=10, val=0.2, test=0.2, **named)


def some(folder: Path, y: Any, **named: Any) -> ImageData:
    return ImageData(Some(y), folder, (1, 4, 4), 8, **{"val": 0.0, "test": 0.0} | named)


def test_training_sees_as_many_labels_of_each_class_and_evaluation_all(tmp_path: Path) -> None:
    data, whole = digits(tmp_path, num_labels=20, labelled_share=0.0), digits(tmp_path)
    seen, known = data.training(), whole.table("train")
    y = seen.labels[seen.rows]
    assert torch.equal(y[y >= 0].bincount(), torch.full((10,), 2))
    assert torch.equal(seen.rows.sort().values, known.rows)  # every training image, and none of the others
    assert torch.equal(y[y >= 0], known.labels[seen.rows][y >= 0])
    for split in ("train", "val", "test"):
        assert (data.table(split).labels >= 0).all() and torch.equal(data.table(split).rows, whole.table(split).rows)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_labelled_images_are_their_share_of_the_batches(tmp_path: Path, share: float) -> None:
    data = digits(tmp_path, num_labels=30, labelled_share=share)
    loader = data.train_dataloader()
    y = torch.cat([batch.y for batch in loader])
    assert float((y >= 0).double().mean()) == pytest.approx(share, abs=0.02)
    rows, often = data.training().rows.unique(return_counts=True)
    assert torch.equal(rows, data.table("train").rows)
    again = often[often > 1]
    assert len(again) == 30 and again.max() - again.min() <= 1  # all labelled ones as often


def test_a_seed_of_its_own_draws_the_labels(tmp_path: Path) -> None:
    kept = lambda **named: (digits(tmp_path, num_labels=20, **named).training().labels >= 0).nonzero()[:, 0]
    assert torch.equal(kept(), kept(seed=5)) and not torch.equal(kept(), kept(label_seed=1))


def test_labels_stay_within_the_classes_that_training_keeps(tmp_path: Path) -> None:
    table = digits(tmp_path, num_labels=6, class_subset=[3, 8]).training()
    y = table.labels[table.rows]
    assert torch.equal(table.labels[table.labels >= 0].bincount()[[3, 8]], torch.tensor([3, 3]))
    assert set(y.tolist()) == {-1, 3, 8}


def test_more_labels_than_the_share_asks_for_come_once_each(tmp_path: Path) -> None:
    rows = some(tmp_path, [0, 1] * 8, num_labels=12, labelled_share=0.1).training().rows
    assert torch.equal(rows.sort().values, torch.arange(16))


@pytest.mark.parametrize(
    ("y", "named", "words"),
    [
        ([0, 1] * 8, {"num_labels": 0}, "data.num_labels=0: say how many labels training sees"),
        ([0, 1] * 8, {"num_labels": "few"}, "data.num_labels=few: say how many"),
        ([0, 1] * 8, {"num_labels": True}, "data.num_labels=True: say how many"),
        ([0, 1] * 8, {"num_labels": 2, "labelled_share": 1.0}, "data.labelled_share=1.0: 0 or more, and less than 1"),
        ([0, 1] * 8, {"num_labels": 5}, "data.num_labels=5: data=some has 2 classes: say a multiple of that"),
        ([0, 1] * 8, {"num_labels": 18}, "has 8 training images of class 0: say fewer labels"),
        ([-1] * 16, {"num_labels": 2}, "has no class for each of its images: leave data.num_labels out"),
        ([[0, 1]] * 16, {"num_labels": 2}, "has no class for each of its images: leave data.num_labels out"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, y: Any, named: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        some(tmp_path, y, **named).train_dataloader()


# How well it classifies


class Reads:
    """Says that an image of level n is of class n, or n + 1 from `wrong` on."""

    device = torch.device("cpu")

    def __init__(self, wrong: int):
        self.wrong = wrong

    def classify(self, x: Tensor) -> Tensor:
        level = ((x[:, 0, 0, 0] + 1) * 127.5).round().long()
        return torch.nn.functional.one_hot(level % 4 + (level >= self.wrong), 6).float()


def test_accuracy_error_and_the_most_common_class(tmp_path: Path) -> None:
    y = torch.arange(160) % 4
    y[:20:4] = -1  # unknown: they count for nothing
    data = some(tmp_path, y.tolist(), classes=4, num_labels=8, test=0.5)
    study = Study(Reads(wrong=120), data)
    found = {number.name: number for number in Classification().measure(study)}
    table = data.table("test")
    known = table.labels[table.rows] >= 0
    right, n = float((table.rows < 120)[known].double().mean()), int(known.sum())
    assert Classification().applies(study) and 0.5 < right < 1 and n < len(table)
    assert found["accuracy"].value == pytest.approx(100 * right) and found["accuracy"].facts["images"] == n
    assert found["error_rate"].value == pytest.approx(100 * (1 - right)) and found["error_rate"].better == "lower"
    common = float(table.labels[table.rows][known].bincount().max()) / n
    assert found["accuracy"].facts["baseline_value"] == pytest.approx(100 * common)
    assert found["error_rate"].facts["baseline_value"] == pytest.approx(100 * (1 - common))
    expected = 100 * (right * (1 - right) / n) ** 0.5
    assert all(number.facts["standard_error"] == pytest.approx(expected) for number in found.values())
    assert found["accuracy"].facts["labels"] == 8


def test_it_is_measured_where_a_method_classifies_and_images_have_classes(tmp_path: Path) -> None:
    assert not Classification().applies(Study(object(), some(tmp_path, [0, 1] * 8, classes=2)))
    assert not Classification().applies(Study(Reads(9), some(tmp_path, [0, 1] * 8)))
    nothing = Study(Reads(9), some(tmp_path, [-1] * 16, classes=2, test=0.5))
    assert Classification().measure(nothing) == [] and nothing.notes == [
        "no accuracy: no image of the test split has a class"
    ]
