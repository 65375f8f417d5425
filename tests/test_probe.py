"""Probes of frozen features."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from unlabeled.batches import Images, Paired, to_uint8
from unlabeled.data.loader import Loader
from unlabeled.data.tables import ImageTable
from unlabeled.errors import UserError
from unlabeled.evaluation import probe as module
from unlabeled.evaluation.features import Features, extract, labelled, pixels
from unlabeled.evaluation.probe import Linear, Probe, fit, neighbours, percent


class Shrink(nn.Module):
    """Stands for a trained method: halves of the image, averaged."""

    device = torch.device("cpu")

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, :, :, :4].mean((1, 2, 3)), x[:, :, :, 4:].mean((1, 2, 3))], 1)


class Split:
    """Data as evaluation sees them."""

    batch = Images
    shape = (1, 8, 8)

    def __init__(self, train: Images, test: Images, classes: int | None = 2):
        self.tables = {
            name: ImageTable(to_uint8(split.x), split.y) for name, split in (("train", train), ("test", test))
        }
        self.classes = classes
        self.asked: list[str] = []

    def loader(self, split: str, batch_size: int = 32) -> Loader:
        self.asked.append(split)
        return Loader(self.tables[split], batch_size)


def halves(n: int, seed: int) -> Images:
    """Class 0 is brighter on the left, class 1 on the right."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=generator)
    x = torch.rand(n, 1, 8, 8, generator=generator) - 0.9
    for i, label in enumerate(y.tolist()):
        x[i, :, :, 4 * label : 4 * label + 4] += 0.8
    return Images(x, y)


def blobs(n: int = 300, classes: int = 3, dim: int = 8, apart: float = 1.0, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=generator)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    return Features(apart * centres[y] + torch.randn(n, dim, generator=generator), y)


def values(numbers):
    return {number.name: number.value for number in numbers}


def test_separable_is_all_right():
    numbers = Probe().measure(Shrink(), Split(halves(200, 0), halves(80, 1)))
    assert values(numbers) == {"knn_accuracy": 100.0, "linear_accuracy": 100.0}
    for number in numbers:
        facts = number.facts
        assert number.unit == "%" and number.better == "higher"
        assert (facts["split"], facts["images"], facts["train_images"], facts["dimension"]) == (
            "test",
            80,
            200,
            2,
        )
        assert facts["baseline"] == "raw pixels" and facts["baseline_dimension"] == 64
        assert 90 < facts["baseline_value"] <= 100


def test_shuffled_labels_are_chance():
    train, test = halves(600, 0), halves(400, 1)
    generator = torch.Generator().manual_seed(5)
    train = Images(train.x, train.y[torch.randperm(600, generator=generator)])
    test = Images(test.x, test.y[torch.randperm(400, generator=generator)])
    for value in values(Probe().measure(Shrink(), Split(train, test))).values():
        assert 40 < value < 60


def test_neighbours_are_sklearns():
    train, test = blobs(), blobs(200, seed=1)
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    want = theirs.fit(train.h.double(), train.y).predict(test.h.double())
    got = neighbours(train, test.h, 20, 0.07, 3, chunk=64)
    assert torch.equal(got, torch.from_numpy(want))
    assert 50 < percent(got == test.y) < 100  # hard enough that the vote matters
    plain = KNeighborsClassifier(20, metric="cosine").fit(train.h, train.y).predict(test.h)
    assert not torch.equal(got, torch.from_numpy(plain))


def test_more_neighbours_than_images():
    train = blobs(12)
    assert len(neighbours(train, train.h, 20, 0.07, 3)) == 12


def test_linear_is_the_minimum_of_its_loss():
    """Mean cross-entropy + lambda / 2 |w|^2 on standardised features: the gradient is zero there."""
    train, penalty = blobs(), 1e-3
    linear = Linear(train, penalty)
    w = torch.tensor(linear.model.coef_, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(linear.model.intercept_, dtype=torch.float64, requires_grad=True)
    h = (train.h - train.h.mean(0)) / train.h.std(0, correction=0)
    loss = torch.nn.functional.cross_entropy(h.double() @ w.T + b, train.y) + penalty / 2 * w.square().sum()
    loss.backward()
    assert linear.converged
    assert w.grad.abs().max() < 1e-5 and b.grad.abs().max() < 1e-5


def test_constant_features_do_no_harm():
    train, test = blobs(apart=4), blobs(100, apart=4, seed=1)
    wider = [Features(torch.cat([f.h, torch.full((len(f.h), 1), 7.0)], 1), f.y) for f in (train, test)]
    assert percent(Linear(wider[0], 1e-3).predict(wider[1].h) == test.y) == 100


def test_the_penalty_is_one_that_holds_out():
    """Few images in many dimensions want a strong penalty; many in few do not want the strongest."""
    penalties = (10.0, 1e-1, 1e-3, 1e-6)
    hard = blobs(120, dim=300, apart=0.12)
    chosen = fit(hard, penalties, 0.3, seed=0)
    order = []
    for penalty in penalties:
        scores = []
        for seed in range(4):
            permutation = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
            a, b = permutation[:84], permutation[84:]
            linear = Linear(Features(hard.h[a], hard.y[a]), penalty)
            scores.append(percent(linear.predict(hard.h[b]) == hard.y[b]))
        order.append(sum(scores))
    assert order[penalties.index(chosen.penalty)] > min(order)
    assert torch.equal(chosen.mean, hard.h.mean(0))  # refitted on all of train


def test_equal_scores_take_the_stronger_penalty():
    assert fit(blobs(apart=20), (1e-4, 1e-2, 1e-3), 0.2, seed=0).penalty == 1e-2


def test_test_images_are_only_scored(monkeypatch):
    """What is fitted does not change with the test split."""
    fitted = []
    original = module.fit

    def spy(train, *args):
        fitted.append((train, linear := original(train, *args)))
        return linear

    monkeypatch.setattr(module, "fit", spy)
    for test in (halves(80, 1), Images(-halves(80, 2).x.clamp(-1, 1), torch.zeros(80, dtype=torch.int64))):
        Probe().measure(Shrink(), Split(halves(200, 0), test))
    for (a, linear_a), (b, linear_b) in zip(fitted[:2], fitted[2:], strict=True):
        assert torch.equal(a.h, b.h) and linear_a.penalty == linear_b.penalty
        assert np.array_equal(linear_a.model.coef_, linear_b.model.coef_)


def test_order_and_batch_size_change_nothing():
    train, test = halves(150, 0), halves(70, 1)
    train = Images(train.x + 0.3 * torch.randn(train.x.shape, generator=torch.Generator().manual_seed(3)), train.y)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    first = Probe(batch_size=150).measure(Shrink(), Split(train, test))
    second = Probe(batch_size=7).measure(Shrink(), Split(train, Images(test.x[order], test.y[order])))
    assert first == second


def test_at_most_so_many_images_drawn_by_seed():
    data = Split(halves(300, 0), halves(40, 1))
    facts = Probe(max_train=50).measure(Shrink(), data)[0].facts
    assert (facts["train_images"], facts["train_images_of"], facts["seed"]) == (50, 300, 0)


def test_unlabelled_images_are_left_out():
    train, test = halves(100, 0), halves(40, 1)
    train.y[::3] = -1
    test.y[:10] = -1
    numbers = Probe().measure(Shrink(), Split(train, test))
    assert (numbers[0].facts["train_images"], numbers[0].facts["images"]) == (66, 30)
    assert values(numbers)["knn_accuracy"] == 100
    train.y[:] = -1
    assert Probe().measure(Shrink(), Split(train, test)) == []


def test_where_it_applies():
    data = Split(halves(20, 0), halves(10, 1))
    assert Probe().applies(Shrink(), data)
    assert not Probe().applies(object(), data)
    data.classes = None  # attributes, or nothing
    assert not Probe().applies(Shrink(), data)
    data.classes, data.batch = 2, Paired
    assert not Probe().applies(Shrink(), data)


def test_rows_are_extracted_in_order():
    split = halves(50, 0)
    loader = Loader(ImageTable(to_uint8(split.x), split.y), 16)
    rows = torch.tensor([0, 3, 15, 16, 40, 49])
    features = extract(lambda x: x.double(), loader, rows, torch.device("cpu"))
    assert features.h.dtype == torch.float32 and features.h.shape == (6, 64)
    torch.testing.assert_close(features.h, split.x[rows].flatten(1), atol=1 / 255, rtol=0)
    assert torch.equal(features.y, split.y[rows])
    assert torch.equal(labelled(loader), torch.arange(50))


def test_large_images_are_scaled_down_for_the_baseline():
    x = torch.linspace(-1, 1, 96).expand(2, 3, 96, 96)
    assert pixels(x).shape == (2, 3 * 32 * 32)
    torch.testing.assert_close(pixels(x)[0, 1:31], torch.linspace(-1, 1, 96)[4:94:3], atol=2e-2, rtol=0)


def test_diverged_features_are_told():
    loader = Split(halves(50, 0), halves(10, 1)).loader("train")
    with pytest.raises(UserError, match="not finite"):
        extract(lambda x: x.flatten(1) / 0, loader, torch.arange(50), torch.device("cpu"))
