"""Measures of disentanglement on codes whose scores are known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.batches import Images, Unpaired
from unlabeled.data.kinds.images import ImageTable
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.metrics.disentanglement import Disentanglement
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.stats.disentanglement import (
    binned,
    boosted,
    completeness,
    disentanglement,
    entropies,
    gap,
    majority,
    mig,
    modularity,
    mutual_information,
    separability,
    votes,
)
from unlabeled.evaluation.study import Study

COUNTS = (2, 3, 4)
random = np.random.default_rng(0)
Y = np.stack([random.integers(0, k, 1800) for k in COUNTS], 1)
NOISE = random.normal(size=(1800, 8))


def scores(h: np.ndarray, y: np.ndarray = Y, **settings: Any) -> dict[str, float]:
    settings = {"rounds": 10, "train_votes": 600, "test_votes": 600} | settings
    evaluator = Disentanglement(**settings)
    features = Features(torch.from_numpy(h).float(), torch.from_numpy(y))
    train, test = evaluator.rows(len(h), 0)
    found = evaluator.scores(features, train, test, list(range(y.shape[1])), 0)
    return {name: value for name, (value, _, _) in found.items()}


def table(h: np.ndarray, y: np.ndarray, n: int = 400, alive: np.ndarray | None = None) -> np.ndarray:
    alive = np.ones(h.shape[1], bool) if alive is None else alive
    return votes(h, y, h.std(0), alive, n, 64, torch.Generator().manual_seed(0))


# Whole codes


def test_factors_themselves() -> None:
    found = scores(Y.astype(float))
    for name in ("mig", "modularity", "dci_disentanglement", "dci_completeness"):
        assert found[name] == pytest.approx(1, abs=0.02), name
    assert found["dci_informativeness"] == found["factor_vae_score"] == 100
    # A line separates the two values of the first factor; the chance of those that do not know it is 1 / 2.
    binary = scores(Y[:, :1] + 0.0, np.stack([Y[:, 0], Y[:, 0]], 1))
    assert binary["sap"] == 1  # a single dimension, against nothing
    two = np.stack([Y[:, 0], random.integers(0, 2, 1800)], 1)
    assert scores(two + 0.0, two)["sap"] == pytest.approx(0.5, abs=0.05)


def test_mixed_factors() -> None:
    """Every dimension knows a third of every factor, and all together know all."""
    standard = (Y - Y.mean(0)) / Y.std(0)
    mixing = np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 1.7
    straight, mixed = scores(standard + 0.02 * NOISE[:, :3]), scores(standard @ mixing + 0.02 * NOISE[:, :3])
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness", "modularity", "factor_vae_score"):
        assert mixed[name] < 0.75 * straight[name], name
    assert mixed["mig"] < 0.2 and mixed["sap"] < 0.2
    assert mixed["dci_informativeness"] > 95


def test_a_dimension_twice() -> None:
    """Two dimensions that tell the same of a factor: no gap, and half as complete, but as disentangled."""
    noisy = Y + 0.4 * NOISE[:, :3]
    once, twice = scores(noisy), scores(np.concatenate([noisy, Y + 0.4 * NOISE[:, 3:6]], 1))
    assert once["mig"] > 0.3 and twice["mig"] < 0.05
    assert once["sap"] > 0.1 and twice["sap"] < 0.03
    assert twice["dci_completeness"] < once["dci_completeness"] - 0.2
    assert twice["dci_disentanglement"] == pytest.approx(once["dci_disentanglement"], abs=0.1)
    assert twice["factor_vae_score"] > 95


def test_noise_knows_nothing() -> None:
    found = scores(NOISE)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert abs(found[name]) < 0.05, name
    assert found["factor_vae_score"] == pytest.approx(100 / 3, abs=6)
    assert found["dci_informativeness"] == pytest.approx(100 * (1 / 2 + 1 / 3 + 1 / 4) / 3, abs=5)


def test_constant_codes() -> None:
    found = scores(np.full((1800, 4), 3.0))
    for name in ("mig", "modularity", "sap", "dci_disentanglement", "dci_completeness", "factor_vae_score"):
        assert found[name] == 0, name


def test_units_change_nothing() -> None:
    """Neither the scale of all, nor an offset of each."""
    h = Y + 0.5 * NOISE[:, :3]
    ours, theirs = scores(h), scores(0.004 * h + np.array([0.1, -1, 2]))
    for name, value in ours.items():
        assert theirs[name] == pytest.approx(value, abs=0.02 * (100 if value > 1 else 1)), name


def test_scored_on_other_images() -> None:
    """Codes that know the factors of the images that are fitted to, and nothing of those that are scored."""
    h = Y + 0.1 * NOISE[:, :3]
    _, test = Disentanglement().rows(len(h), 0)
    h[test] = 1 + NOISE[test, :3]
    found = scores(h)
    assert found["mig"] > 0.9 and found["dci_disentanglement"] > 0.9
    assert found["sap"] < 0.1 and found["dci_informativeness"] < 50
    assert found["factor_vae_score"] == pytest.approx(100 / 3, abs=8)


def test_a_seed_gives_the_same_twice() -> None:
    h = Y + 0.5 * NOISE[:, :3]
    assert scores(h) == scores(h)


# Each formula by hand


def test_bins_are_a_histograms() -> None:
    h = np.concatenate([NOISE[:, :3], np.full((1800, 1), 2.0)], 1)
    found = binned(h, 20)
    assert found.min() == 0 and found.max() == 19
    for column, x in zip(found.T, h.T[:3], strict=False):
        assert (np.bincount(column, minlength=20) == np.histogram(x, 20)[0]).all()
    assert not found[:, 3].any()
    assert (binned(np.array([[0.0], [1], [2], [3], [4]]), 2)[:, 0] == [0, 0, 1, 1, 1]).all()


def test_information_and_entropy() -> None:
    a = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([[0, 0], [0, 1], [1, 2], [1, 3]])
    assert mutual_information(a, y) == pytest.approx(np.log(2) * np.array([[1, 1], [0, 1]]), abs=1e-12)
    assert entropies(y) == pytest.approx([math.log(2), math.log(4)])
    assert mutual_information(a, a) == pytest.approx(np.log(2) * np.eye(2), abs=1e-12)
    assert entropies(np.array([[0], [0], [0], [1]])) == pytest.approx([-0.75 * math.log(0.75) + 0.25 * math.log(4)])


def test_gap_is_between_the_first_two() -> None:
    information = np.array([[0.9, 0.1], [0.2, 0.4], [0.5, 0.3]])
    assert gap(information) == pytest.approx((0.4 + 0.1) / 2)
    assert mig(information, np.array([1.0, 0.5])) == pytest.approx((0.4 + 0.2) / 2)
    assert gap(np.array([[0.7, 0.2]])) == pytest.approx(0.45)  # one dimension: against none


def test_modularity_by_hand() -> None:
    # 1 - (0.2^2 + 0.4^2) / (0.8^2 * 2), 1, 0 of a dimension that knows nothing, 1 - (1 + 1) / 2
    information = np.array([[0.8, 0.2, 0.4], [0.0, 0.6, 0.0], [0.0, 0.0, 0.0], [0.3, 0.3, 0.3]])
    assert modularity(information) == pytest.approx((1 - 0.2 / 1.28 + 1 + 0 + 0) / 4)


def test_dci_by_hand() -> None:
    eye = np.array([[1.0, 0], [0, 1], [0, 0]])
    assert disentanglement(eye) == completeness(eye) == 1
    assert disentanglement(np.ones((3, 2)) / 3) == pytest.approx(0) == completeness(np.ones((3, 2)) / 3)
    # Row 0 is for one factor only and holds 1/4 of all; row 1's shares are 1/3 and 2/3.
    importance = np.array([[0.5, 0.0], [0.5, 1.0]])
    entropy = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3) / math.log(2)
    assert disentanglement(importance) == pytest.approx(0.25 + 0.75 * (1 - entropy))
    assert completeness(importance) == pytest.approx((0 + 1) / 2)
    assert disentanglement(np.zeros((2, 3))) == completeness(np.zeros((2, 3))) == 0
    assert completeness(np.ones((1, 3))) == 1  # the only dimension there is


def test_importance_is_nearly_that_of_exact_trees() -> None:
    from sklearn.ensemble import GradientBoostingClassifier

    h = Y @ np.array([[2.0, 0.3, 0], [0, 1, 0.5], [0.4, 0, 1]]) + 0.4 * NOISE[:, :3]
    importance, right = boosted(h[:1200], Y[:1200], h[1200:], Y[1200:], 20)
    exact, accuracy = np.zeros((3, 3)), []
    for j in range(3):
        model = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(h[:1200], Y[:1200, j])
        exact[:, j] = model.feature_importances_
        accuracy.append(model.score(h[1200:], Y[1200:, j]))
    assert importance.sum(0) == pytest.approx(np.ones(3))
    assert np.abs(importance - exact).max() < 0.05
    assert right == pytest.approx(np.mean(accuracy), abs=0.02)
    assert disentanglement(importance) == pytest.approx(disentanglement(exact), abs=0.05)


def test_separability_is_on_other_images() -> None:
    h = np.concatenate([Y[:, :1] + 0.01 * NOISE[:, :1], NOISE[:, 1:2]], 1)
    found = separability(h[:900], Y[:900], h[900:], Y[900:])
    assert found.shape == (2, 3)
    assert found[0, 0] == 1 and found[1, 0] == pytest.approx(0.5, abs=0.06)
    assert separability(h[:900], Y[:900], h[900:], 1 - Y[900:])[0, 0] == 0
    rare = (random.random((1800, 1)) < 0.1).astype(int)
    assert separability(h[:900], rare[:900], h[900:], rare[900:]).max() < 0.75  # to say "no" always would get 0.9


def test_the_majority_decides_for_others() -> None:
    train = np.array([[5, 1, 0], [2, 2, 9], [0, 0, 0]])
    test = np.array([[4, 2, 0], [1, 0, 3], [1, 2, 0]])
    assert majority(train, test) == pytest.approx((4 + 3 + 1) / 13)
    assert majority(train, np.zeros((3, 3), int)) == 0


def test_votes_go_to_what_stands_still() -> None:
    found = table((Y[:, [2, 0, 1]] + 0.1 * NOISE[:, :3]) * np.array([1.0, 50, 0.1]), Y)  # whatever its unit
    assert found.sum() == 400
    assert found.argmax(1).tolist() == [2, 0, 1]
    assert found.max(1).sum() > 390


def test_each_factor_is_drawn_alike() -> None:
    shares = table(Y[:, [2, 0, 1]] + 0.0, Y, n=3000).sum(0) / 3000
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=0.04)


def test_each_value_is_drawn_alike() -> None:
    """Dimension 0 stands still at the rare value of the factor, dimension 1 at the common one."""
    y = (np.arange(1000) % 10 == 0).astype(int)[:, None]
    h = np.where(np.stack([y[:, 0] == 1, y[:, 0] == 0], 1), 0, random.normal(size=(1000, 2)))
    assert table(h, y, 2000)[:, 0] / 2000 == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_single_image_of_a_value_has_no_vote() -> None:
    y = np.array([0] * 50 + [1])[:, None]
    h = np.stack([np.r_[random.normal(size=50), 3], np.r_[np.zeros(50), 3]], 1)
    assert table(h, y)[:, 0].tolist() == [0, 400]
    assert not table(h, np.arange(51)[:, None]).any()


def test_dead_dimensions_have_no_vote() -> None:
    h = np.concatenate([0.001 * Y[:, :1], Y + 0.1 * NOISE[:, :3]], 1)
    assert table(h, Y)[0].any()
    found = table(h, Y, alive=np.array([False, True, True, True]))
    assert not found[0].any() and found[1:].argmax(1).tolist() == [0, 1, 2]
    evaluator = Disentanglement(rounds=2, train_votes=50, test_votes=50)
    facts = evaluator.scores(
        Features(torch.from_numpy(h).float(), torch.from_numpy(Y)), *evaluator.rows(1800, 0), [0, 1, 2], 0
    )["factor_vae_score"][2]
    assert facts["dimensions_alive"] == 3 and scores(h)["factor_vae_score"] > 99


# As an evaluator


class Reader:
    """Reads the factors that `Drawn` wrote into the corner of its images, roughly."""

    device = torch.device("cpu")

    def __init__(self, dimension: int = 3):
        self.dimension = dimension

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, : self.dimension]


class Blind:
    device = torch.device("cpu")

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1)[:, 60], x.flatten(1)[:, 61]], 1)


class Drawn:
    batch: type = Images
    shape = (1, 9, 9)
    classes = None
    factors: dict[str, int] | None = {"a": 2, "b": 3, "c": 4}

    def __init__(self, n: int = 900, y: np.ndarray = Y):
        pixels = random.integers(0, 256, (n, 1, 9, 9)).astype(np.uint8)
        pixels.reshape(n, -1)[:, :3] = y[:n] * 60
        self.tables = {"test": ImageTable(torch.from_numpy(pixels), torch.from_numpy(y[:n]))}

    def table(self, split: str) -> ImageTable:
        return self.tables[split]


def quick(**settings: Any) -> Disentanglement:
    return Disentanglement(**({"rounds": 3, "train_votes": 100, "test_votes": 100} | settings))


def test_where_it_applies() -> None:
    data = Drawn(10)
    assert quick().applies(Study(Reader(), data))
    assert not quick().applies(Study(object(), data))
    data.factors = None
    assert not quick().applies(Study(Reader(), data))
    del Drawn.factors, data.factors
    assert not quick().applies(Study(Reader(), data))
    Drawn.factors = {"a": 2, "b": 3, "c": 4}
    data.batch = Unpaired
    assert not quick().applies(Study(Reader(), data))


def test_numbers_and_their_facts() -> None:
    study = Study(Reader(), Drawn(), untrained=Blind)
    numbers = {number.name: number for number in quick().measure(study)}
    assert list(numbers) == [
        "mig", "modularity", "factor_vae_score", "sap", "dci_disentanglement", "dci_completeness",
        "dci_informativeness",
    ]  # fmt: skip
    for number in numbers.values():
        facts = number.facts
        assert (facts["split"], facts["factors"], facts["dimension"]) == ("test", ["a", "b", "c"], 3)
        assert facts["baseline"] == "untrained network" and facts["baseline_value"] < number.value
        assert number.better == "higher"
    assert (numbers["sap"].facts["images"], numbers["sap"].facts["train_images"]) == (300, 600)
    assert numbers["mig"].facts["images"] == 600
    assert numbers["mig"].value == pytest.approx(1, abs=0.02)
    assert numbers["factor_vae_score"].unit == numbers["dci_informativeness"].unit == "%"
    assert not study.notes
    assert "baseline" not in quick().measure(Study(Reader(), Drawn()))[0].facts


def test_at_most_so_many_images() -> None:
    facts = quick(train=200, test=50).measure(Study(Reader(), Drawn()))[-1].facts
    assert (facts["images"], facts["train_images"]) == (50, 200)
    train, test = Disentanglement().rows(90_000, 0)
    assert (len(train), len(test)) == (10_000, 5_000)
    assert not set(train.tolist()) & set(test.tolist())
    assert not torch.equal(Disentanglement().rows(90_000, 1)[0], train)


def test_wide_codes_are_spared_what_is_slow() -> None:
    study = Study(Reader(10), Drawn())
    numbers = quick(widest=9).measure(study)
    assert [number.name for number in numbers] == ["mig", "modularity", "factor_vae_score"]
    assert study.notes == [
        "no sap and dci: codes have 10 dimensions, and more than 9 take many minutes; "
        "say evaluation.evaluators.disentanglement.widest=10"
    ]


def test_a_factor_that_does_not_vary_is_left_out() -> None:
    still = Y.copy()
    still[:, 1] = 2
    numbers = quick().measure(Study(Reader(), Drawn(y=still)))
    assert numbers[0].facts["factors"] == ["a", "c"]
    assert numbers[0].value == pytest.approx(1, abs=0.02)
    still[:, 2] = 0
    study = Study(Reader(), Drawn(y=still))
    assert quick().measure(study) == [] and "fewer than two factors" in study.notes[0]


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_a_handful_of_images(n: int) -> None:
    study = Study(Reader(), Drawn(n))
    numbers = quick().measure(study)
    assert all(math.isfinite(number.value) for number in numbers)
    assert bool(numbers) != bool(study.notes)


def test_bad_input() -> None:
    for wrong in ({"train": 0}, {"bins": 0}, {"vote_images": 1}):
        with pytest.raises(UserError, match="counts are at least 1, vote_images at least 2"):
            Disentanglement(**wrong)


def test_only_the_leader_fits() -> None:
    class Alone(Ranks):
        def gather(self, own: Any) -> list[Any]:
            return [own]

    assert quick().measure(Study(Reader(), Drawn(), ranks=Alone(rank=1, world=1))) == []
