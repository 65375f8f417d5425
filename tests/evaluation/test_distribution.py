"""Image distributions: Fréchet and kernel distance, inception score, precision to coverage, memorisation."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from tests import warm
from unlabeled.batches import Images, Paired, Unpaired, from_uint8
from unlabeled.data.kinds.images import ImageTable
from unlabeled.data.kinds.pairs import PairedTable, UnpairedTable
from unlabeled.errors import UserError
from unlabeled.evaluation.features import extraction
from unlabeled.evaluation.features.extraction import Stream, quantised, subset
from unlabeled.evaluation.metrics import comparison, distribution
from unlabeled.evaluation.metrics.comparison import METRICS, compare, parted
from unlabeled.evaluation.metrics.distribution import Distribution, Folders, drawn, images
from unlabeled.evaluation.stats import neighbors
from unlabeled.evaluation.stats.moments import ClassSums, Moments, frechet
from unlabeled.evaluation.stats.neighbors import FeatureSet, between, kernel_distance, nearer, search, subsets, within
from unlabeled.evaluation.study import Study

CPU = torch.device("cpu")
QUIET = {"verbose": False}


def fidelity(metric: str):
    """torch-fidelity's module; seconds to import, which the processes of a test need not wait for."""
    return importlib.import_module(f"torch_fidelity.metric_{metric}")


def generator(*seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(s * 1009**i for i, s in enumerate(seed)))


class Eye:
    """A small random network with a classifier on top."""

    name, dim, classes, facts = "eye", 12, 4, {"resize": "none"}

    def __init__(self, seed: int = 0, classes: int | None = 4):
        weights = generator(seed)
        self.body = torch.randn(64, self.dim, generator=weights) / 4
        self.head = torch.randn(self.dim, 4, generator=weights)
        self.classes, self.digest = classes, f"seed {seed}"
        self.seen = 0

    def check(self, shape: tuple[int, int, int]) -> None:
        if shape[0] != 1:
            raise UserError("eye sees grey images only")

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        assert levels.dtype == torch.uint8
        self.seen += len(levels)
        h = (from_uint8(levels).flatten(1) @ self.body).relu() + 3
        return h, h @ self.head if self.classes else None


def pictures(n: int, seed: int, side: int = 8) -> Tensor:
    """Smooth grey images (n, 1, side, side) uint8."""
    coarse = torch.rand(n, 1, 4, 4, generator=generator(seed))
    fine = nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (fine * 255).round().to(torch.uint8)


class Data:
    """Data as evaluation sees them."""

    batch, shape, source = Images, (1, 8, 8), SimpleNamespace(name="smooth")

    def __init__(self, train: int = 300, test: int = 150, keys: dict[str, str] | None = None, seed: int = 0):
        self.tables = {
            split: ImageTable(pictures(n, seed + i), torch.zeros(n, dtype=torch.int64))
            for i, (split, n) in enumerate({"train": train, "test": test}.items())
        }
        self.keys = keys or {}

    def table(self, split: str) -> ImageTable:
        return self.tables[split]


class Method:
    """A generator: noise to images."""

    device = CPU

    def sample(self, n: int) -> Tensor:
        return from_uint8(self.draw(n))

    def draw(self, n: int) -> Tensor:
        coarse, light = torch.rand(n, 1, 4, 4), torch.rand(n, 1, 1, 1)  # drawn one after the other
        fine = nn.functional.interpolate(coarse, (8, 8), mode="bilinear")
        return (fine * (225 + 20 * light)).round().to(torch.uint8)


class Collapsed(Method):
    def draw(self, n: int) -> Tensor:
        return pictures(1, 77).expand(n, -1, -1, -1)


class Memorising(Method):
    def __init__(self, data: Data):
        self.images = data.table("train").images

    def draw(self, n: int) -> Tensor:
        return self.images[torch.randint(len(self.images), (n,))]


def study(method: object = None, data: object = None, **settings) -> Study:
    settings.setdefault("extractor", Eye())
    return Study(method or Method(), data or Data(), **settings)


def values(numbers) -> dict[str, float]:
    return {number.name: number.value for number in numbers}


def gathered(h: Tensor) -> Moments:
    moments = Moments(h.shape[1])
    for part in h.split(37):
        moments.update(part)
    return moments


def features(n: int, seed: int, dim: int = 24, shift: float = 0.0) -> Tensor:
    mixing = torch.randn(dim, dim, generator=generator(dim)) * torch.logspace(0, -2, dim)
    return (torch.randn(n, dim, generator=generator(seed)) @ mixing + shift + 0.5).relu() + 2


# Fréchet distance


def test_frechet_by_hand():
    one, other = gathered(torch.tensor([[-1.0], [1.0]])), gathered(torch.tensor([[4.0], [10.0]]))
    assert frechet(one, other) == pytest.approx(7**2 + (2**0.5 - 18**0.5) ** 2)  # variances 2 and 18
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # covariance 4/3 of the identity
    shifted = square * torch.tensor([3.0, 0.5]) + torch.tensor([2.0, -1.0])
    expected = 5 + 4 / 3 * ((3 - 1) ** 2 + (0.5 - 1) ** 2)
    assert frechet(gathered(shifted), gathered(square)) == pytest.approx(expected)
    assert frechet(gathered(square), gathered(shifted)) == pytest.approx(expected)
    assert frechet(gathered(square), gathered(square)) == pytest.approx(0, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("n", "m"), [(500, 400), (20, 400), (400, 20), (15, 20), (2, 3)])
def test_frechet_is_that_of_torch_fidelity_and_of_sqrtm(n, m):
    x, y = features(n, 1, shift=0.3), features(m, 2)
    ours = frechet(gathered(x), gathered(y))
    statistics = [{"mu": h.double().numpy().mean(0), "sigma": np.cov(h.double().numpy(), rowvar=False)} for h in (x, y)]
    theirs = fidelity("fid").fid_statistics_to_metric(*statistics, verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    a, b = statistics
    root = scipy.linalg.sqrtm(a["sigma"] @ b["sigma"])
    trace = np.trace(a["sigma"] + b["sigma"] - 2 * root.real)
    assert ours == pytest.approx(np.square(a["mu"] - b["mu"]).sum() + trace, rel=1e-6)


def test_frechet_of_images_that_are_all_equal():
    same, others = torch.ones(10, 24), features(100, 2)
    spread = np.cov(others.double().numpy(), rowvar=False).trace()
    expected = float((others.double().mean(0) - 1).square().sum()) + spread
    assert frechet(gathered(same), gathered(others)) == pytest.approx(expected)
    assert frechet(gathered(others), gathered(same)) == pytest.approx(expected)


def test_moments_are_those_of_all_rows_whatever_the_order_and_the_parts():
    h = features(200, 3) * 50
    whole, parts = gathered(h), Moments(24)
    for part in h[torch.randperm(200, generator=generator(5))].split([1, 150, 49]):
        parts.merge(gathered(part))
    assert whole.n == parts.n == 200
    for moments in (whole, parts):
        assert np.allclose(moments.mean, h.double().mean(0), rtol=1e-13)
        assert np.allclose(moments.covariance, np.cov(h.double().numpy(), rowvar=False), rtol=1e-9)


# Inception score


def scored(logits: Tensor) -> tuple[float, float]:
    sums = ClassSums(len(logits), logits.shape[1])
    for index in torch.arange(len(logits)).split(7):
        sums.update(index, logits[index])
    return sums.score()


@pytest.mark.parametrize("n", [10, 101, 1234])
def test_inception_score_is_that_of_torch_fidelity(n):
    logits = 3 * torch.randn(n, 6, generator=generator(n))
    theirs = fidelity("isc").isc_features_to_metric(logits)
    assert scored(logits) == pytest.approx(tuple(theirs.values()), abs=1e-9)


def test_inception_score_by_hand():
    certain = 1000 * nn.functional.one_hot(torch.arange(5).repeat(2000), 5).float()
    assert scored(certain)[0] == pytest.approx(5, rel=5e-3)  # classes of a split differ a little from a uniform mix
    assert scored(certain[:: len(certain) // 4])[0] == pytest.approx(1)  # an image a split
    missing = certain.clone()
    missing[:, 4] = -1e4
    assert scored(missing[missing.argmax(1) == 2]) == pytest.approx((1, 0))
    assert scored(torch.zeros(50, 5)) == pytest.approx((1, 0))


# Pairs


def pair(x: Tensor, y: Tensor):
    """What is between x and its reference y, and the kernel distance."""
    centre = y.double().mean(0)
    clouds = [FeatureSet(h, centre, CPU) for h in (x, y)]
    members = subsets(len(x), len(y))
    own = [within(*each) for each in zip(clouds, members, strict=True)]
    cross = between(*clouds, *own, members)
    size = int(members[0][:, 0].sum())
    return cross, kernel_distance(own[0].kernel, own[1].kernel, cross.kernel, size)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kernel_distance_is_that_of_torch_fidelity(shift, monkeypatch):
    monkeypatch.setattr(neighbors, "SUBSET", 100)
    x, y = features(300, 1, shift=shift), features(250, 2)
    theirs = fidelity("kid").kid_features_to_metric(x.double(), y.double(), kid_subset_size=100, **QUIET)
    assert pair(x, y)[1] == pytest.approx(tuple(theirs.values()), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("mean", [0, 10, 300])
def test_pairs_far_from_0_are_as_precise_as_those_about_it(mean, monkeypatch):
    monkeypatch.setattr(neighbors, "SUBSET", 100)
    x, y = features(300, 1, shift=0.1) + mean, features(250, 2) + mean
    theirs = fidelity("kid").kid_features_to_metric(x.double(), y.double(), kid_subset_size=100, **QUIET)
    cross, kid = pair(x, y)
    assert kid == pytest.approx(tuple(theirs.values()), rel=1e-6)
    distance, nearest = torch.cdist(x.double(), y.double()).min(1)
    assert torch.equal(cross.nearest, nearest) and torch.allclose(cross.distance.sqrt(), distance, atol=1e-4)


def test_kernel_distance_by_hand():
    x, y = torch.full((30, 1), 1.0), torch.full((20, 1), 3.0)
    assert pair(x, y)[1] == pytest.approx(((1 + 1) ** 3 + (9 + 1) ** 3 - 2 * (3 + 1) ** 3, 0), abs=1e-3)
    mean, spread = pair(features(1500, 1), features(1500, 2))[1]
    assert abs(mean) < spread / 2 and spread < 0.1 * pair(features(1500, 1), features(1500, 2, shift=0.3))[1][0]


def test_precision_and_recall_are_those_of_torch_fidelity(monkeypatch):
    x, y = 0.7 * features(400, 1, shift=0.3), features(300, 2)
    theirs = fidelity("prc").prc_features_to_metric(x, y, **QUIET)
    for step in (None, 7):
        if step:
            monkeypatch.setattr(neighbors, "STEP", step * len(y))
        ours = pair(x, y)[0]
        assert 0.05 < ours.precision < 0.95 and 0.05 < ours.recall < 0.95
        assert (ours.precision, ours.recall) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_density_and_coverage_written_out():
    x, y = features(120, 1, shift=0.2), features(90, 2)
    between_all = (x[:, None] - y[None]).double().norm(dim=2)
    ball = (y[:, None] - y[None]).double().norm(dim=2).sort(1).values[:, 5]  # the 5th, after itself
    ours = pair(x, y)[0]
    assert ours.density == pytest.approx(float((between_all <= ball).double().sum() / (5 * 120)))
    assert ours.coverage == pytest.approx(float((between_all <= ball).any(0).double().mean()))
    assert torch.equal(ours.nearest, between_all.argmin(1))
    assert torch.allclose(ours.distance.sqrt(), between_all.amin(1), atol=1e-4)


def test_on_a_line_by_hand():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [20.0]])
    fake = torch.tensor([[0.5], [1.6], [-0.25], [-8.6], [50.0], [50.3], [50.7]])
    # Radii to the 3rd and 5th neighbor of 0, 1, 2, 10, 11, 12, 20: 10 9 8 8 9 8 10, and 12 11 10 10 10 11 19.
    # 0.5, 1.6, -0.25 and -8.6 are within some real ball, those about 50 in none.
    # The 3rd neighbors of the fake: 9.1 10.2 8.35 10.2 50.95 52.3.. so that 0 to 12 are reached, 20 by that of 50.
    cross = pair(fake, real)[0]
    assert cross.precision == pytest.approx(4 / 7)
    assert cross.recall == pytest.approx(1)
    inside = 0
    for f in fake[:, 0].tolist():
        radii = zip(real[:, 0].tolist(), (12, 11, 10, 10, 10, 11, 19), strict=True)
        inside += sum(abs(f - r) <= radius for r, radius in radii)
    assert cross.density == pytest.approx(inside / (5 * 7))
    assert cross.nearest.tolist() == [0, 2, 0, 0, 6, 6, 6] or cross.nearest.tolist() == [1, 2, 0, 0, 6, 6, 6]


def test_few_images_have_fewer_neighbors():
    cross, (kid, _) = pair(features(2, 1), features(3, 2))
    assert all(np.isfinite([cross.precision, cross.recall, cross.density, cross.coverage, kid]))


def test_search_looks_through_the_bank():
    x, y = features(50, 1), features(400, 2)
    centre = y.double().mean(0)
    far = torch.full((50,), 1e9, dtype=torch.float64), torch.zeros(50, dtype=torch.int64)
    distance, found = search(FeatureSet(x, centre, CPU), y, centre, *far, torch.arange(400) + 7)
    every = torch.cdist(x, y)
    assert torch.equal(found, every.argmin(1) + 7) and torch.allclose(distance.sqrt().float(), every.amin(1), atol=1e-3)
    none = search(FeatureSet(x, centre, CPU), y[:0], centre, distance, found, torch.arange(0))
    assert torch.equal(none[0], distance) and torch.equal(none[1], found)


def test_nearer_is_a_share_of_pairs():
    assert nearer(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 100
    assert nearer(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.0])) == pytest.approx(100 * 1.5 / 4)


# One pass


def test_the_subset_is_a_function_of_seed_and_count():
    small, large = subset(3, 100, 10), subset(3, 100, 40)
    assert len(set(small.tolist())) == 10 and set(small.tolist()) < set(large.tolist())
    assert torch.equal(small, small.sort().values) and torch.equal(subset(3, 100, 10), small)
    assert not torch.equal(subset(4, 100, 10), small)
    assert torch.equal(subset(3, 10, 40), torch.arange(10))


def test_an_extraction_holds_what_a_whole_pass_finds():
    data = Data(train=230)
    h, logits = Eye()(data.table("train").images)
    seen = extraction.extraction(study(data=data), images(study(data=data), "train"), 50)
    assert seen.n == 230 and torch.equal(seen.rows, subset(0, 230, 50))
    assert torch.allclose(seen.h, h[seen.rows], atol=1e-5)
    assert torch.allclose(seen.moments.mean, h.double().mean(0))
    assert seen.classes.score() == pytest.approx(
        tuple(fidelity("isc").isc_features_to_metric(logits).values()), rel=1e-5
    )
    assert torch.equal(seen.first, data.table("train").images[seen.rows[:16]])


def test_the_metrics_are_those_of_the_whole_sets():
    s = study(samples=150)
    found = values(Distribution().measure(s))
    train = Eye()(s.data.table("train").images)[0]
    torch.manual_seed(0)
    stream = drawn(s, 150)
    levels = torch.cat([quantised(stream.images(index), "", 0) for index in s.blocks(150, "")])
    fake, logits = Eye()(levels)
    statistics = [
        {"mu": h.double().numpy().mean(0), "sigma": np.cov(h.double().numpy(), rowvar=False)} for h in (fake, train)
    ]
    theirs = fidelity("fid").fid_statistics_to_metric(*statistics, verbose=False)
    theirs |= fidelity("prc").prc_features_to_metric(fake, train, **QUIET)
    theirs |= fidelity("kid").kid_features_to_metric(fake.double(), train.double(), kid_subset_size=150, **QUIET)
    theirs |= fidelity("isc").isc_features_to_metric(logits)
    names = {"fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean"}
    names |= {"inception_score": "inception_score_mean", "precision": "precision", "recall": "recall"}
    for ours, key in names.items():
        assert found[f"{ours}[eye]"] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), ours


def test_samples_do_not_depend_on_how_many_are_drawn_or_on_what_was_drawn_before():
    s = study()
    short, long = (torch.cat([drawn(s, n).images(index) for index in s.blocks(n, "")]) for n in (130, 300))
    assert torch.equal(short, long[:130])
    torch.manual_seed(9)
    assert values(Distribution().measure(study())) == values(Distribution().measure(study()))


@pytest.mark.parametrize("block", [1, 7])
def test_the_size_of_blocks_changes_nothing(block, monkeypatch):
    whole = values(Distribution().measure(study(Fixed(), Data(train=80, test=40))))
    monkeypatch.setattr(Study, "block", block)
    parts = values(Distribution().measure(study(Fixed(), Data(train=80, test=40))))
    assert parts == pytest.approx(whole, rel=1e-4, abs=1e-5)


class Fixed(Method):
    """Samples are the same whoever asks, so that only the passes differ. Reconstructs, too."""

    def reconstruct(self, x: Tensor) -> Tensor:
        return (x * 0.8).clamp(-1, 1)

    def draw(self, n: int) -> Tensor:
        return pictures(1, 5).expand(n, -1, -1, -1)


def test_order_changes_nothing():
    data, turned = Data(), Data()
    table = turned.tables["train"]
    table.rows = torch.randperm(len(table), generator=generator(1))
    one, other = (values(Distribution(["fid", "precision", "recall", "coverage"]).measure(study(data=d))) for d in
                  (data, turned))  # fmt: skip
    assert one == pytest.approx(other, rel=1e-6)


WORKER = """
import sys, json, torch
from pathlib import Path
from torch import distributed
torch.set_num_threads(1)
from tests.evaluation.test_distribution import *
from unlabeled.evaluation.ranks import Ranks
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
found = []
for _ in range(2):  # the second from the cache
    s = study(Both(), Data(train=317, test=143, keys={"train": "k"}), samples=205, cache=folder, ranks=Ranks(rank, 2))
    numbers = Distribution().measure(s)
    assert bool(numbers) == (rank == 0)
    found.append((values(numbers), s.extractor.seen))
distributed.destroy_process_group()
(folder / f"{rank}.json").write_text(json.dumps(found))
"""


class Both(Method):
    def reconstruct(self, x: Tensor) -> Tensor:
        return (x * 0.8).clamp(-1, 1)


@pytest.mark.parametrize(
    ("samples", "test", "measured"),
    [(1, 9, set()), (None, 1, set()), (9, 1, {"fid"}), (2, 2, {"fid", "reconstruction_fid"})],
)
def test_a_distribution_takes_two_images(samples, test, measured):
    s = study(Both(), Data(train=20, test=test), samples=samples)
    found = values(Distribution().measure(s))
    assert {name.partition("[")[0] for name in found} & {"fid", "reconstruction_fid"} == measured
    assert all(np.isfinite(value) for value in found.values())
    notes = [note for note in s.notes if "needs two images at least, and" in note]
    assert len(notes) == 2 - len(measured)


def test_two_processes_find_the_same_numbers(tmp_path):
    alone = values(Distribution().measure(study(Both(), Data(train=317, test=143), samples=205)))
    workers = [warm.Popen("-c", WORKER, str(rank), str(tmp_path)) for rank in (0, 1)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    first, second = json.loads((tmp_path / "0.json").read_text())
    assert first[0] == pytest.approx(alone, rel=1e-9, abs=1e-12)
    assert second[0] == first[0]
    other = json.loads((tmp_path / "1.json").read_text())
    # 205 samples, 143 reconstructions; 317 of train, 143 of test as floor and as reference, 143 of train as its floor
    assert first[1] + other[0][1] == 205 + 143 + 317 + 143 + 143
    assert second[1] + other[1][1] == 205 + 143


# What is reported


def test_numbers_have_floors_and_say_where_they_come_from():
    s = study(Both(), Data(keys={"train": "smooth-1", "test": "smooth-2"}))
    numbers = {number.name: number for number in Distribution().measure(s)}
    assert list(numbers) == [f"{name}[eye]" for name in METRICS] + ["reconstruction_fid[eye]"]
    for name, number in numbers.items():
        facts = number.facts
        assert np.isfinite(number.value) and facts["images"] == 150 and facts["split"] == "test"
        assert facts["data"] == "smooth" and facts["data_keys"] == {"train": "smooth-1", "test": "smooth-2"}
        assert facts["extractor"] == {"name": "eye", "digest": "seed 0", "features": 12, "resize": "none"}
        assert facts["seed"] == 0
        if name != "memorization[eye]":
            assert facts["baseline"] == "real images" and facts["baseline_value"] == facts["floor"]
            assert facts["floor_images"] == 150
    assert {name for name, number in numbers.items() if number.better == "lower"} == {
        "fid[eye]", "kid[eye]", "reconstruction_fid[eye]",
    }  # fmt: skip
    assert numbers["fid[eye]"].facts["real_images"] == 300 and numbers["fid[eye]"].facts["reference"] == "train"
    reconstruction = numbers["reconstruction_fid[eye]"].facts
    assert (reconstruction["reference"], reconstruction["floor_of"]) == ("test", "train") and reconstruction[
        "floor"
    ] > 0
    assert numbers["precision[eye]"].facts["k"] == 3 and numbers["coverage[eye]"].facts["k"] == 5
    assert numbers["kid[eye]"].facts["subset_size"] == 150 and numbers["kid[eye]"].facts["subsets"] == 100
    assert numbers["inception_score[eye]"].facts["splits"] == 10
    memorization = numbers["memorization[eye]"]
    assert (
        memorization.unit == "%"
        and memorization.facts["baseline_value"] == 50
        and memorization.facts["searched"] == 300
    )
    assert s.notes == []


def test_the_floor_is_of_held_out_images_at_the_same_count():
    s = study(samples=60)
    (number,) = Distribution(["fid"]).measure(s)
    chosen = s.data.table("test").images[subset(0, 150, 60)]
    train, test = (gathered(Eye()(levels)[0]) for levels in (s.data.table("train").images, chosen))
    assert number.facts["floor"] == pytest.approx(frechet(test, train), rel=1e-5) and number.facts["floor_images"] == 60
    more = Distribution(["fid"]).measure(study(samples=400))[0]
    assert more.facts["images"] == 400 and more.facts["floor_images"] == 150
    assert number.facts["baseline"] == "real images" and more.facts["baseline"] == "150 real images"
    assert number.value > number.facts["floor"]
    kid = Distribution(["kid"]).measure(s)[0].facts
    train, test = (Eye()(levels)[0].double() for levels in (s.data.table("train").images, chosen))
    theirs = fidelity("kid").kid_features_to_metric(test, train, kid_subset_size=60, **QUIET)
    assert kid["floor"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    kid = Distribution(["kid"]).measure(study(samples=400))[0].facts  # subsets of 150, and of 300 for the samples
    theirs = fidelity("kid").kid_features_to_metric(
        Eye()(s.data.table("test").images)[0].double(), train, kid_subset_size=150, **QUIET
    )
    assert kid["floor"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_a_perfect_generator_is_at_the_floor_and_a_collapsed_one_is_seen():
    class Perfect(Method):
        def draw(self, n: int) -> Tensor:
            return pictures(n, int(torch.randint(10**6, ())))

    good, bad = (values(Distribution().measure(study(method))) for method in (Perfect(), Collapsed()))
    facts = {number.name: number.facts for number in Distribution().measure(study(Perfect()))}
    for name in ("precision", "recall", "density", "coverage"):
        assert good[f"{name}[eye]"] == pytest.approx(facts[f"{name}[eye]"]["floor"], abs=0.1)
    assert 40 < good["memorization[eye]"] < 60
    assert bad["recall[eye]"] < 0.05 < 0.7 < good["recall[eye]"]
    assert bad["coverage[eye]"] < 0.1 < 0.7 < good["coverage[eye]"]
    assert bad["inception_score[eye]"] == pytest.approx(1)
    assert bad["fid[eye]"] > 10 * good["fid[eye]"] and bad["kid[eye]"] > 10 * abs(good["kid[eye]"])


def test_a_memorising_generator_is_seen(monkeypatch):
    data = Data()
    for compared in (10_000, 60):  # also where the other metrics see a part of the reference only
        monkeypatch.setattr(comparison, "COMPARED", compared)
        s = study(Memorising(data), data)
        found = values(Distribution().measure(s))
        assert found["memorization[eye]"] > 99 and found["precision[eye]"] > 0.8
        near = s.nearest
        assert near.samples.shape == (16, 1, 8, 8) and torch.equal(near.samples, near.neighbors)
        assert torch.equal(data.table("train").images[near.rows], near.samples) and near.distance.max() < 0.01


def two(table: type, batch: type) -> Data:
    data = Data()
    bright = lambda n, seed: 255 - pictures(n, seed) // 4
    data.tables = {
        split: table(pictures(n, 10 + n), bright(m, 20 + m)) for split, n, m in (("train", 120, 120), ("test", 80, 80))
    }
    if table is UnpairedTable:
        data.tables["test"] = table(pictures(80, 3), bright(50, 4))
    data.batch = batch
    return data


class Brightens(Method):
    def translate(self, a: Tensor) -> Tensor:
        return (1 - (a + 1) / 4).clamp(-1, 1)

    def translate_back(self, b: Tensor) -> Tensor:
        return b


@pytest.mark.parametrize(("table", "batch", "b"), [(UnpairedTable, Unpaired, 50), (PairedTable, Paired, 80)])
def test_translations_stand_beside_the_untranslated(table, batch, b):
    s = study(Brightens(), two(table, batch))
    assert Distribution().applies(s)
    numbers = {number.name: number for number in Distribution().measure(s)}
    names = [f"{way}{name}[eye]" for way in ("translation_", "translation_back_") for name in distribution.CLOSENESS]
    assert list(numbers) == names
    there, back = numbers["translation_fid[eye]"], numbers["translation_back_fid[eye]"]
    assert there.facts["baseline"] == "left as it is" and there.facts["images"] == 80
    assert there.facts["reference"] == "train b" and there.facts["floor_images"] == min(80, b)
    assert there.value < 0.2 * there.facts["baseline_value"] and there.facts["floor"] < there.value * 3
    assert back.facts["images"] == b and back.value == back.facts["baseline_value"]
    assert back.facts["floor"] < 0.2 * back.value


def test_it_applies_where_there_is_something_to_see():
    def applies(method, data=None, extractor=None):
        return Distribution().applies(study(method, data, extractor=extractor))

    assert applies(Method(), extractor=Eye()) and not applies(Method())
    assert not applies(SimpleNamespace(device=CPU), extractor=Eye())
    assert not applies(Method(), two(PairedTable, Paired), Eye())


def test_folders_need_no_method():
    data = Data()
    s = study(SimpleNamespace(device=CPU), data, split="train")
    numbers = Folders(Data(seed=40).table("test")).measure(s)
    found = {number.name: number for number in numbers}
    assert list(found) == [f"{name}[eye]" for name in METRICS[:-1]]
    assert found["fid[eye]"].facts["images"] == 150 and found["fid[eye]"].facts["real_images"] == 300
    assert s.nearest.neighbors.shape == (16, 1, 8, 8)


def test_without_held_out_images_a_part_of_the_reference_gives_the_floor():
    s = study(Both(), split="train")
    numbers = {number.name: number for number in Distribution().measure(s)}
    assert "memorization[eye]" not in numbers and s.notes == []
    for name in ("fid", "precision", "recall", "density", "coverage", "inception_score"):
        held_out = Distribution([name]).measure(study(samples=150))[0].facts["floor"]
        facts = numbers[f"{name}[eye]"].facts
        assert facts["floor_images"] == 150 and facts["floor_of"] == "a part of train against the rest"
        assert facts["floor"] == pytest.approx(held_out, abs=0.15), name
    part, _ = parted(0, extraction.extraction(s, images(s, "train"), 300), 150)
    logits = Eye()(s.data.table("train").images[part.rows])[1]
    theirs = fidelity("isc").isc_features_to_metric(logits)["inception_score_mean"]  # of as many, not of all
    assert numbers["inception_score[eye]"].facts["floor"] == pytest.approx(theirs, rel=1e-5)
    real = extraction.extraction(s, images(s, "train"), 100)
    part, rest = parted(0, real, 30)
    assert (part.n, rest.n, len(rest.rows)) == (30, 270, 70)
    assert not set(part.rows.tolist()) & set(rest.rows.tolist())
    h = Eye()(s.data.table("train").images)[0]
    others = torch.ones(300, dtype=torch.bool).index_fill_(0, part.rows, False)
    assert frechet(part.moments, rest.moments) == pytest.approx(frechet(gathered(h[part.rows]), gathered(h[others])))
    assert torch.allclose(rest.h, h[rest.rows], atol=1e-5)


@pytest.mark.parametrize(
    ("n", "unseen", "split"), [(10, 150, "test"), (19, 150, "test"), (150, 19, "test"), (5, 0, "train")]
)
def test_an_inception_score_that_is_1_by_construction_is_not_told(n, unseen, split):
    s = study(data=Data(test=max(unseen, 2)), samples=n, split=split)
    numbers = {number.name: number for number in Distribution().measure(s)}
    found = numbers.get("inception_score[eye]")
    if n < 20:
        assert found is None and len([note for note in s.notes if "no inception_score[eye]" in note]) == 1
        assert f"take 20 images or more, not {n}" in " ".join(s.notes)
    else:
        assert found.value > 1 and "floor" not in found.facts and "baseline_value" not in found.facts
    assert {name.split("[")[0] for name in numbers} >= {"fid", "kid", "precision"}


@pytest.mark.parametrize(("n", "real", "k"), [(4, 300, (3, 3, 5, 5)), (3, 300, (3, 2, 5, 5)), (60, 4, (3, 3, 3, 3))])
def test_k_is_the_one_that_was_used(n, real, k):
    s = study(data=Data(train=real), samples=n)
    facts = {number.name.split("[")[0]: number.facts for number in Distribution(comparison.PAIRWISE).measure(s)}
    assert tuple(facts[name]["k"] for name in ("precision", "recall", "density", "coverage")) == k


# Kept on disk


def fid(data, cache, **settings) -> tuple[float, int]:
    """The number, and how many images were seen for it."""
    s = study(data=data, cache=cache, **settings)
    return Distribution(["fid"]).measure(s)[0].value, s.extractor.seen


def test_what_depends_on_the_data_alone_is_seen_once(tmp_path):
    keys = {"train": "smooth-1"}
    value, seen = fid(Data(keys=keys), tmp_path)
    assert seen == 150 + 300 + 150
    assert fid(Data(keys=keys), tmp_path) == (value, 150)
    assert fid(Data(keys=keys), tmp_path, extractor=Eye(seed=1))[1] == 600
    assert fid(Data(keys=keys), tmp_path, extractor=Eye(classes=None))[1] == 600
    assert fid(Data(keys=keys), tmp_path, seed=1)[1] == 600
    assert fid(Data(keys=keys), tmp_path, samples=100)[1] == 200  # the floor is of as many
    other = Data(keys=keys)
    other.tables["train"].rows[7] = 8
    assert fid(other, tmp_path)[1] == 150 + 300
    assert fid(Data(), tmp_path)[1] == 600  # without a key nothing is trusted
    assert not list(tmp_path.glob(".*"))


def test_a_broken_file_is_made_anew(tmp_path):
    keys = {"train": "smooth-1"}
    value, _ = fid(Data(keys=keys), tmp_path)
    files = sorted(tmp_path.glob("*.pt"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-200])
    files[1].write_bytes(b"")
    assert fid(Data(keys=keys), tmp_path) == (value, 600)
    assert fid(Data(keys=keys), tmp_path) == (value, 150)


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path):
    (tmp_path / "file").write_text("")
    s = study(data=Data(keys={"train": "k"}), cache=tmp_path / "file" / "in")
    assert Distribution(["fid"]).measure(s)
    assert len(s.notes) == 2 and "cannot cache the features" in s.notes[0]


def test_changed_images_under_the_same_name_give_new_statistics(tmp_path):
    from PIL import Image

    from unlabeled.data.kinds.images import ImageData
    from unlabeled.data.sources.folder import Folder

    def data() -> ImageData:
        made = ImageData(Folder(str(tmp_path / "mine")), tmp_path, (1, 8, 8), 8, packed=tmp_path / "packed")
        made.prepare_data()
        return made

    def save(seed: int) -> None:
        (tmp_path / "mine").mkdir(exist_ok=True)
        for i, levels in enumerate(pictures(60, seed)):
            Image.fromarray((levels[0] // (1 + seed)).numpy()).save(tmp_path / "mine" / f"{i}.png")

    save(0)
    before = fid(data(), tmp_path / "cache")
    assert fid(data(), tmp_path / "cache")[0] == before[0]
    save(1)
    after, seen = fid(data(), tmp_path / "cache")
    assert seen == before[1] and abs(after - before[0]) > 0.05 * before[0]
    fresh, _ = fid(data(), None)
    assert after == fresh


# What is refused


def broken(value: float) -> Stream:
    def make(index: Tensor) -> Tensor:
        x = torch.zeros(len(index), 1, 8, 8)
        x[index == 117] = value
        return x

    return Stream("samples", 150, make)


def test_images_that_are_none_are_refused():
    s = study()
    real = images(s, "train")
    with pytest.raises(UserError, match=r"samples: 1 of 50 images hold values that are not finite.* image 117"):
        compare(s, broken(float("nan")), real)
    with pytest.raises(UserError, match=r"samples: 2% of the values lie outside \[-1, 1\] \(image 117: 255 to 255"):
        compare(s, broken(255.0), real)
    with pytest.raises(UserError, match=r"torch\.int64"):
        quantised(torch.zeros(1, 1, 8, 8, dtype=torch.int64), "samples", 0)
    slightly = torch.full((1, 1, 8, 8), 0.5)
    slightly[0, 0, 0, 0] = 1.001
    assert quantised(slightly, "samples", 0).max() == 255
    with pytest.raises(UserError, match=r"1 image\(s\), and a distribution needs at least 2"):
        compare(s, broken(0.0)._replace(n=1), real)


def test_an_extractor_that_does_not_fit_is_told_of():
    s = study()
    wide = Stream("samples", 20, lambda index: torch.zeros(len(index), 3, 8, 8))
    with pytest.raises(UserError, match="grey images only"):
        compare(s, wide, images(s, "train"))
    blind = study(extractor=Eye(classes=None))
    assert "inception_score[eye]" not in values(Distribution().measure(blind))
    assert len(blind.notes) == 1 and "no inception_score: eye gives no logits" in blind.notes[0]
    with pytest.raises(UserError, match="inception_score needs the logits of a classifier, and eye has none"):
        Distribution(["inception_score"]).measure(study(extractor=Eye(classes=None)))
    with pytest.raises(UserError, match="did you mean fid"):
        Distribution(["fied"])


def test_too_few_images_are_named():
    s = study(data=Data(train=300, test=10))
    Distribution(["fid"]).measure(s)
    assert len(s.notes) == 1 and "fid[eye] is unreliable: 10 generated images are few" in s.notes[0]
    s = study(data=Data(train=12, test=13))
    Distribution(["fid"]).measure(s)
    assert len(s.notes) == 1 and "fid[eye] is unreliable: 12 real images are few" in s.notes[0]
