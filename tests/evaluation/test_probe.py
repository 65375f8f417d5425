"""Probes of frozen features."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.batches import Images, Paired, to_uint8
from unlabeled.data.kinds.images import ImageTable
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features, pixels
from unlabeled.evaluation.metrics import probe as module
from unlabeled.evaluation.metrics.probe import Probe, balanced, neighbors
from unlabeled.evaluation.stats.linear import Logistic, Moments, Ridge, Standard, fit_logistic, fit_ridge, percent
from unlabeled.evaluation.study import Study

LOGISTIC = (1e-1, 1e-2, 1e-3, 1e-4)


class Shrink(nn.Module):
    """Stands for a trained method: halves of the image, averaged."""

    device = torch.device("cpu")

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, :, :, :4].mean((1, 2, 3)), x[:, :, :, 4:].mean((1, 2, 3))], 1)


class Layered(Shrink):
    """With stages: the first sees nothing, the second all."""

    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        return {"stage1": torch.ones(len(x), 3) * torch.arange(len(x))[:, None], "stage2": self.encode(x)}


class Split:
    """Data as evaluation sees them."""

    batch = Images
    shape = (1, 8, 8)

    def __init__(self, train: Images, test: Images, classes: int | None = 2, name: str = "halves"):
        self.tables = {
            name: ImageTable(to_uint8(split.x), split.y) for name, split in (("train", train), ("test", test))
        }
        self.classes = classes
        self.keys = {name: f"{table.images.sum()}" for name, table in self.tables.items()}
        self.source = SimpleNamespace(name=name)

    def table(self, split: str) -> ImageTable:
        return self.tables[split]


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


def measure(train: Images, test: Images, probe: Probe | None = None, method: nn.Module | None = None, **study):
    study = Study(method or Shrink(), Split(train, test), **study)
    return (probe or Probe()).measure(study), study


def test_separable_is_all_right():
    numbers, study = measure(halves(200, 0), halves(80, 1))
    assert values(numbers) == dict.fromkeys(
        [
            "knn_accuracy",
            "knn200_accuracy",
            "ridge_accuracy",
            "linear_accuracy",
            "linear_accuracy_1%",
            "linear_accuracy_10%",
        ],
        100.0,
    ) | {"knn200_accuracy": values(numbers)["knn200_accuracy"]}  # all of train votes
    assert study.notes == []
    for number in numbers:
        facts = number.facts
        assert number.unit == "%" and number.better == "higher"
        assert (facts["split"], facts["images"], facts["train_images_of"], facts["dimension"]) == ("test", 80, 200, 2)
        assert facts["train_images"] == (2 if "_1%" in number.name else 20 if "_10%" in number.name else 200)
        assert facts["baseline"] == "raw pixels" and facts["baseline_dimension"] == 64
        assert facts["baseline_value"] > 80 and "untrained_value" not in facts


def test_shuffled_labels_are_chance():
    train, test = halves(600, 0), halves(400, 1)
    generator = torch.Generator().manual_seed(5)
    train = Images(train.x, train.y[torch.randperm(600, generator=generator)])
    test = Images(test.x, test.y[torch.randperm(400, generator=generator)])
    for name, value in values(measure(train, test)[0]).items():
        assert 40 < value < 60, name


def test_an_untrained_network_stands_beside():
    class Blind(Shrink):
        def encode(self, x: Tensor) -> Tensor:
            return x[:, 0, 0, :1].repeat(1, 3)

    class Constant(Shrink):
        def encode(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 3)

    train, test = halves(200, 0), halves(80, 1)
    blind, _ = measure(train, test, method=Blind())
    both, _ = measure(train, test, untrained=Blind)
    assert [n.facts["untrained_value"] for n in both] == [n.value for n in blind] != [n.value for n in both]
    assert all("untrained_value" not in n.facts for n in measure(train, test, untrained=Constant)[0])


# --- Neighbors


@pytest.mark.parametrize("far", [0, 3000])
def test_neighbors_are_sklearns(far):
    train, test = blobs(), blobs(200, seed=1)
    train, test = (Features((part.h + far).round(decimals=2), part.y) for part in (train, test))
    settings = [(20, 0.07), (60, 0.1)]
    got = neighbors(train, test.h, settings, 3, chunk=64)
    for (k, temperature), vote in zip(settings, got, strict=True):
        theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda d, t=temperature: np.exp((1 - d) / t))
        want = theirs.fit(train.h.double(), train.y).predict(test.h.double())
        assert torch.equal(vote, torch.from_numpy(want))
        assert 50 < percent(vote == test.y) < 100  # hard enough that the vote matters
    if far:  # all cosines are nearly 1, and no vote weighs more than another
        return
    assert not torch.equal(*got)
    plain = KNeighborsClassifier(20, metric="cosine").fit(train.h, train.y).predict(test.h)
    assert not torch.equal(got[0], torch.from_numpy(plain))


def test_more_neighbors_than_images():
    train = blobs(12)
    few, more = neighbors(train, train.h, [(5, 0.07), (20, 0.07)], 3)
    assert len(few) == len(more) == 12


# --- Ridge


def test_ridge_is_sklearns():
    train = blobs(400, dim=12)
    h, targets = train.h * torch.linspace(0.1, 4, 12) + 3, one_hot(train.y, 3)
    ridge = Ridge(Moments(h, targets, chunk=77))
    for penalty in (1e-5, 1e-2, 3.0, 100.0):
        theirs = SklearnRidge(alpha=penalty * 400).fit(h.double(), targets.double())
        w, b = ridge.weights(penalty)
        np.testing.assert_allclose(w.T, theirs.coef_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(b, theirs.intercept_, rtol=1e-6)
        want = theirs.predict(h.double()).argmax(1)
        assert torch.equal(ridge.predict(h, penalty), torch.from_numpy(want))


def test_moments_of_parts_add_up():
    train = blobs(100)
    targets = one_hot(train.y, 3)
    whole, sum_of_parts = Moments(train.h, targets), Moments(train.h[:30], targets[:30])
    sum_of_parts.add(Moments(train.h[30:], targets[30:]))
    for a, b in zip(Ridge(whole).weights(0.1), Ridge(sum_of_parts).weights(0.1), strict=True):
        torch.testing.assert_close(a, b)


def test_ridge_with_more_dimensions_than_images():
    train, test = blobs(60, dim=200, apart=2), blobs(100, dim=200, apart=2, seed=1)
    fitted = fit_ridge(train, module.RIDGE, 0.2, 3, seed=0)
    assert percent(fitted.predict(test.h) == test.y) > 95


# --- Logistic regression


def test_logistic_is_the_minimum_of_its_loss():
    """Mean cross-entropy + lambda / 2 |w|^2 on standardised features: the gradient is zero there."""
    train, penalty = blobs(), 1e-3
    standard = Standard(train.h)
    linear = Logistic(standard(train.h), train.y, penalty)
    w = torch.tensor(linear.model.coef_, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(linear.model.intercept_, dtype=torch.float64, requires_grad=True)
    h = (train.h - train.h.mean(0)) / train.h.std(0, correction=0)
    loss = torch.nn.functional.cross_entropy(h.double() @ w.T + b, train.y) + penalty / 2 * w.square().sum()
    with torch.enable_grad():
        loss.backward()
    assert linear.converged
    assert w.grad.abs().max() < 1e-5 and b.grad.abs().max() < 1e-5


def test_constant_features_do_no_harm():
    train, test = blobs(apart=4), blobs(100, apart=4, seed=1)
    wider = [Features(torch.cat([f.h, torch.full((len(f.h), 1), 7.0)], 1), f.y) for f in (train, test)]
    for fitted in (fit_ridge(wider[0], (1e-3,), 0.2, 3, 0), fit_logistic(wider[0], (1e-3,), 0.2, 10_000, 0)):
        assert percent(fitted.predict(wider[1].h) == test.y) == 100


# --- The penalty


def holding_out(fit):
    """A fit of (train, penalties, seed) -> the facts."""
    return (
        (lambda f, p, s: fit_ridge(f, p, 0.3, 3, s))
        if fit == "ridge"
        else lambda f, p, s: fit_logistic(f, p, 0.3, 10_000, s)
    )


@pytest.mark.parametrize("fit", ["ridge", "logistic"])
def test_the_penalty_is_one_that_holds_out(fit):
    """Few images in many dimensions want a strong penalty; the weakest is the worst."""
    penalties = (10.0, 1e-1, 1e-3, 1e-6)
    hard = blobs(120, dim=300, apart=0.12)
    chosen = holding_out(fit)(hard, penalties, 0).facts["penalty"]
    order = []
    for penalty in penalties:
        scores = []
        for seed in range(4):
            permutation = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
            a, b = permutation[:84], permutation[84:]
            fitted = holding_out(fit)(Features(hard.h[a], hard.y[a]), (penalty,), 0)
            scores.append(percent(fitted.predict(hard.h[b]) == hard.y[b]))
        order.append(sum(scores))
    assert order[penalties.index(chosen)] > min(order)


@pytest.mark.parametrize("fit", ["ridge", "logistic"])
def test_equal_scores_take_the_stronger_penalty(fit):
    assert holding_out(fit)(blobs(apart=20), (1e-4, 1e-2, 1e-3), 0).facts["penalty"] == 1e-2


@pytest.mark.parametrize("fit", ["ridge", "logistic"])
def test_it_is_refitted_on_all_of_train(fit):
    """With one penalty there is nothing to choose: what comes out is that fit of all images."""
    train, test = blobs(90, apart=0.5), blobs(300, apart=0.5, seed=1)
    got = holding_out(fit)(train, (0.01,), 0).predict(test.h)
    standard = Standard(train.h)
    h = standard(train.h)
    if fit == "ridge":
        want = Ridge(Moments(h, one_hot(train.y, 3))).predict(standard(test.h), 0.01)
    else:
        want = Logistic(h, train.y, 0.01).predict(standard(test.h))
    assert torch.equal(got, want)


def test_the_penalty_is_chosen_on_a_part_and_stopped_where_it_gets_worse():
    tried = []

    def score(penalty):
        tried.append(penalty)
        return {10.0: 50, 1.0: 80, 0.1: 80, 0.01: 79, 0.001: 78, 1e-4: 99}[penalty]

    from unlabeled.evaluation.stats.linear import divided, strongest_of_the_best

    assert strongest_of_the_best([1e-4, 0.1, 1.0, 0.001, 10.0, 0.01], score) == 1.0
    assert tried == [10.0, 1.0, 0.1, 0.01, 0.001]
    part, rest = divided(100, 0.2, 0, limit=50)
    assert len(part) == 10 and len(rest) == 40 and len({*part.tolist(), *rest.tolist()}) == 50


def test_test_images_are_only_scored(monkeypatch):
    """What is fitted does not change with the test split, however it is poisoned."""
    fitted = []
    for name in ("fit_ridge", "fit_logistic"):
        original = getattr(module, name)

        def spy(train, *args, original=original):
            fitted.append((train, made := original(train, *args)))
            return made

        monkeypatch.setattr(module, name, spy)
    poison = Images(-halves(80, 2).x.clamp(-1, 1), 1 - halves(80, 2).y)
    for test in (halves(80, 1), poison):
        measure(halves(200, 0), test, untrained=Shrink)
    grid = blobs(50, dim=2).h
    half = len(fitted) // 2
    assert half == 3 * 4
    for (a, first), (b, second) in zip(fitted[:half], fitted[half:], strict=True):
        assert torch.equal(a.h, b.h) and first.facts == second.facts
        probe = grid if a.h.shape[1] == 2 else grid.repeat(1, 32)
        assert torch.equal(first.predict(probe), second.predict(probe))


# --- Shares of the labels


def test_a_share_of_the_labels_is_balanced_and_seeded():
    y = torch.tensor([0] * 500 + [1] * 300 + [2] * 3)
    rows = balanced(y, 0.1, 3, seed=0)
    assert y[rows].bincount().tolist() == [26, 26, 3]  # 80.3 / 3; the rare class has no more
    assert torch.equal(rows, rows.unique()) and torch.equal(rows, balanced(y, 0.1, 3, seed=0))
    assert not torch.equal(rows, balanced(y, 0.1, 3, seed=1))
    assert len(balanced(y, 0.003, 3, seed=0)) == 0


def test_too_few_labels_for_a_share_are_told():
    numbers, study = measure(halves(100, 0), halves(40, 1))
    assert "linear_accuracy_1%" not in values(numbers) and "linear_accuracy_10%" in values(numbers)
    assert study.notes == ["no linear_accuracy_1%: 1% of 100 labelled train images are fewer than the 2 classes"]


def test_many_classes_have_no_logistic_regression():
    data = Split(halves(100, 0), halves(40, 1), classes=1001)
    study = Study(Shrink(), data)
    assert set(values(Probe().measure(study))) == {"knn_accuracy", "knn200_accuracy", "ridge_accuracy"}
    assert "1001" in study.notes[0]


# --- The study


def test_stages_on_request():
    train, test = halves(200, 0), halves(80, 1)
    plain = values(measure(train, test, Probe(), Layered())[0])
    numbers, _ = measure(train, test, Probe(stages=True), Layered(), untrained=Layered)
    found = values(numbers)
    assert {name: value for name, value in found.items() if "[" not in name} == plain
    names = {f"{n}[{s}]" for n in ("knn_accuracy", "knn200_accuracy", "ridge_accuracy") for s in ("stage1", "stage2")}
    assert set(found) - set(plain) == names
    assert found["ridge_accuracy[stage2]"] == 100 and found["ridge_accuracy[stage1]"] < 70
    facts = {n.name: n.facts for n in numbers}
    assert facts["ridge_accuracy[stage1]"]["dimension"] == 3
    assert facts["ridge_accuracy[stage2]"]["untrained_value"] == 100
    assert values(measure(train, test, Probe(stages=True), Shrink())[0]) == plain  # it has none


def test_the_same_method_on_other_data():
    study = Study(Shrink(), Split(halves(200, 0), halves(80, 1)))
    study.transfer = Study(Shrink(), Split(halves(300, 2), halves(50, 3), name="others"))
    numbers = Probe(labels=[]).measure(study)
    assert [n.name for n in numbers[4:]] == [f"{n.name}[others]" for n in numbers[:4]]
    assert [n.facts["images"] for n in numbers] == [80] * 4 + [50] * 4
    study.data.classes = None
    assert Probe().applies(study) and len(Probe(labels=[]).measure(study)) == 4
    assert "halves" in study.notes[0]


def test_order_and_processes_change_nothing():
    train, test = halves(150, 0), halves(70, 1)
    train = Images(train.x + 0.3 * torch.randn(train.x.shape, generator=torch.Generator().manual_seed(3)), train.y)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    assert measure(train, test)[0] == measure(train, Images(test.x[order], test.y[order]))[0]


def test_at_most_so_many_images_drawn_by_seed():
    facts = measure(halves(300, 0), halves(40, 1), codes=50)[0][0].facts
    assert (facts["train_images"], facts["train_images_of"], facts["seed"]) == (50, 300, 0)


def test_unlabelled_images_are_left_out():
    train, test = halves(100, 0), halves(40, 1)
    train.y[::3] = -1
    test.y[:10] = -1
    numbers, _ = measure(train, test)
    assert (numbers[0].facts["train_images"], numbers[0].facts["images"]) == (66, 30)
    assert values(numbers)["knn_accuracy"] == 100
    for labels in (-1, 1):  # none known; one class
        train.y[:] = labels
        numbers, study = measure(train, test)
        assert numbers == [] and "two classes" in study.notes[0]


def test_train_is_not_scored():
    numbers, study = measure(halves(100, 0), halves(40, 1), split="train")
    assert numbers == [] and "evaluation.split=test" in study.notes[0]


def test_logistic_regression_can_be_left_out():
    names = values(measure(halves(100, 0), halves(40, 1), Probe(logistic=[]))[0])
    assert set(names) == {"knn_accuracy", "knn200_accuracy", "ridge_accuracy"}


@pytest.mark.parametrize(
    "wrong",
    [{"neighbors": []}, {"neighbors": [[20, 0]]}, {"ridge": []}, {"logistic": [0]}, {"labels": [2]}, {"held_out": 1}],
    ids=str,
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(UserError, match=f"probe.*{next(iter(wrong))}"):
        Probe(**wrong)


def test_where_it_applies():
    data = Split(halves(20, 0), halves(10, 1))
    assert Probe().applies(Study(Shrink(), data))
    assert not Probe().applies(Study(object(), data))
    for classes, words in ((None, "no class for each image"), (1, "one class only")):
        data.classes = classes
        study = Study(Shrink(), data)
        assert Probe().applies(study) and Probe().measure(study) == [] and len(study.notes) == 1
        assert words in study.notes[0]
    data.classes, data.batch = 2, Paired
    assert not Probe().applies(Study(Shrink(), data))


def test_raw_pixels_are_probed_once(tmp_path, monkeypatch):
    train, test = halves(200, 0), halves(80, 1)
    quick = Probe(labels=[], logistic=[1e-2])
    first, _ = measure(train, test, quick, cache=tmp_path)
    (file,) = tmp_path.glob("probe-*.json")
    read = []
    monkeypatch.setattr(Study, "raw", lambda self, split: read.append(split) or self.features(pixels, split, "reading"))
    assert measure(train, test, quick, cache=tmp_path)[0] == first and read == []
    measure(train, test, Probe(labels=[], logistic=[1e-2], stages=True), cache=tmp_path)
    assert read == []
    # whatever they depend on makes another
    measure(train, test, quick, cache=tmp_path, seed=1)
    measure(train, test, Probe(labels=[], logistic=[1e-2], held_out=0.3), cache=tmp_path)
    measure(Images(-train.x.clamp(-1, 1), train.y), test, quick, cache=tmp_path)
    fewer = Study(Shrink(), Split(train, test), cache=tmp_path)
    fewer.data.tables["train"].rows = torch.arange(100)
    quick.measure(fewer)
    assert len(read) == 8 and len(list(tmp_path.glob("probe-*.json"))) == 5
    # a file that was cut short, or is another's, is made again
    for broken in (file.read_text()[:40], json.dumps(json.loads(file.read_text()) | {"key": {}})):
        file.write_text(broken)
        assert measure(train, test, quick, cache=tmp_path)[0] == first
    assert len(read) == 12 and not list(tmp_path.glob("*.part"))
    (tmp_path / "file").touch()
    assert measure(train, test, quick, cache=tmp_path / "file")[0] == first  # nowhere to write


# --- Features


def test_rows_are_extracted_in_order():
    split = halves(250, 0)
    study = Study(Shrink(), Split(split, split))
    features = study.features(lambda x: x.double(), "train", "reading")
    assert features.h.dtype == torch.float32 and features.h.shape == (250, 64)
    torch.testing.assert_close(features.h, split.x.flatten(1), atol=1 / 255, rtol=0)
    assert torch.equal(features.y, split.y)
    few = Study(Shrink(), Split(split, split), codes=60)
    rows = few.chosen("train")
    assert len(rows.unique()) == 60 and torch.equal(few.raw("train").h, features.h[rows])


def test_large_images_are_scaled_down_for_the_baseline():
    x = torch.linspace(-1, 1, 96).expand(2, 3, 96, 96)
    assert pixels(x).shape == (2, 3 * 32 * 32)
    torch.testing.assert_close(pixels(x)[0, 1:31], torch.linspace(-1, 1, 96)[4:94:3], atol=2e-2, rtol=0)


def test_diverged_features_are_told():
    study = Study(Shrink(), Split(halves(50, 0), halves(10, 1)))
    with pytest.raises(UserError, match="not finite"):
        study.features(lambda x: x.flatten(1) / 0, "train", "encoding")
