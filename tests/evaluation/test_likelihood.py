"""Bounds on the likelihood: against a model whose likelihood is known, and by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn.functional import binary_cross_entropy_with_logits

from unlabeled.batches import Images
from unlabeled.distributions.kl import Weighted
from unlabeled.distributions.likelihood import Bernoulli, BernoulliLogProb, Gaussian
from unlabeled.distributions.posterior import DiagonalGaussian
from unlabeled.distributions.prior import StandardNormal
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Metric
from unlabeled.evaluation.metrics.likelihood import Likelihood, bounds, log_weights
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.study import Study
from unlabeled.methods.autoencoder.pca import PCA
from unlabeled.methods.vae.vae import VAE
from unlabeled.nn.autoencoders.fully_connected import FullyConnectedDecoder, FullyConnectedEncoder
from unlabeled.optim.schedules import Constant

D, Z, SIGMA = 5, 2, 0.5


def plain(dim: int) -> tuple:
    """Kingma & Welling's prior, posterior and price of the KL."""
    return StandardNormal(dim), DiagonalGaussian(), Weighted()


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    """As evaluation does."""
    with torch.no_grad():
        yield


class Rows:
    """Images x, as a table of theirs."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Images:
        return Images(self.x[index], torch.zeros(len(index), dtype=torch.int64))


class Data:
    batch = Images
    classes = None

    def __init__(self, x: Tensor):
        self.x, self.shape = x, tuple(x.shape[1:])

    def table(self, split: str) -> Rows:
        return Rows(self.x)


def measured(study: Study, **settings: int) -> dict[str, Metric]:
    evaluator = Likelihood(**settings)
    assert evaluator.applies(study)
    return {number.name: number for number in evaluator.measure(study)}


class Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, ...]):
        super().__init__()
        self.weight, self.bias, self.shape = weight, bias, shape

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.weight.T + self.bias).unflatten(1, self.shape)


def linear_gaussian(shift: float) -> tuple[VAE, Tensor, Tensor]:
    """x = W z + noise with its posterior, shifted; images, and their log p(x)."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(D, Z, generator=g)
    w = w @ torch.linalg.eigh(w.T @ w)[1]  # turned, so that the posterior is diagonal
    covariance = torch.linalg.inv(torch.eye(Z) + w.T @ w / SIGMA**2)
    weight = torch.cat([covariance @ w.T / SIGMA**2, torch.zeros(Z, D)])
    encoder = Linear(weight, torch.cat([torch.full((Z,), shift), covariance.diagonal().log()]), (2 * Z,))
    vae = VAE(
        encoder,
        Linear(w, torch.zeros(D), (1, 1, D)),
        Gaussian(SIGMA),
        *plain(Z),
        Z,
        torch.optim.Adam,
        Constant(),
    )
    x = torch.randn(230, 1, 1, D, generator=g)
    exact = MultivariateNormal(torch.zeros(D), w @ w.T + SIGMA**2 * torch.eye(D)).log_prob(x.flatten(1))
    return vae.eval(), x, exact


def test_at_the_true_posterior_every_weight_is_the_likelihood() -> None:
    vae, x, exact = linear_gaussian(0)
    torch.testing.assert_close(vae.log_weights(x, 7), exact.expand(7, -1), atol=1e-3, rtol=0)
    for draws in (1, 3):
        found = measured(Study(vae, Data(x)), num_samples=draws)[f"iwae_bound[{draws}]"]
        assert found.value == pytest.approx(float(exact.mean()), abs=1e-4)
        assert found.facts["baseline_value"] == pytest.approx(found.value, abs=1e-4)


def test_more_draws_come_nearer_from_below() -> None:
    """Burda et al. 2016, theorem 1."""
    vae, x, exact = linear_gaussian(0.15)
    found = {draws: measured(Study(vae, Data(x)), num_samples=draws) for draws in (1, 5, 50, 2000)}
    values = [found[draws][f"iwae_bound[{draws}]"].value for draws in found]
    elbo, truth = found[1]["log_likelihood_bound"].value, float(exact.mean())
    assert values[0] == pytest.approx(elbo, abs=0.3)  # other draws
    assert elbo + 0.3 < values[1] < values[2] < values[3] < truth + 0.01
    assert values[3] == pytest.approx(truth, abs=0.02)
    mean = found[2000]["iwae_bound[2000]"].facts["baseline_value"]
    z = 0.15**2 / 2 * sum(1 / vae.infer(x)[1][0].exp())  # KL of the posterior to itself, shifted
    assert mean == pytest.approx(truth - float(z), abs=0.02)


class Told:
    """Everything is what the test says it is."""

    device = torch.device("cpu")
    bin_width = 0.5

    def __init__(self, weights: Tensor | None = None):
        self.weights = weights  # (K, N), handed out in turn
        self.seen: list[Tensor] = []
        self.asked: list[int] = []

    def log_likelihood(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 1e6)  # as a training loss would be weighted

    def elbo_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return -x.flatten(1).sum(1), x.flatten(1)[:, 0]

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def observe(self, x: Tensor) -> Tensor:
        return torch.bernoulli((x + 1) / 2) * 2 - 1

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        x = self.observe(x)
        self.seen += [x] * k
        start, self.asked = sum(self.asked), [*self.asked, k]
        return x.flatten(1)[:, 0].expand(k, -1) if self.weights is None else self.weights[start : start + k]


class Density:
    device = torch.device("cpu")
    bin_width = 0.5

    def log_likelihood(self, x: Tensor) -> Tensor:
        return -8 * x.flatten(1)[:, 0]


def test_by_hand() -> None:
    found = measured(Study(Density(), Data(torch.tensor([[[[1.0, 0], [0, 0]]], [[[2.0, 0], [0, 0]]]]))))
    assert set(found) == {"log_likelihood_bound", "bits_per_dim"}
    nats, bits = found["log_likelihood_bound"], found["bits_per_dim"]
    assert nats.value == pytest.approx(-12) and nats.facts["standard_error"] == pytest.approx(4)
    # two images: (8 / 4 + log 2) / log 2 and (16 / 4 + log 2) / log 2
    assert bits.value == pytest.approx(3 / math.log(2) + 1)
    assert bits.facts["standard_error"] == pytest.approx(1 / math.log(2)) and bits.facts["bin_width"] == 0.5


def test_the_elbo_is_its_two_terms_whatever_training_weighs_them_with() -> None:
    found = measured(Study(Told(), Data(torch.tensor([0.25, 0.75]).view(2, 1, 1, 1).expand(2, 1, 1, 2))), num_samples=1)
    assert found["elbo_reconstruction"].value == -1 and found["elbo_kl"].value == 0.5
    assert found["log_likelihood_bound"].value == -1.5


def test_active_units_vary_over_images_by_more_than_a_hundredth() -> None:
    codes = torch.tensor([[0.099, 0.101, 0.9], [-0.099, -0.101, 0.9]])  # variances 0.0098, 0.0102 and 0
    active = measured(Study(Told(), Data(codes.view(2, 1, 1, 3))), num_samples=1)["active_units"]
    assert active.value == 1 and active.facts["baseline_value"] == 3


def test_a_part_of_the_draws_at_a_time_changes_nothing() -> None:
    weights = torch.randn(23, 4, dtype=torch.float64) * 40 - 900  # exp of it is 0 in float64
    x = torch.zeros(4, 1, 2, 3)
    for values in (1, 24, 100, 2**20):
        method = Told(weights)
        torch.testing.assert_close(log_weights(method, x, 23, values), weights, atol=0, rtol=0)
        assert max(method.asked) == max(1, min(23, values // x.numel())) and sum(method.asked) == 23
    study = Study(Told(weights), Data(x))
    found = measured(study, num_samples=23)["iwae_bound[23]"]
    top = weights.max(0).values
    by_hand = top + ((weights - top).exp().sum(0) / 23).log()
    assert found.value == pytest.approx(float(by_hand.mean()), rel=1e-12)
    assert found.facts["baseline_value"] == pytest.approx(float(weights.mean()), rel=1e-12)


def test_grey_that_is_drawn_is_drawn_once_for_all_draws() -> None:
    method = Told()
    measured(Study(method, Data(torch.zeros(3, 1, 600, 600))), num_samples=4)
    per_block: dict[int, list[Tensor]] = {}
    for ranks, x in enumerate(method.seen):
        per_block.setdefault(ranks // 4, []).append(x)
    assert len(method.asked) > 3, "they were weighed in parts"
    for seen in per_block.values():
        assert all(torch.equal(x, seen[0]) for x in seen) and seen[0].abs().eq(1).all()
        assert 0.4 < (seen[0] > 0).float().mean() < 0.6


@pytest.mark.parametrize("binarization", ["none", "threshold", "dynamic"])
def test_where_grey_is_a_probability_each_number_says_that_it_is_no_likelihood(binarization: str) -> None:
    torch.manual_seed(0)
    encoder, decoder = FullyConnectedEncoder((1, 4, 4), 3, 2), FullyConnectedDecoder((1, 4, 4), 3)
    vae = VAE(encoder, decoder, Bernoulli(binarization), *plain(3), 3, torch.optim.Adam, Constant()).eval()
    grey = torch.rand(6, 1, 4, 4) * 2 - 1
    p = ((grey + 1) / 2).double()
    highest = float((p * p.log() + (1 - p) * (1 - p).log()).sum((1, 2, 3)).mean())
    study = Study(vae, Data(grey))
    found = measured(study, num_samples=2)
    concerned = {name for name in found if name not in ("elbo_kl", "active_units")}
    said = {name for name, number in found.items() if "grey" in number.facts}
    assert said == (concerned if binarization == "none" else set())
    if binarization == "none":
        assert len(study.notes) == 1 and all(name in study.notes[0] for name in concerned)
        assert found["log_likelihood_bound"].facts["limit_value"] == pytest.approx(highest, rel=1e-5)
        assert found["bits_per_dim"].facts["limit_value"] == pytest.approx(-highest / 16 / math.log(2), rel=1e-5)
        assert found["iwae_bound[2]"].value < highest
        black = Study(vae, Data(grey.sign()))
        assert "grey" not in measured(black, num_samples=2)["bits_per_dim"].facts and not black.notes
    else:
        assert not study.notes


def test_the_images_of_many_draws_are_spread_over_the_split() -> None:
    x = torch.tensor([-1.0, 1, 1, -1, 1, 1, 1, -1, 1, 1]).view(10, 1, 1, 1)  # rows 0, 3 and 6 of 10: -1, -1, 1
    found = measured(Study(Told(), Data(x)), num_samples=2, images=3)["iwae_bound[2]"]
    assert found.value == pytest.approx(-1 / 3) and found.facts["images"] == 3
    assert measured(Study(Told(), Data(x)), num_samples=2, images=99)["iwae_bound[2]"].facts["images"] == 10


def test_several_processes_find_what_one_finds() -> None:
    vae, x, _ = linear_gaussian(0.15)

    class Half(Ranks):
        def gather(self, own: Any) -> list[Any]:
            return [own]

    whole = Study(vae, Data(x), seed=3)
    halves = [Study(vae, Data(x), seed=3, ranks=Half(rank, 2)) for rank in range(2)]
    order = torch.cat([torch.arange(100), torch.arange(200, 230), torch.arange(100, 200)])  # blocks 0 and 2, then 1
    for find in (bounds, Likelihood(num_samples=9).weighted):
        for column, parts in zip(find(whole), zip(*(find(half) for half in halves), strict=True), strict=True):
            assert torch.equal(torch.cat(parts), column[order])
    assert Likelihood(num_samples=2).measure(Study(vae, Data(x), ranks=Half(1, 2))) == []


def test_the_exact_likelihood_of_pca_needs_no_draws() -> None:
    found = measured(Study(PCA((1, 1, D), 2).eval(), Data(torch.zeros(4, 1, 1, D))))
    assert set(found) == {"log_likelihood_bound", "bits_per_dim"}
    assert found["log_likelihood_bound"].value == pytest.approx(-D / 2 * math.log(2 * math.pi), rel=1e-5)


def test_a_vaes_weights_agree_with_its_elbo_and_say_how_grey_is_read() -> None:
    torch.manual_seed(0)
    encoder, decoder = FullyConnectedEncoder((1, 4, 4), 3, 2), FullyConnectedDecoder((1, 4, 4), 3)
    vae = VAE(
        encoder,
        decoder,
        Bernoulli("dynamic"),
        *plain(3),
        3,
        torch.optim.Adam,
        Constant(),
    ).eval()
    x = vae.observe(torch.rand(6, 1, 4, 4) * 2 - 1)
    assert torch.equal(vae.observe(x), x)
    elbo = vae.log_likelihood(x.repeat(3000, 1, 1, 1)).unflatten(0, (3000, 6)).mean(0)
    torch.testing.assert_close(vae.log_weights(x, 3000).mean(0), elbo, atol=0.06, rtol=0)
    found = measured(Study(vae, Data(x)), num_samples=2)
    assert all("dynamic" in found[name].facts["reads"] for name in ("log_likelihood_bound", "iwae_bits_per_dim[2]"))


@pytest.mark.parametrize("settings", [{"num_samples": 0}, {"images": 0}])
def test_numbers_that_are_too_small_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="each is at least 1"):
        Likelihood(**settings)


def test_one_image_has_a_bound_and_no_error() -> None:
    vae, x, _ = linear_gaussian(0.1)
    one, two = (measured(Study(vae, Data(x[:n])), num_samples=2) for n in (1, 2))
    assert all(math.isfinite(number.value) for number in [*one.values(), *two.values()])
    assert one["log_likelihood_bound"].facts["standard_error"] is None and "active_units" not in one
    assert two["log_likelihood_bound"].facts["standard_error"] > 0 and "active_units" in two


# The network of Burda et al. 2016


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7)])
def test_fully_connected_networks_fit_any_size(shape: tuple[int, int, int]) -> None:
    encoder = FullyConnectedEncoder(shape, 5, num_params=2, hidden=[9, 8], activation=nn.ReLU)
    decoder = FullyConnectedDecoder(shape, 5, hidden=[8, 9], activation=nn.ReLU)
    sizes = [(m.in_features, m.out_features) for m in [*encoder, *decoder] if isinstance(m, nn.Linear)]
    d = math.prod(shape)
    assert sizes == [(d, 9), (9, 8), (8, 10), (5, 8), (8, 9), (9, d)]
    assert sum(isinstance(m, nn.ReLU) for m in [*encoder, *decoder]) == 4 and not isinstance(encoder[-1], nn.ReLU)
    x = torch.randn(2, *shape)
    assert decoder(encoder(x)[:, :5]).shape == x.shape
    read = []
    encoder[2].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    encoder(torch.full((1, *shape), -1.0))
    encoder(torch.full((1, *shape), 1.0))
    assert [float(r.unique()) for r in read] == [0, 1]


def test_the_experiment_is_the_papers_network(resolve: Any, tmp_path: Path) -> None:
    config = resolve("experiment=mnist/vae_fully_connected")
    vae = instantiate(config["model"], _convert_="all")
    sizes = [tuple(p.shape) for p in vae.parameters() if p.ndim == 2]
    assert sizes == [(200, 784), (200, 200), (100, 200), (200, 50), (200, 200), (784, 200)]
    assert sum(isinstance(module, nn.Tanh) for module in vae.modules()) == 4
    assert vae.likelihood.binarization == "dynamic"


@torch.enable_grad()
def test_bernoullis_own_gradient_is_cross_entropys() -> None:
    """Of logits, 0 and large ones among them, and of what they are held against."""
    logits = torch.cat([torch.zeros(1), torch.tensor([-60.0, 60.0]), torch.linspace(-4, 4, 9)]).view(3, 1, 2, 2)
    x = torch.linspace(0, 1, 12).view(3, 1, 2, 2)
    found, expected = [], []
    for into, loss in (
        (found, lambda a, b: -BernoulliLogProb.apply(a, b)),
        (expected, lambda a, b: binary_cross_entropy_with_logits(a, b, reduction="none").sum((1, 2, 3))),
    ):
        a, b = (value.double().requires_grad_() for value in (logits, x))
        value = loss(a, b)
        into += [value, *torch.autograd.grad((value * torch.arange(1.0, 4)).sum(), [a, b])]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
