"""Parts of VAEs against independent references: likelihoods, flows, priors, prices of the KL, ladders, and IWAE."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from tests.conftest import TINY
from tests.evaluation.test_likelihood import SIGMA, D, Linear, Z, linear_gaussian
from unlabeled.app.run.build import build as built
from unlabeled.batches import Images, from_uint8
from unlabeled.distributions import kl as prices
from unlabeled.distributions.gaussian import kl_between_terms
from unlabeled.distributions.likelihood import (
    Bernoulli,
    Categorical,
    Gaussian,
    GaussianPerPixel,
    LogisticMixture,
    OptimalGaussian,
)
from unlabeled.distributions.posterior import DiagonalGaussian, Flow
from unlabeled.distributions.prior import StandardNormal, VampPrior
from unlabeled.errors import UserError
from unlabeled.methods.vae.iwae import IWAE
from unlabeled.methods.vae.ladder_vae import LadderVAE, combined
from unlabeled.methods.vae.vae import VAE
from unlabeled.methods.vae.vampprior_vae import VampPriorVAE
from unlabeled.nn.autoencoders.convolutional import ConvDecoder
from unlabeled.nn.autoencoders.course import Decoder
from unlabeled.nn.autoencoders.fully_connected import FullyConnectedDecoder, FullyConnectedEncoder
from unlabeled.nn.autoencoders.ladder import Ladder
from unlabeled.nn.layers.flows import MADE, InverseAutoregressive, Planar, RealNVP
from unlabeled.optim.schedules import Constant
from unlabeled.seeding import seed_noise

GREY = from_uint8(torch.arange(256, dtype=torch.uint8)).view(256, 1, 1, 1)  # an image of one pixel at each level
LIKELIHOODS = ["bernoulli", "gaussian", "gaussian_per_pixel", "optimal_gaussian", "logistic_mixture", "categorical"]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Likelihoods


def test_a_deviation_for_each_pixel_matches_torch_and_keeps_above_half_a_level() -> None:
    x, output = torch.rand(4, 2, 3, 3) * 2 - 1, torch.randn(5, 4, 4, 3, 3)  # five draws, two channels
    mean, log_sigma = output[:, :, :2], output[:, :, 2:]
    sigma = 1 / 255 + log_sigma.exp()  # exp of (floor + softplus)
    torch.testing.assert_close(
        GaussianPerPixel().log_prob(output, x),
        Independent(Normal(mean, sigma), 3).log_prob(x.expand(5, -1, -1, -1, -1)),
    )
    sunken = torch.full((1, 2, 1, 1), -50.0, requires_grad=True)
    GaussianPerPixel().log_prob(sunken, torch.ones(1, 1, 1, 1)).backward()
    assert GaussianPerPixel().log_prob(torch.tensor([0.5, -50.0]).view(2, 1, 1), torch.full((1, 1, 1), 0.5)) == (
        pytest.approx(math.log(255) - 0.5 * math.log(2 * math.pi))
    )


def test_the_optimal_sigma_is_the_one_that_fits_the_batch_best() -> None:
    x, output = torch.rand(6, 1, 3, 3) * 2 - 1, torch.rand(6, 1, 3, 3) * 2 - 1
    likelihood = OptimalGaussian()
    best = likelihood.log_prob(output, x).mean()
    mse = (x - output).square().mean()
    torch.testing.assert_close(best, -9 / 2 * ((2 * math.pi * mse).log() + 1))  # equation of the optimum
    for factor in (0.9, 1.1):
        assert Independent(Normal(output, mse.sqrt() * factor), 3).log_prob(x).mean() < best
    twice = OptimalGaussian().log_prob(output.repeat(2, 1, 1, 1), x.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice.mean(), best)


def test_evaluation_takes_the_sigma_that_training_kept() -> None:
    likelihood, x = OptimalGaussian(), torch.zeros(2, 1, 3, 3)
    for error in (0.1, 0.3):
        likelihood.log_prob(x + error, x)
    torch.testing.assert_close(likelihood.variance, torch.tensor((0.01 + 0.09) / 2))
    likelihood.eval()
    outputs = torch.randn(3, 1, 3, 3)
    kept = Independent(Normal(outputs, math.sqrt(0.05)), 3)
    torch.testing.assert_close(likelihood.log_prob(outputs, x[:1]), kept.log_prob(x[:1].expand(3, -1, -1, -1)))
    assert likelihood.variance == pytest.approx(0.05)  # looking changes nothing
    assert set(likelihood.state_dict()) == {"variance", "batches"}


def test_logistic_mixtures_are_probabilities_of_levels_edges_and_all() -> None:
    # weights, means and log scales of three components: one within the range, one far outside, one of scale e^-6
    output = torch.tensor([0.3, -0.2, 0.9, 0.1, -1.4, 0.6, -1.5, -0.5, -6.0]).view(1, 9, 1, 1)
    log_p = LogisticMixture(9).log_prob(output, GREY)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    weights, mu, log_scale = output.double().view(3, 3, 1)
    cdf = lambda edge: torch.sigmoid((edge - mu) / log_scale.exp())
    x = GREY.double().flatten()
    above, below = cdf(x + 1 / 255), cdf(x - 1 / 255)
    above[:, -1], below[:, 0] = 1, 0  # what lies outside belongs to the first and the last level
    by_hand = (weights.softmax(0) * (above - below)).sum(0)
    likely = by_hand > 1e-9  # float64 has no more digits of the difference
    assert likely.sum() > 200
    torch.testing.assert_close(log_p[likely], by_hand[likely].log().float(), rtol=1e-4, atol=1e-4)
    assert log_p.isfinite().all()
    # one component: its expectation by the probabilities is the image that it means, as long as it keeps to the range
    narrow = torch.tensor([0.0, 0.25, -4.0]).view(1, 3, 1, 1)
    expected = (LogisticMixture(3).log_prob(narrow, GREY).exp() * GREY.flatten()).sum()
    assert float(LogisticMixture(3).mean(narrow)) == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("kind", [lambda: LogisticMixture(6), Categorical], ids=["mixture", "categorical"])
def test_channels_are_independent_and_have_numbers_of_their_own(kind: Any) -> None:
    likelihood = kind()
    n = 6 if isinstance(likelihood, LogisticMixture) else 256
    one, two = torch.randn(2, 1, n, 1, 1)
    x = GREY[[3, 200]].view(1, 2, 1, 1)
    both = torch.stack([one, two], 2).flatten(1, 2)  # number j of channel c is at j C + c
    apart = likelihood.log_prob(one, x[:, :1]) + likelihood.log_prob(two, x[:, 1:])
    torch.testing.assert_close(likelihood.log_prob(both, x), apart)
    torch.testing.assert_close(likelihood.mean(both)[:, :1], likelihood.mean(one))
    torch.testing.assert_close(likelihood.log_prob(both.expand(4, 1, -1, -1, -1), x), apart.expand(4, 1))


def test_categorical_matches_torch() -> None:
    output = torch.randn(1, 256, 1, 1)
    expected = TorchCategorical(logits=output.flatten())
    torch.testing.assert_close(
        Categorical().log_prob(output.expand(256, -1, -1, -1), GREY), expected.log_prob(torch.arange(256))
    )
    mean = (expected.probs * GREY.flatten()).sum()
    assert float(Categorical().mean(output)) == pytest.approx(float(mean), abs=1e-6)


@pytest.mark.parametrize("likelihood", [LogisticMixture(), Categorical()], ids=["mixture", "categorical"])
def test_what_lies_between_levels_is_read_as_the_nearest(likelihood: Any) -> None:
    seen = likelihood.observe(torch.tensor([-1.2, -1, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1]).view(1, 1, 1, 5))
    torch.testing.assert_close(seen, GREY[[0, 0, 0, 1, 255]].view(1, 1, 1, 5))
    assert torch.equal(likelihood.observe(seen), seen)
    assert likelihood.bin_width == 1


@pytest.mark.parametrize("network", [ConvDecoder, Decoder, FullyConnectedDecoder])
def test_decoders_give_as_many_numbers_as_a_likelihood_reads(network: Any) -> None:
    assert network((3, 17, 20), 5, outputs=4)(torch.randn(2, 5)).shape == (2, 12, 17, 20)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("model", ["vae", "iwae"])
def test_every_likelihood_is_one_word_on_the_command_line(resolve: Any, model: str, name: str) -> None:
    config = resolve(
        f"model={model}", f"likelihood={name}", "network@model.decoder=autoencoders/fully_connected_decoder"
    )
    method = built(config | {"data": NO_DATA})[1].eval()
    x = from_uint8(torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8))
    with torch.no_grad():
        assert method.log_likelihood(x).isfinite().all() and method.log_weights(x, 2).shape == (2, 3)
        assert method.reconstruct(x).shape == x.shape and method.reconstruct(x).abs().max() <= 1
    loss = method.train().training_step(Images(x, torch.zeros(3)), 0)
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in method.decoder.parameters())


class Nothing:
    def prepare_data(self) -> None:
        pass


NO_DATA = {"_target_": "tests.methods.vae.test_vae.Nothing"}


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [(Bernoulli, 2), (Gaussian, 2), (GaussianPerPixel, 1), (OptimalGaussian, 2), (Categorical, 255)],
)
def test_other_numbers_than_a_likelihood_reads_are_refused(kind: Any, outputs: int) -> None:
    with pytest.raises(UserError, match=rf"outputs={outputs}.*set it to that"):
        kind(outputs=outputs)
    with pytest.raises(UserError, match="say 3 K"):
        LogisticMixture(outputs=4)


def test_no_output_exceeds_what_is_called_the_highest(capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    grey = torch.rand(3, 1, 4, 4) * 2 - 1
    likelihood = Bernoulli().train()
    best = likelihood.log_prob(torch.logit((grey + 1) / 2), grey)
    assert torch.allclose(likelihood.highest(grey), best, atol=1e-5) and (best < 0).all()
    assert (likelihood.log_prob(torch.randn_like(grey), grey) < best).all()
    assert likelihood.highest(grey.sign()).tolist() == [0, 0, 0]
    assert capsys.readouterr().err == ""  # it is told beside the numbers, not when training begins


# Flows


def shaken(module: Any) -> Any:
    """With weights as training could leave them, in float64."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.7 / math.sqrt(p.shape[-1]))
    return module.double()


def log_det_of(flow: Any, z: Tensor, *h: Tensor) -> Tensor:
    """By autograd, of each row alone."""
    rows = range(len(z))
    ways = [jacobian(lambda row, i=i: flow(row[None], *(part[i : i + 1] for part in h))[0][0], z[i]) for i in rows]
    return torch.stack([way.slogdet().logabsdet for way in ways])


@pytest.mark.parametrize("kind", [Planar, InverseAutoregressive])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_flows_log_determinant_is_that_of_its_jacobian(kind: Any, dim: int) -> None:
    flow = shaken(kind(dim, 3, steps=3))
    z, h = torch.randn(6, dim).double(), torch.randn(6, 3).double()
    moved, log_det = flow(z, h)
    assert not torch.allclose(moved, z)
    torch.testing.assert_close(log_det, log_det_of(flow, z, h), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(flow(z, h + 1)[0], moved)  # it reads h


def test_a_flow_begins_near_its_gaussian_and_every_planar_step_can_be_inverted() -> None:
    z, h = torch.randn(2000, 8), torch.randn(2000, 4)
    for flow in (Planar(8, 4), InverseAutoregressive(8, 4)):
        moved, log_det = flow(z, h)
        assert moved.isfinite().all() and moved.abs().max() < 30 and log_det.abs().mean() < 8
    planar = Planar(1, 1, steps=1)
    with torch.no_grad():
        planar.parameters_of.weight.zero_()
        planar.parameters_of.bias.copy_(torch.tensor([-3.0, 2.0, 0.3]))  # u w = -6: without the appendix not monotone
    line = torch.linspace(-4, 4, 400)[:, None]
    there = planar(line, torch.zeros(400, 1))[0]
    assert (there.diff(dim=0) > 0).all()


@pytest.mark.parametrize("hidden", [[16], [16, 12]])
def test_number_d_of_a_made_sees_the_numbers_before_it_and_h(hidden: list[int]) -> None:
    made = shaken(MADE(5, 2, hidden))
    z, h = torch.randn(1, 5).double(), torch.randn(1, 2).double()
    for part in (0, 1):
        seen = jacobian(lambda row, part=part: made(row[None], h)[part][0], z[0])
        assert (seen.triu() == 0).all() and (seen.tril(-1)[1:].abs().sum(1) > 0).all()
        assert (jacobian(lambda row, part=part: made(z, row[None])[part][0], h[0]).abs().sum(1) > 0).all()


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("steps", [3, 4])
def test_couplings_are_inverted_and_measured(dim: int, steps: int) -> None:
    flow = shaken(RealNVP(dim, steps, hidden=8))
    z = torch.randn(6, dim).double()
    noise, log_det = flow(z)
    assert not torch.allclose(noise, z)
    torch.testing.assert_close(flow.inverse(noise), z)
    torch.testing.assert_close(log_det, log_det_of(flow, z))
    with pytest.raises(UserError, match="2 dimensions"):
        RealNVP(1)


@pytest.mark.parametrize("kind", [Planar, InverseAutoregressive])
def test_a_flowed_posterior_knows_its_density(kind: Any) -> None:
    """Each draw's log q is that of its start minus the Jacobian's; all draws of an image read that image's h."""
    flow = kind(3, 3, steps=2)
    nn.init.normal_(next(flow.parameters()), std=0.5)
    posterior, h = Flow(flow), torch.randn(4, 9)
    seed_noise(1)
    drawn = posterior.draw(h, 5)
    seed_noise(1)
    start = DiagonalGaussian().draw(h[:, :6], 5)
    assert drawn.z.shape == (5, 4, 3) and drawn.log_q.shape == (5, 4) and drawn.gaussian is None
    for k, b in ((0, 0), (4, 2)):
        one = lambda z, b=b: flow(z[None], h[b : b + 1, 6:])[0][0]
        torch.testing.assert_close(drawn.z[k, b], one(start.z[k, b]))
        log_det = jacobian(one, start.z[k, b]).slogdet().logabsdet
        torch.testing.assert_close(drawn.log_q[k, b], start.log_q[k, b] - log_det, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(posterior.mean(h)[1], flow(h[1:2, :3], h[1:2, 6:])[0][0])
    with pytest.raises(UserError, match="reads 3"):
        Flow(flow, num_params=2)


@pytest.mark.parametrize("words", [["model=flow_vae"], ["model=flow_vae", "posterior=planar"]])
def test_a_flow_vaes_weights_agree_with_its_elbo(resolve: Any, words: list[str]) -> None:
    networks = [f"network@model.{side}=autoencoders/fully_connected_{side}" for side in ("encoder", "decoder")]
    vae = built(resolve(*words, *networks, "model.latent_dim=3") | {"data": NO_DATA})[1].eval()
    x = (torch.rand(3, 1, 16, 16) > 0.5).float() * 2 - 1
    with torch.no_grad():
        elbo = vae.log_likelihood(x.repeat(3000, 1, 1, 1)).unflatten(0, (3000, 3)).mean(0)
        torch.testing.assert_close(vae.log_weights(x, 3000).mean(0), elbo, atol=0.3, rtol=0)


# The VampPrior


def tiny_vamp() -> VampPriorVAE:
    return VampPriorVAE(
        encoder=FullyConnectedEncoder((1, 4, 4), 2, 2, [8]),
        decoder=FullyConnectedDecoder((1, 4, 4), 2, [8]),
        likelihood=Bernoulli(),
        prior=VampPrior((1, 4, 4), components=6, mean=-0.5, spread=0.3),
        posterior=DiagonalGaussian(),
        kl=prices.Weighted(),
        latent_dim=2,
        optimizer=torch.optim.Adam,
        schedule=Constant(),
    ).eval()


def test_the_vampprior_is_the_mixture_of_its_pseudo_inputs_posteriors() -> None:
    vae = tiny_vamp()
    with torch.no_grad():
        for p in vae.encoder.parameters():
            p.mul_(1.5)
        mu, log_var = vae.infer(vae.prior.images())
        mixture = MixtureSameFamily(TorchCategorical(torch.ones(6)), Independent(Normal(mu, (log_var / 2).exp()), 1))
        z = torch.randn(7, 5, 2)
        torch.testing.assert_close(vae.prior.log_prob(z, vae.infer), mixture.log_prob(z))
        x = torch.rand(3, 1, 4, 4) * 2 - 1
        q = Independent(Normal(*(lambda m, v: (m, (v / 2).exp()))(*vae.infer(x))), 1)
        draws = q.sample((20000,))
        expected = (q.log_prob(draws) - mixture.log_prob(draws)).mean(0)
        kl = vae.elbo_terms(x.repeat(20000, 1, 1, 1))[1].unflatten(0, (20000, 3)).mean(0)
        torch.testing.assert_close(kl, expected, atol=0.03, rtol=0)
        codes = vae.sample_prior(20000)
        torch.testing.assert_close(codes.mean(0), mixture.mean, atol=0.05, rtol=0)
        torch.testing.assert_close(codes.var(0), mixture.variance, atol=0.1, rtol=0.05)


def test_pseudo_inputs_begin_about_as_bright_as_data_and_are_images() -> None:
    images = VampPrior((1, 28, 28), 100).images()
    assert float(images.mean()) == pytest.approx(-0.9, abs=0.01) and float(images.std()) == pytest.approx(
        0.02, abs=0.005
    )
    shown = tiny_vamp().figures(torch.zeros(1, 1, 4, 4))
    assert {name: len(images) for name, (images, _) in shown.items()} == {"pseudo_inputs": 6, "components": 6}
    with pytest.raises(UserError, match="model=vae"):
        VampPriorVAE(prior=StandardNormal(2))
    with pytest.raises(UserError, match="components=0"):
        VampPrior((1, 2, 2), 0)


# What training pays for the KL


def test_prices_of_the_kl_by_hand() -> None:
    kl = torch.tensor([[0.1, 2.0], [0.5, 4.0]])  # of two images by dimension; means 0.3 and 3
    assert prices.Weighted()(kl, 0.0) == pytest.approx(3.3)
    assert prices.Weighted(4.0)(kl, 0.7) == pytest.approx(13.2)
    warmed = prices.Weighted(2.0, warmup=0.5)
    assert [warmed.weight(share) for share in (0, 0.25, 0.5, 0.9)] == [0, 1, 2, 2]
    assert prices.FreeBits(0.4)(kl, 0.5) == pytest.approx(0.4 + 3)  # the mean first: (0.4 + 0.5) / 2 + 3 otherwise
    assert prices.FreeBits(0.25)(kl, 0.5) == pytest.approx(3.3)
    capacity = prices.Capacity(gamma=10, nats=4, until=0.5)
    assert [float(capacity(kl, share)) for share in (0, 0.25, 1)] == pytest.approx([33, 13, 7])


@pytest.mark.parametrize("price", [prices.Weighted(7.0, 0.9), prices.FreeBits(5.0), prices.Capacity()])
def test_no_price_leaks_into_the_reported_elbo(price: Any) -> None:
    vae, x, _ = linear_gaussian(0.3)
    vae.kl, vae.progress = price, 0.01
    seed_noise(4)
    loss = vae.train().training_step(Images(x, torch.zeros(len(x))), 0)
    told = vae.recorded[-1]
    seed_noise(4)
    log_px_z, kl = vae.elbo_terms(x)
    torch.testing.assert_close(told["train/negative_elbo"], (kl - log_px_z).mean().detach())
    torch.testing.assert_close(told["train/kl"], kl.mean().detach())
    assert abs(float(loss) - float(told["train/negative_elbo"])) > 1


@pytest.mark.parametrize(
    "price",
    [
        lambda: prices.Weighted(-1.0),
        lambda: prices.Weighted(1.0, 1.5),
        lambda: prices.FreeBits(-0.1),
        lambda: prices.FreeBits(beta=-1.0),
        lambda: prices.Capacity(gamma=-1.0),
    ],
)
def test_prices_that_make_no_sense_are_refused(price: Any) -> None:
    with pytest.raises(UserError):
        price()


# Ladders


def test_gaussians_are_compared_and_multiplied_as_torch_does() -> None:
    mu, log_var, mu_p, log_var_p, at = torch.randn(5, 4, 3)
    q, p = Normal(mu, (log_var / 2).exp()), Normal(mu_p, (log_var_p / 2).exp())
    torch.testing.assert_close(kl_between_terms(mu, log_var, mu_p, log_var_p), kl_divergence(q, p))
    m, v = combined((mu, log_var), (mu_p, log_var_p))
    product = Normal(m, (v / 2).exp())
    ratio = lambda z: q.log_prob(z) + p.log_prob(z) - product.log_prob(z)  # the same at every z
    torch.testing.assert_close(ratio(at), ratio(torch.zeros_like(at)), rtol=1e-4, atol=1e-4)


class LinearLadder(nn.Module):
    """z_2 ~ N(0, I), z_1 ~ N(a z_2, s), x ~ N(W z_1, SIGMA^2), W^T W diagonal: every posterior is diagonal too."""

    dims = (Z, Z)

    def __init__(self, shift: float):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        w = torch.randn(D, Z, generator=g)
        self.w = w @ torch.linalg.eigh(w.T @ w)[1]
        self.a, self.s, self.shift = torch.tensor([0.8, -1.3]), torch.tensor([0.5, 0.9]), shift

    def up(self, d: Tensor) -> list[Tensor]:
        gram = (self.w.T @ self.w).diagonal()
        seen, variance = d @ self.w / gram, SIGMA**2 / gram  # what x alone says of z_1
        precision = 1 + self.a**2 / (self.s + variance)
        top = self.a * seen / (self.s + variance) / precision + self.shift
        both = lambda mean, v: torch.cat([mean, v.log().expand_as(mean)], 1)
        return [both(seen, variance), both(top, 1 / precision)]

    def down(self, layer: int, z: Tensor) -> Tensor:
        return torch.cat([self.a * z, self.s.log().expand_as(z)], 1)


def linear_ladder(shift: float) -> tuple[LadderVAE, Tensor, Tensor]:
    """Images, and their log p(x)."""
    ladder: Any = LinearLadder(shift)
    parts: Any = {"likelihood": Gaussian(SIGMA), "prior": StandardNormal(Z), "kl": prices.Weighted()}
    rest: Any = {"latent_dim": Z, "optimizer": torch.optim.Adam, "schedule": Constant()}
    decoder = Linear(ladder.w, torch.zeros(D), (1, 1, D))
    vae = LadderVAE(ladder, encoder=nn.Flatten(), decoder=decoder, **parts, **rest)
    inner = torch.diag(ladder.a**2 + ladder.s)
    covariance = ladder.w @ inner @ ladder.w.T + SIGMA**2 * torch.eye(D)
    x = torch.randn(20, 1, 1, D, generator=torch.Generator().manual_seed(1))
    return vae.eval(), x, MultivariateNormal(torch.zeros(D), covariance).log_prob(x.flatten(1))


@torch.no_grad()
def test_a_ladders_bound_is_exact_where_its_posterior_is_and_below_elsewhere() -> None:
    """In a linear-Gaussian hierarchy the product of below and above is the true posterior of the lower layer."""
    vae, x, exact = linear_ladder(0.0)
    torch.testing.assert_close(vae.log_weights(x, 5), exact.expand(5, -1), atol=1e-3, rtol=0)
    elbo = vae.log_likelihood(x.repeat(2000, 1, 1, 1)).unflatten(0, (2000, 20)).mean(0)
    torch.testing.assert_close(elbo, exact, atol=0.15, rtol=0)
    vae, x, exact = linear_ladder(0.4)
    elbo = vae.log_likelihood(x.repeat(2000, 1, 1, 1)).unflatten(0, (2000, 20)).mean(0)
    log_w = vae.log_weights(x, 4000)
    torch.testing.assert_close(log_w.mean(0), elbo, atol=0.15, rtol=0)
    assert (elbo < exact - 0.1).all()
    torch.testing.assert_close(log_w.logsumexp(0) - math.log(4000), exact, atol=0.05, rtol=0)


@torch.no_grad()
def test_a_ladders_samples_are_its_models_and_its_codes_are_all_layers() -> None:
    vae, x, _ = linear_ladder(0.0)
    codes = vae.sample_prior(40000)
    ladder = vae.ladder
    torch.testing.assert_close(codes[:, Z:].var(0), torch.ones(Z), atol=0.03, rtol=0)
    torch.testing.assert_close(codes[:, :Z].var(0), ladder.a**2 + ladder.s, atol=0.08, rtol=0)
    together = (codes[:, :Z] * codes[:, Z:]).mean(0)
    torch.testing.assert_close(together, ladder.a, atol=0.05, rtol=0)
    h = vae.encode(x)
    assert h.shape == (20, 2 * Z) and torch.equal(h, vae.encode(x))
    drawn = vae.sample_posterior(x.repeat(4000, 1, 1, 1)).unflatten(0, (4000, 20)).mean(0)
    torch.testing.assert_close(drawn, h, atol=0.06, rtol=0)  # linear: means of draws are the draws of means
    torch.testing.assert_close(vae.decode(h), vae.likelihood.mean(vae.decoder(h[:, :Z])))


def test_a_ladder_of_one_layer_or_of_another_top_is_refused() -> None:
    with pytest.raises(UserError, match="two layers"):
        Ladder(8, [4])
    with pytest.raises(UserError, match="latent_dim=3"):
        LadderVAE(
            Ladder(8, [4, 3]),
            encoder=nn.Flatten(),
            decoder=nn.Identity(),
            likelihood=Bernoulli(),
            prior=StandardNormal(2),
            kl=prices.Weighted(),
            latent_dim=2,
            optimizer=torch.optim.Adam,
            schedule=Constant(),
        )


# IWAE


def as_iwae(vae: VAE, draws: int) -> IWAE:
    parts: Any = {"likelihood": vae.likelihood, "prior": vae.prior, "posterior": vae.posterior}
    rest: Any = {"latent_dim": Z, "optimizer": torch.optim.Adam, "schedule": Constant()}
    return IWAE(draws, encoder=vae.encoder, decoder=vae.decoder, **parts, **rest)


@torch.no_grad()
def test_theorem_1_more_draws_bound_log_p_more_closely() -> None:
    """Burda et al. 2016: L_k <= L_(k+1) <= log p(x), and L_k comes to it."""
    vae, x, exact = linear_gaussian(0.15)
    x, truth = x[:20], float(exact[:20].mean())
    bounds = [-float(as_iwae(vae, k).bound(x.repeat(2000, 1, 1, 1))) for k in (1, 2, 3, 8, 64)]
    assert all(low < high for low, high in pairwise(bounds)), bounds
    assert bounds[0] < truth - 0.3 and truth - 0.05 < bounds[-1] < truth + 0.01


def test_iwaes_gradient_weighs_each_draws_by_its_share_of_the_weights() -> None:
    """Equation 14: sum_i (w_i / sum_j w_j) grad log w_i, mean over images."""
    vae, x, _ = linear_gaussian(0.3)
    vae.decoder.weight = nn.Parameter(vae.decoder.weight.clone())
    iwae, x = as_iwae(vae, 4), x[:3]
    seed_noise(5)
    (found,) = torch.autograd.grad(iwae.bound(x), vae.decoder.weight)
    seed_noise(5)
    log_w = iwae.log_weights(x, 4)
    expected = torch.zeros_like(found)
    for b in range(3):
        w = log_w[:, b].detach().exp()
        for i in range(4):
            (slope,) = torch.autograd.grad(log_w[i, b], vae.decoder.weight, retain_graph=True)
            expected -= w[i] / w.sum() * slope / 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="num_samples=0"):
        as_iwae(vae, 0)


def test_the_networks_of_the_iwae_paper_begin_as_its_authors_let_them(resolve: Any) -> None:
    """Glorot's weights, biases of 0, and a last bias that decodes the training images' mean."""
    shape, bound = (1, 4, 4), (6 / (16 + 50)) ** 0.5
    for network, layer in ((FullyConnectedEncoder(shape, 2, 2, [50]), 2), (FullyConnectedDecoder(shape, 2, [50]), 2)):
        weight, bias = network[layer].weight, network[layer].bias  # type: ignore[union-attr]
        assert 0.9 * bound < float(weight.detach().abs().max()) <= bound and not bias.any()
    words = [
        "model=vae",
        "network@model.encoder=autoencoders/fully_connected_encoder",
        "network@model.decoder=autoencoders/fully_connected_decoder",
    ]
    data, method = built(resolve(*words, *TINY, "data.val=0.25"))
    method.trainer = SimpleNamespace(datamodule=data)
    method.setup("fit")
    table = data.table("train")
    mean = (table.batch(torch.arange(len(table))).x.double().mean(0) / 2 + 0.5).clamp(1e-3, 1 - 1e-3)
    decoded = method.decode(torch.zeros(1, method.latent_dim))[0] / 2 + 0.5
    torch.testing.assert_close(decoded.double(), mean, rtol=0, atol=1e-5)
