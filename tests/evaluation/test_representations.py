"""Clusters of codes, stages, fine-tuning, and maps."""

import copy
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor, nn

from tests.evaluation.test_probe import Shrink, Split, blobs, halves, values
from unlabeled.app.cli.main import CONF
from unlabeled.batches import Images
from unlabeled.capabilities import IntermediateFeatures
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.sources.digits import Digits
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.figures.embedding import embedding, planes
from unlabeled.evaluation.metrics.clustering import Clustering, matched
from unlabeled.evaluation.metrics.finetune import FineTune, accuracy
from unlabeled.evaluation.metrics.probe import Probe
from unlabeled.evaluation.study import Study

# --- Clusters


def test_matched_by_hand():
    """Clusters 0, 1, 2 are classes 1, 2, 0 but for two rows; greedy matching of cluster 0 would lose more."""
    y = torch.tensor([1, 1, 1, 2, 2, 0, 0, 0])
    cluster = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0])
    assert matched(cluster, y, 3) == pytest.approx(100 * 6 / 8)
    # together: [[3, 2], [2, 0]]: the match with most rows gives up the largest cell
    y, cluster = torch.tensor([0] * 3 + [1] * 2 + [0] * 2), torch.tensor([0] * 5 + [1] * 2)
    assert matched(cluster, y, 2) == pytest.approx(100 * 4 / 7)


def test_clusters_are_found_and_scored(monkeypatch):
    test = halves(120, 1)
    study = Study(Shrink(), Split(halves(10, 0), test))
    numbers = Clustering().measure(study)
    assert values(numbers) == {"kmeans_accuracy": 100.0, "nmi": 1.0, "ari": 1.0}
    facts = numbers[0].facts
    assert (facts["images"], facts["clusters"], facts["dimension"], facts["split"]) == (120, 2, 2, "test")
    assert 50 <= facts["baseline_value"] <= 100 and [n.unit for n in numbers] == ["%", "", ""]


def test_clusters_against_sklearn(monkeypatch):
    """The numbers are those of the assignment that k-means gives."""
    from sklearn.cluster import KMeans

    found = []
    original = KMeans.fit_predict
    monkeypatch.setattr(KMeans, "fit_predict", lambda *a: found.append(original(*a)) or found[-1])
    features = blobs(200, apart=1.2)
    features.y[:20] = -1  # not known: left out
    study = Study(Shrink(), Split(halves(10, 0), halves(10, 0), classes=3))
    ours, y = Clustering().scores(study, features), features.y[20:].numpy()
    assert len(found[0]) == 180 and len(np.unique(found[0])) == 3
    assert ours["nmi"] == pytest.approx(normalized_mutual_info_score(y, found[0])) and 0.2 < ours["nmi"] < 0.95
    assert ours["ari"] == pytest.approx(adjusted_rand_score(y, found[0]))
    assert ours == Clustering().scores(study, features)


def test_shuffled_classes_have_no_clusters():
    features = blobs(600)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
    study = Study(Shrink(), Split(halves(10, 0), halves(10, 0), classes=3))
    scores = Clustering().scores(study, Features(features.h, features.y[order]))
    assert abs(scores["ari"]) < 0.02 and scores["nmi"] < 0.02 and scores["kmeans_accuracy"] < 45


def test_fewer_images_than_clusters():
    study = Study(Shrink(), Split(halves(10, 0), halves(2, 1)))
    assert Clustering().measure(study) == [] and "more labelled test images" in study.notes[0]
    study.data.classes = None
    assert not Clustering().applies(study)


# --- Processes


class Beside:
    """Stands for one of two processes, here a thread."""

    def __init__(self, rank: int, meet: threading.Barrier, shared: dict):
        self.rank, self.world, self.is_main = rank, 2, rank == 0
        self.meet, self.shared = meet, shared

    def blocks(self, n, size):
        return (torch.arange(i, min(i + size, n)) for i in range(self.rank * size, n, 2 * size))

    def gather(self, own):
        self.shared[self.rank] = own
        self.meet.wait(60)
        both = [self.shared[0], self.shared[1]]
        self.meet.wait(60)
        return both


class Layered(Shrink):
    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        return {"early": x.mean((2, 3)), "late": self.encode(x)}


@pytest.mark.parametrize("n", [230, 60])  # of 60 the second process has none
def test_two_processes_measure_what_one_does(n, tmp_path, monkeypatch):
    read, original = [], Study.raw
    monkeypatch.setattr(Study, "raw", lambda self, split: read.append(split) or original(self, split))
    evaluators = [Probe(labels=[0.1], logistic=[1e-2], stages=True), Clustering()]

    def measure(ranks, cache):
        study = Study(Layered(), Split(halves(n, 0), halves(130, 1)), untrained=Shrink, cache=cache, ranks=ranks)
        study.untrained = Layered
        return [number for evaluator in evaluators for number in evaluator.measure(study)]

    alone, meet, shared, found = measure(None, tmp_path / "a"), threading.Barrier(2), {}, {}

    def work(rank):
        found[rank] = [measure(Beside(rank, meet, shared), tmp_path / "b") for _ in range(2)]  # then from the cache

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {0: [alone, alone], 1: [[], []]} and len(alone) == 5 + 6 + 3
    assert len(read) == 3 * 3  # three splits alone, and by each of two processes at the first time


# --- Stages


@pytest.mark.parametrize("model", ["rotation", "simclr"])
def test_stages_of_the_methods(model, build):
    from tests.contract.cases import CASES

    case = next(case for case in CASES if case.model == model)
    method = build(case)[0].eval()
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stages = method.intermediate_features(x)
        assert isinstance(method, IntermediateFeatures) and list(stages) == ["stage1", "stage2", "stage3", "stage4"]
        assert [tuple(h.shape) for h in stages.values()] == [(3, 8), (3, 16), (3, 32), (3, 64)]
        assert torch.equal(stages["stage4"], method.encode(x))


# --- Fine-tuning


class Small(nn.Module):
    """A method with batch norm, so that its buffers too could be disturbed."""

    device = torch.device("cpu")

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.decoder = nn.Linear(64, 256)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    data = ImageData(Digits(), tmp_path_factory.mktemp("digits"), (1, 16, 16), 64, classes=10)
    data.prepare_data()
    return data


def small(seed=0):
    return Small(seed).eval().requires_grad_(False)


def finetune(**settings):
    return FineTune(nn.Identity(), **{"epochs": 3, "batches": 20, "batch_size": 64} | settings)


def test_finetuning_learns_and_leaves_the_method_alone(digits):
    method = small()
    before = copy.deepcopy(method.state_dict())
    study = Study(method, digits, untrained=lambda: small(1))
    tuner = finetune(labels=[1.0, 0.1])
    with torch.no_grad():  # as evaluate.py calls it
        numbers = tuner.measure(study)
        again = tuner.measure(study)
    assert numbers == again and [n.name for n in numbers] == ["finetune_accuracy", "finetune_accuracy_10%"]
    assert numbers[0].value > 93 and 60 < numbers[1].value < numbers[0].value
    facts = numbers[0].facts
    assert (facts["train_images"], facts["images"], facts["baseline"]) == (1294, 359, "from scratch")
    assert facts["baseline_value"] > 90 and 1 <= facts["epoch"] <= 3
    assert numbers[1].facts["train_images"] == 120
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not method.training and not any(p.requires_grad or p.grad is not None for p in method.parameters())


def test_finetuning_starts_from_the_checkpoint(digits):
    """Weights that are already right need no step: at a learning rate of nearly 0 only the start counts."""
    study = Study(small(), digits, untrained=lambda: small(1))
    tuner = finetune(epochs=1, batches=1, lr=1e-12)
    rows = tuner.rows(study, 1.0)
    ours, scratch = tuner.tune(study, small(), rows, "a"), tuner.tune(study, small(1), rows, "b")
    number = tuner.measure(study)[0]
    assert (number.value, number.facts["baseline_value"]) == (ours.accuracy, scratch.accuracy)
    assert ours != scratch


def test_the_best_epoch_on_val_is_scored_once(digits, monkeypatch):
    from unlabeled.evaluation.metrics import finetune as module

    asked, given = [], iter([50.0, 70.0, 70.0, 60.0])
    states = []

    def accuracy(study, split, network):
        asked.append(split)
        states.append(copy.deepcopy(network.state_dict()))
        return next(given) if split == "val" else 42.0

    monkeypatch.setattr(module, "accuracy", accuracy)
    study = Study(small(), digits)
    tuned = finetune(epochs=4, batches=2).tune(study, small(), torch.arange(200), "t")
    assert tuned == (42.0, 70.0, 2) and asked == ["val"] * 4 + ["test"]
    for name, tensor in states[-1].items():
        assert torch.equal(tensor, states[1][name]), name
    assert not torch.equal(states[1]["head.weight"], states[3]["head.weight"])


def test_accuracy_is_in_evaluation_mode(digits):
    study, method, head = Study(small(), digits), small(), nn.Linear(64, 10)
    method.encoder[2].running_mean.uniform_(0, 2)
    table = digits.table("val")
    batch = table.batch(torch.arange(len(table)))
    with torch.no_grad():
        want = (head(method.eval().encode(batch.x)).argmax(1) == batch.y).double().mean()
    network, before = nn.ModuleDict({"method": method, "head": head}).train(), copy.deepcopy(method.state_dict())
    assert accuracy(study, "val", network) == pytest.approx(100 * want.item())
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


def test_the_learning_rate_falls_as_half_a_cosine(digits, monkeypatch):
    rates, original = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda o: rates.append(o.param_groups[0]["lr"]) or original(o))
    finetune(epochs=2, batches=2, lr=0.1).tune(Study(small(), digits), small(), torch.arange(50), "t")
    assert rates == pytest.approx([0.1, 0.1 * (1 + 0.5**0.5) / 2, 0.05, 0.1 * (1 - 0.5**0.5) / 2])


def test_finetuning_takes_full_batches_of_its_rows_only():
    rows = torch.tensor([3, 5, 8, 13, 21])
    batches = finetune(batch_size=4).order(rows, 5, seed=0)
    assert [len(b) for b in batches] == [4] * 5
    assert torch.cat(batches).bincount(minlength=22)[rows].tolist() == [4] * 5
    assert not torch.equal(torch.cat(batches)[:5], torch.cat(batches)[5:10])


def test_numbers_of_labels(digits):
    study = Study(small(), digits)
    tuner = finetune(labels=[100, 0.5, 7, 0.001])
    assert [len(tuner.rows(study, n)) for n in (100, 0.5, 7, 0.001, 1.0)] == [100, 640, 0, 0, 1294]
    assert [note.split(":")[0] for note in study.notes] == [
        "no finetune_accuracy_7_labels",
        "no finetune_accuracy_0.1%",
    ]
    numbers = finetune(labels=[30], epochs=1, batches=1).measure(study)
    assert [n.name for n in numbers] == ["finetune_accuracy_30_labels"] and "baseline" not in numbers[0].facts


def test_views_are_of_training_images_only(digits):
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((len(x), torch.is_grad_enabled()))
            return x

    study = Study(small(), digits)
    FineTune(Spy(), epochs=2, batches=3, batch_size=16).tune(study, small(), torch.arange(40), "t")
    assert seen == [(16, True)] * 6


def test_what_cannot_be_finetuned(digits):
    class Fixed(Shrink):
        @torch.no_grad()
        def encode(self, x: Tensor) -> Tensor:
            return super().encode(x)

    study = Study(Fixed(), digits)
    assert finetune().measure(study) == [] and "Fixed" in study.notes[0]
    with pytest.raises(UserError, match=r"evaluation\.split=val"):
        finetune().measure(Study(small(), digits, split="val"))
    for wrong in ({"labels": []}, {"labels": [0.0]}, {"epochs": 0}, {"batch_size": 0}):
        with pytest.raises(UserError, match="finetune"):
            finetune(**wrong)
    no_val = SimpleNamespace(table=lambda s: Split(halves(9, 0), halves(0, 1)).table("test" if s == "val" else "train"))
    no_val.batch, no_val.classes, no_val.shape = Images, 2, (1, 8, 8)
    with pytest.raises(UserError, match="val"):
        finetune().measure(Study(Shrink(), no_val))


def test_finetuning_from_the_command_line():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("evaluate", ["evaluation=finetune", "views@evaluation.evaluators.finetune.views=flips"])
        default = compose("evaluate")
    assert list(config.evaluation.evaluators) == ["finetune"] and "finetune" not in default.evaluation.evaluators
    assert set(config.evaluation) == set(default.evaluation)
    tuner = instantiate(config.evaluation.evaluators.finetune, _convert_="all")
    x = torch.rand(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    turned = [torch.allclose(v, i.flip(2), atol=1e-5) for v, i in zip(tuner.views(x), x, strict=True)]
    same = [torch.allclose(v, i, atol=1e-5) for v, i in zip(tuner.views(x), x, strict=True)]
    assert 16 < sum(turned) < 48 and 16 < sum(same) < 48


# --- The map


def test_planes_are_principal_components_and_tsne():
    features = blobs(120, dim=6, apart=3)
    h = features.h.double().numpy()
    (title, points), (other, embedded) = planes(h, 0).items()
    _, s, v = np.linalg.svd(h - h.mean(0), full_matrices=False)
    assert f"{(s[:2] ** 2).sum() / (s**2).sum():.0%}" in title and other == "t-SNE" and embedded.shape == (120, 2)
    np.testing.assert_allclose(np.abs(points), np.abs((h - h.mean(0)) @ v[:2].T), atol=1e-9)
    assert list(planes(h[:, :2], 0)) == ["the codes"] and planes(h[:, :1], 0).popitem()[1].shape == (120, 2)
    assert len(planes(h[:5], 0)) == 1  # too few for t-SNE


@pytest.mark.parametrize(
    ("h", "line"),
    [
        (np.ones((1, 3)), "two codes at least"),
        (np.full((40, 3), 0.3), "all 40 codes are equal"),
        (np.ones((40, 2)), "all 40 codes are equal"),
        (np.array([[0.0, np.nan, 1.0]] * 20), "not finite"),
    ],
)
def test_codes_that_make_no_map_say_so(h, line):
    """t-SNE of equal codes starts at NaN, and ends the process."""
    with pytest.raises(UserError, match=line):
        planes(h, 0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_map_is_that_of_codes_in_any_unit(scale):
    h = blobs(30, dim=5, apart=3).h.double().numpy() * scale
    h[:10] = h[0]  # as they are where a code has collapsed in part
    found = planes(h, 0)
    assert len(found) == 2 and all(np.isfinite(points).all() and np.ptp(points) > 0 for points in found.values())


def test_codes_of_two_numbers_stand_beside_pca_and_tsne_of_the_pixels(monkeypatch):
    shown = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, title, **_: shown.append(title))
    for dim in (2, 3):
        embedding(blobs(30, dim=dim, apart=3), 3, 0, torch.randn(30, 1, 4, 4))
    words = [title.partition(",")[0] for title in shown]
    first = ["the codes", "PCA of the pixels", "t-SNE of the pixels"]
    assert words == [*first, "first two principal components", "t-SNE", "PCA of the pixels"]


def test_maps_are_pictures_and_repeat():
    features = blobs(150, dim=2, apart=3)
    colours = {"classes": embedding(features, 3, 0), "none": embedding(features, None, 0)}
    assert colours["classes"].mode == "RGB" and colours["classes"].size[0] > 300
    assert np.array_equal(colours["classes"], embedding(features, 3, 0))
    saturated = {name: (np.ptp(np.asarray(image).astype(int), axis=2) > 60).mean() for name, image in colours.items()}
    assert saturated["classes"] > 0.001 and saturated["none"] == 0
    features.y[:] = -1
    unknown = np.asarray(embedding(features, 3, 0)).astype(int)[:, :500]  # beside the legend
    assert (np.ptp(unknown, axis=2) > 60).mean() == 0
    attributes = Features(features.h, torch.zeros(150, 5, dtype=torch.int64))
    many = Features(features.h, torch.arange(150))
    assert embedding(attributes, None, 0).size and embedding(many, 150, 0).size
