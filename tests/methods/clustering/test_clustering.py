"""k-means, mixtures of Gaussians, deep embedded clustering, and what evaluation says of a method's own clusters."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from lightning import Trainer
from sklearn.cluster import KMeans as Lloyd
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tests.contract.cases import CASES
from tests.contract.test_contract import Watch, run
from tests.evaluation.test_probe import Shrink, Split, halves
from tests.methods.autoencoder.test_pca import digits, seen_images, trainer
from unlabeled.errors import UserError
from unlabeled.evaluation.metrics.clustering import Clustering, agreement, matched
from unlabeled.evaluation.metrics.probe import Probe
from unlabeled.evaluation.study import Study
from unlabeled.methods.clustering.dec import DEC, student_t, target
from unlabeled.methods.clustering.gmm import GMM
from unlabeled.methods.clustering.kmeans import KMeans

CASE = next(case for case in CASES if case.model == "dec")

# --- DEC


def test_student_t_by_hand():
    """Equation 1: at distances 0 and 1, then 2 and 1: kernels 1 and 1/2, then 1/5 and 1/2."""
    q = student_t(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(q, torch.tensor([[2 / 3, 1 / 3], [2 / 7, 5 / 7]]))
    z, centres = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 3.0]])  # both at a distance of 3
    torch.testing.assert_close(student_t(z, centres), torch.tensor([[0.5, 0.5]]))


def test_target_by_hand():
    """Equation 3 in fractions: a rare cluster's share counts for more, and the sure become surer."""
    rows = [[Fraction(2, 3), Fraction(1, 3)], [Fraction(1, 4), Fraction(3, 4)], [Fraction(1, 5), Fraction(4, 5)]]
    f = [sum(row[j] for row in rows) for j in range(2)]
    weights = [[q * q / f[j] for j, q in enumerate(row)] for row in rows]
    want = torch.tensor([[float(w / sum(row)) for w in row] for row in weights])
    q = torch.tensor([[float(value) for value in row] for row in rows])
    torch.testing.assert_close(target(q, q.sum(0)), want)
    torch.testing.assert_close(target(q, q.mean(0)), want)
    assert want[0, 0] > 2 / 3 + 0.1 and float(f[0]) < float(f[1])


class Keep(Watch):
    """What the second phase stands on, after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer, method, *rest):
        super().on_train_batch_end(trainer, method, *rest)
        state = {name: value.clone() for name, value in method.state_dict().items()}
        self.kept.append(state)


@pytest.fixture
def clustered(build):
    """Eight batches, 0 to 7: three of the autoencoder, then clusters; P anew at batches 3, 4 and 6."""
    overrides = ["data.batch_size=2", "budget.epochs=2", "model.pretraining=0.375", "model.update=2"]
    built = build(CASE, *overrides)
    watch = Keep()
    method = run(built, watch=watch)
    return method, built[1], watch.kept


def test_p_is_of_the_encoder_at_its_update_and_of_all_images(clustered):
    method, data, kept = clustered
    assert [bool(state["clustered"]) for state in kept] == [False] * 3 + [True] * 5
    changed = [not torch.equal(a["frequencies"], b["frequencies"]) for a, b in itertools.pairwise(kept)]
    assert changed == [False, False, True, True, False, True, False]  # at batches 1 to 7
    # that of batch 6 is of the weights that batch 5 left
    assert torch.equal(kept[6]["goal_centres"], kept[5]["centres"])
    assert torch.equal(kept[6]["goal_encoder.2.weight"], kept[5]["encoder.2.weight"])
    table = data.table("train")
    method.load_state_dict(kept[5])
    with torch.no_grad():
        q = student_t(method.eval().encode(table.batch(torch.arange(len(table))).x), method.centres)
    torch.testing.assert_close(kept[7]["frequencies"], q.mean(0))


def test_centres_start_from_kmeans_of_all_codes(build, monkeypatch):
    fitted = []
    original = Lloyd.fit
    monkeypatch.setattr(Lloyd, "fit", lambda self, x: fitted.append((self.n_init, x)) or original(self, x))
    built = build(CASE, "data.batch_size=2", "budget.epochs=1", "model.pretraining=0.5", "model.optimizer.lr=0.0")
    method = run(built)
    table = built[1].table("train")
    with torch.no_grad():
        codes = method.eval().encode(table.batch(torch.arange(len(table))).x)
    assert len(fitted) == 1 and fitted[0][0] == 20
    torch.testing.assert_close(torch.from_numpy(fitted[0][1]), codes)
    own = codes[:, None].sub(method.centres).square().sum(2).argmin(1)
    for j in range(2):
        torch.testing.assert_close(method.centres[j].detach(), codes[own == j].mean(0), atol=1e-5, rtol=1e-4)


def test_divergence_is_torchs_and_p_stands_still(clustered):
    method, data, _ = clustered
    x = data.table("train").batch(torch.arange(8)).x
    with torch.no_grad():  # clusters that are apart, and P's elsewhere
        method.centres.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 10))
        method.goal_centres.copy_(torch.tensor([[0.2], [-1.5]]).expand(2, 10))
    loss = method.clustering_loss(x)
    q = student_t(method.encode(x), method.centres)
    p = target(student_t(method.goal_encoder(x), method.goal_centres), method.frequencies)
    torch.testing.assert_close(loss, nn.functional.kl_div(q.log(), p, reduction="batchmean"))
    loss.backward()
    assert method.centres.grad.abs().sum() > 0 and all(p.grad is None for p in method.goal_encoder.parameters())


def test_dec_refuses(build):
    with pytest.raises(UserError, match=r"say model\.clusters=N"):
        dec(clusters=None)
    for wrong in ({"clusters": 1}, {"pretraining": 1.0}, {"update": 0}):
        with pytest.raises(UserError, match="at least 2 clusters"):
            dec(**wrong)
    with pytest.raises(UserError, match=r"model\.clusters=9: there are 8"):
        run(build(CASE, "budget.epochs=1", "model.pretraining=0.0", "model.clusters=9"))


def dec(**named):
    settings = {"clusters": 2, "pretraining": 0.5, "update": 1, "n_init": 1, "latent_dim": 2}
    parts = {name: nn.Identity() for name in ("encoder", "decoder", "distance")}
    return DEC(**parts, optimizer=torch.optim.Adam, schedule=lambda p: 1.0, **settings | named)


# --- k-means and mixtures


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Both, after a pass over digits, and the images that it saw."""
    methods = []
    for method in (KMeans((1, 8, 8), 10), GMM(shape=(1, 8, 8), clusters=10)):
        folder = tmp_path_factory.mktemp("clusters")
        work = trainer(folder, max_epochs=3)
        torch.manual_seed(0)
        work.fit(method, datamodule=digits(folder))
        assert work.current_epoch == 1 and method.seen == []
        methods.append(method.eval())
    return *methods, seen_images(digits(folder)).float().unflatten(1, (1, 8, 8))


def test_a_pass_is_over_all_images_in_their_order(build, monkeypatch):
    solved = []
    monkeypatch.setattr(KMeans, "solve", lambda self, x, seed: solved.append(x))
    for seed, size in ((0, 3), (1, 5)):
        row = next(case for case in CASES if case.model == "kmeans")
        _, data, _ = built = build(row, f"data.seed={seed}", f"data.batch_size={size}")
        run(built, saved=False)
    table = data.table("train")
    assert len(table) == 8
    for x in solved:
        torch.testing.assert_close(x, table.batch(torch.arange(8)).x.flatten(1))
    assert len(solved) == 2


def test_centres_are_means_of_their_images(fitted):
    method, _, x = fitted
    own = method.assign(x)
    for j in range(10):
        torch.testing.assert_close(method.centres[j], x[own == j].flatten(1).mean(0), atol=1e-4, rtol=1e-3)
    distances = torch.cdist(x.flatten(1), method.centres)
    torch.testing.assert_close(method.encode(x), distances, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(method.reconstruct(x[:5]).flatten(1), method.centres[own[:5]].clamp(-1, 1))
    inertia = Lloyd(10, n_init=10, random_state=1).fit(x.flatten(1).numpy()).inertia_
    assert method.squared_distances(x).amin(1).sum().item() == pytest.approx(inertia, rel=0.02)


def test_the_density_is_exact(fitted):
    _, method, x = fitted
    components = Independent(Normal(method.centres.double(), method.variances.double().sqrt()), 1)
    density = MixtureSameFamily(Categorical(method.weights.double()), components)
    flat = x[:200].flatten(1).double()
    torch.testing.assert_close(method.log_likelihood(x[:200]), density.log_prob(flat).float(), rtol=1e-4, atol=1e-2)
    joint = components.log_prob(flat[:, None]) + method.weights.double().log()
    torch.testing.assert_close(method.encode(x[:200]), joint.softmax(1).float())
    assert torch.equal(method.assign(x[:200]), joint.argmax(1))


def test_the_mixture_is_sklearns(fitted):
    """One step of expectation-maximisation from where it ended changes little, and it is as good as theirs."""
    _, method, x = fitted
    flat = x.flatten(1).double().numpy()
    scores = [
        GaussianMixture(10, covariance_type="diag", reg_covar=(2 / 255) ** 2 / 12, random_state=seed)
        .fit(flat)
        .score(flat)
        for seed in range(3)
    ]
    ours = method.log_likelihood(x).mean().item()
    assert min(scores) - 15 < ours < max(scores) + 15
    posterior = method.encode(x).double()
    torch.testing.assert_close(posterior.mean(0).float(), method.weights, atol=0.005, rtol=0)
    means = (posterior.T @ x.flatten(1).double()) / posterior.sum(0)[:, None]
    torch.testing.assert_close(method.centres, means.float(), atol=0.05, rtol=0)
    assert method.variances.min() >= 0.999 * (2 / 255) ** 2 / 12  # pixels that are always black


def test_samples_come_from_the_mixture():
    method = GMM(shape=(1, 1, 2), clusters=2)
    method.weights.copy_(torch.tensor([0.2, 0.8]))
    method.centres.copy_(torch.tensor([[-0.5, 0.0], [0.5, 0.1]]))
    method.variances.copy_(torch.tensor([[0.01, 0.04], [0.0025, 0.01]]))
    torch.manual_seed(0)
    x = method.sample(20_000).flatten(1)
    first = x[:, 0] < 0
    assert first.float().mean().item() == pytest.approx(0.2, abs=0.01)
    for rows, j in ((first, 0), (~first, 1)):
        torch.testing.assert_close(x[rows].mean(0), method.centres[j], atol=0.01, rtol=0)
        torch.testing.assert_close(x[rows].var(0), method.variances[j], atol=0, rtol=0.1)
    method.centres.fill_(0.99)
    assert method.sample(500).max() == 1


@pytest.mark.parametrize("make", [KMeans, lambda shape, clusters, **more: GMM(shape=shape, clusters=clusters, **more)])
def test_baselines_refuse(make, tmp_path):
    with pytest.raises(UserError, match=r"12288 values.*data\.size=36"):
        make((3, 64, 64), 10)
    with pytest.raises(UserError, match=r"say model\.clusters=N"):
        make((1, 8, 8), None)
    with pytest.raises(UserError, match="at least 2 clusters"):
        make((1, 8, 8), 1)
    with pytest.raises(UserError, match=r"model\.clusters=2000: there are 1617"):
        trainer(tmp_path, max_epochs=1).fit(make((1, 8, 8), 2000), datamodule=digits(tmp_path))
    method = make((1, 8, 8), 10)
    method.trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False)
    with pytest.raises(UserError, match=r"say trainer\.devices=1"):
        method.setup("fit")


# --- Evaluation


class Half(Shrink):
    """Three clusters where there are two classes: the first class is divided."""

    clusters = 3

    def assign(self, x: Tensor) -> Tensor:
        left, right = self.encode(x).T
        return torch.where(left > right, torch.where(right > -0.4, 2, 1), 0)


def test_a_methods_own_clusters_are_scored():
    test = halves(120, 1)
    study = Study(Half(), Split(halves(10, 0), test))
    numbers = {number.name: number for number in Clustering().measure(study)}
    assert list(numbers) == ["kmeans_accuracy", "nmi", "ari", "cluster_accuracy", "cluster_nmi", "cluster_ari"]
    table = study.table("test")
    cluster = Half().assign(table.batch(torch.arange(120)).x)
    counts = [int((cluster == j).sum()) for j in range(3)]
    # the larger part of the divided class counts, the rest is lost
    assert numbers["cluster_accuracy"].value == pytest.approx(100 * (counts[0] + max(counts[1:])) / 120)
    assert numbers["cluster_accuracy"].value < 100 == numbers["kmeans_accuracy"].value
    assert math.isclose(numbers["cluster_nmi"].value, agreement(cluster.numpy(), table.labels.numpy())[1])
    facts = numbers["cluster_ari"].facts
    assert (facts["clusters"], facts["images"], facts["baseline"]) == (3, 120, "k-means on raw pixels")
    assert facts["baseline_value"] == numbers["ari"].facts["baseline_value"]


def test_codes_that_coincide_are_a_note_and_no_warning(recwarn):
    class Flat(Half):
        def encode(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 2)

    study = Study(Flat(), Split(halves(20, 0), halves(40, 1)))
    found = {number.name: number.value for number in [*Clustering().measure(study), *Probe().measure(study)]}
    most = 100 * max(study.table("test").labels.bincount().tolist()) / 40
    assert found["nmi"] == 0 and found["kmeans_accuracy"] == most
    assert study.notes[0].startswith("k-means found 1 of 2 clusters") and not recwarn.list


def test_one_class_has_no_clusters(recwarn):
    one = halves(40, 1)
    study = Study(Half(), Split(halves(20, 0), one._replace(y=one.y * 0)))
    assert Clustering().measure(study) == [] and "images of two classes" in study.notes[0] and not recwarn.list


@pytest.mark.filterwarnings("error")
def test_kmeans_of_images_that_are_too_much_alike_is_refused():
    with pytest.raises(UserError, match=r"model\.clusters=3: 2 of the training images differ"):
        KMeans((1, 4, 4), 3).solve(torch.eye(2, 16).repeat(10, 1), 0)


def test_clusters_without_a_partner_are_wrong():
    y, cluster = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([3, 3, 0, 1, 2])
    assert matched(cluster, y, 2) == pytest.approx(60)
