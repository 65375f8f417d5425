"""What is paid beside the ELBO: total correlation, its adversarial estimate, covariances, maximum mean discrepancy."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from tests.contract.cases import CASES
from unlabeled.batches import Images
from unlabeled.distributions.posterior import Drawn
from unlabeled.errors import UserError
from unlabeled.losses.covariance import OfCodes, OfMeans
from unlabeled.losses.mmd import MMD
from unlabeled.losses.total_correlation import Stratified, Weighted, pairwise_log_normal
from unlabeled.methods.vae.factor_vae import permute_dimensions

Build = Callable[..., tuple[Any, Any, dict[str, Any]]]
ROW = {case.model: case for case in CASES}


def first(data: Any) -> Images:
    return next(iter(data.loader("train")))


def recorded(method: Any) -> dict[str, float]:
    return {name.partition("/")[2]: float(value) for values in method.recorded for name, value in values.items()}


# Total correlation


def posteriors(n: int, correlation: float = 0.9, sigma: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """z, mu, log_var (n, 2) of images whose q(z) is, as n grows, the Gaussian of variance 1 with that correlation."""
    covariance = torch.tensor([[1, correlation], [correlation, 1]]) - sigma**2 * torch.eye(2)
    torch.manual_seed(0)
    mu = MultivariateNormal(torch.zeros(2), covariance).sample((n,))
    return mu + sigma * torch.randn(n, 2), mu, torch.full((n, 2), 2 * math.log(sigma))


def test_pairwise_densities_are_torchs() -> None:
    z, mu, log_var = torch.randn(3, 5, 4)
    expected = Normal(mu, (log_var / 2).exp()).log_prob(z[:, None])
    torch.testing.assert_close(pairwise_log_normal(z, mu, log_var), expected)


@pytest.mark.parametrize(("estimator", "too_high"), [(Stratified(), 0.0), (Weighted(), math.log(2000))])
def test_total_correlation_of_a_gaussian(estimator: Any, too_high: float) -> None:
    exact = -0.5 * math.log(1 - 0.9**2)  # 0.830
    found = estimator(pairwise_log_normal(*posteriors(2000)), 2000).total_correlation.mean()
    assert float(found) == pytest.approx(exact + too_high, abs=0.06)


def test_small_batches_of_a_gaussian_still_tell_its_total_correlation() -> None:
    """A sixteenth of the images at a time: 0.71 of 0.83. The first column in place of the diagonal gives 1.02."""
    parts = zip(*(part.split(128) for part in posteriors(2048, sigma=0.1)), strict=True)
    found = torch.stack([Stratified()(pairwise_log_normal(*part), 2048).total_correlation.mean() for part in parts])
    assert float(found.mean()) == pytest.approx(-0.5 * math.log(1 - 0.9**2), abs=0.14)


def test_stratified_sampling_is_unbiased_over_all_batches() -> None:
    """Image 0 with every ordered choice of 2 of the 5 others: the mean estimate is q(z) of all 6, exactly."""
    torch.manual_seed(0)
    z, mu, log_var = torch.randn(3, 6, 3).double()
    log_q = pairwise_log_normal(z, mu, log_var)
    joint, single = [], []
    for others in itertools.permutations(range(1, 6), 2):
        rows = torch.tensor([0, *others])
        found = Stratified()(log_q[rows][:, rows], 6)
        joint.append(found.log_q[0].exp())
        single.append(found.log_q_dimensions[0].exp())
    torch.testing.assert_close(torch.stack(joint).mean(), log_q[0].sum(1).exp().mean())
    torch.testing.assert_close(torch.stack(single).mean(0), log_q[0].exp().mean(0))


def test_the_weights_are_the_papers() -> None:
    weights = Stratified().weights(4, 100)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    torch.testing.assert_close(weights.diagonal(), torch.full((4,), 1 / 100))
    others = weights[~torch.eye(4, dtype=torch.bool)].view(4, 3).sort(1).values
    torch.testing.assert_close(others, torch.tensor([[(100 - 3) / 300, 1 / 3, 1 / 3]]).expand(4, 3))
    assert torch.equal(Stratified().weights(1, 100), torch.ones(1, 1))


def test_the_parts_of_beta_tcvae_add_up_to_the_kl_of_the_draws(build: Build) -> None:
    method, data, _ = build(ROW["beta_tcvae"])
    drawn = method.posterior.draw(method.encoder(first(data).x))
    information, correlation, dimensions = method.parts(drawn, 50)
    q = Independent(Normal(drawn.gaussian[0], (drawn.gaussian[1] / 2).exp()), 1)
    p = Independent(Normal(torch.zeros(10), 1), 1)
    kl = (q.log_prob(drawn.z) - p.log_prob(drawn.z)).mean()
    torch.testing.assert_close(information + correlation + dimensions, kl)
    aggregate = method.estimator(pairwise_log_normal(drawn.z, *drawn.gaussian), 50)
    torch.testing.assert_close(correlation, (aggregate.log_q - aggregate.log_q_dimensions.sum(1)).mean())
    torch.testing.assert_close(information, (drawn.log_q - aggregate.log_q).mean())


def test_beta_tcvae_pays_each_part_its_own_price(build: Build) -> None:
    class Trainer:
        num_training_batches, world_size = 5, 2

    method, data, _ = build(ROW["beta_tcvae"], "model.alpha=2", "model.beta=3", "model.gamma=5")
    method.encoder[-1].weight.data *= 30  # posteriors that differ from image to image
    type(method).trainer = property(lambda self: Trainer())  # an epoch of 80 images
    try:
        seen = []
        method.estimator = lambda log_q, images: seen.append(images) or Stratified()(log_q, images)
        loss = method.training_step(first(data), 0)
    finally:
        del type(method).trainer
    found = recorded(method)
    parts = 2 * found["mutual_information"] + 3 * found["total_correlation"] + 5 * found["dimension_wise_kl"]
    assert float(loss) == pytest.approx(parts + found["reconstruction_loss"], rel=1e-6) and seen == [80]


# FactorVAE


def test_each_dimension_is_permuted_by_itself_across_the_batch() -> None:
    z = torch.arange(60.0).reshape(20, 3)
    permuted = permute_dimensions(z)
    torch.testing.assert_close(permuted.sort(0).values, z)  # every column keeps its numbers
    rows = permuted // 3
    assert all(not torch.equal(rows[:, i], rows[:, j]) for i, j in [(0, 1), (0, 2), (1, 2)])  # in an order of its own
    assert all(not torch.equal(rows[:, i], torch.arange(20.0)) for i in range(3))


def test_every_permutation_is_as_likely() -> None:
    torch.manual_seed(0)
    z = torch.arange(3.0)[:, None].expand(3, 4000)
    orders = (permute_dimensions(z) * torch.tensor([[9.0], [3.0], [1.0]])).sum(0).unique(return_counts=True)[1]
    assert len(orders) == 6 and orders.min() > 600 and orders.max() < 735  # 667 each, 24 to a standard deviation


def test_the_exact_density_ratio_gives_the_exact_total_correlation(build: Build) -> None:
    """With the best discriminator of a correlated Gaussian, what the VAE pays gamma for is its total correlation."""
    z, _, _ = posteriors(20000)
    joint = MultivariateNormal(torch.zeros(2), torch.tensor([[1, 0.9], [0.9, 1]]))
    alone = Independent(Normal(torch.zeros(2), 1), 1)

    class Best(torch.nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return joint.log_prob(z) - alone.log_prob(z)

    method, data, _ = build(ROW["factor_vae"], "model.gamma=7")
    method.discriminator = Best()
    loss = float(method.vae_loss(first(data).x))
    found = recorded(method)
    assert found["total_correlation"] == pytest.approx(-0.5 * math.log(1 - 0.9**2), abs=0.03)
    assert loss == pytest.approx(found["negative_elbo"] + 7 * found["total_correlation"], rel=1e-5)


def test_the_discriminator_learns_that_ratio(build: Build) -> None:
    method, *_ = build(ROW["factor_vae"], "model.latent_dim=2", "model.discriminator.hidden=[32,32]")
    optimizer = torch.optim.Adam(method.discriminator.parameters(), 1e-2)
    for _ in range(300):
        z = MultivariateNormal(torch.zeros(2), torch.tensor([[1, 0.9], [0.9, 1]])).sample((256,))
        optimizer.zero_grad()
        method.discriminator_loss(z, permute_dimensions(z)).backward()
        optimizer.step()
    test = posteriors(5000)[0]
    assert float(method.discriminator(test).mean()) == pytest.approx(-0.5 * math.log(1 - 0.9**2), abs=0.15)


def test_factor_vae_needs_two_halves(build: Build) -> None:
    method, data, _ = build(ROW["factor_vae"])
    with pytest.raises(UserError, match=r"in two halves: data.batch_size=2 or more"):
        method.training_step(Images(first(data).x[:1], first(data).y[:1]), 0)


# DIP-VAE


def test_covariances_are_torchs() -> None:
    torch.manual_seed(0)
    mu, log_var = torch.randn(2, 50, 3).double()
    torch.testing.assert_close(OfMeans()(mu, log_var), torch.cov(mu.T, correction=0))
    drawn = mu + (log_var / 2).exp() * torch.randn(20000, 50, 3).double()
    of_draws = torch.cov(drawn.flatten(0, 1).T, correction=0)
    torch.testing.assert_close(OfCodes()(mu, log_var), of_draws, atol=0.02, rtol=0)


def test_dip_vae_written_out(build: Build) -> None:
    method, data, _ = build(ROW["dip_vae"], "model.off_diagonal=3", "model.diagonal=2")
    mu, log_var = method.infer(first(data).x)
    c = torch.cov(mu.T, correction=0) + torch.diag(log_var.exp().mean(0))
    expected = sum(2 * (c[i, i] - 1) ** 2 if i == j else 3 * c[i, j] ** 2 for i in range(10) for j in range(10))
    torch.testing.assert_close(method.penalty(method.covariance(mu, log_var)), expected)
    loss = method.training_step(first(data), 0)
    assert float(loss) == pytest.approx(recorded(method)["negative_elbo"] + float(expected), rel=1e-5)


# InfoVAE


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_the_double_loop(kernel: str) -> None:
    torch.manual_seed(0)
    z, p = torch.randn(6, 3), torch.randn(5, 3) + 1
    squared = lambda a, b: float((a - b).square().sum())
    of = {"imq": lambda d, s: s * 6 / (s * 6 + d), "rbf": lambda d, s: math.exp(-d / (6 * s))}[kernel]  # 2 D = 6
    k = lambda a, b: (of(squared(a, b), 0.5) + of(squared(a, b), 2.0)) / 2
    expected = sum(k(z[i], z[j]) for i in range(6) for j in range(6) if i != j) / 30
    expected += sum(k(p[i], p[j]) for i in range(5) for j in range(5) if i != j) / 20
    expected -= 2 * sum(k(a, b) for a in z for b in p) / 30
    assert float(MMD(kernel, [0.5, 2.0])(z, p)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_0_on_average_where_both_are_one_distribution_and_more_elsewhere(kernel: str) -> None:
    torch.manual_seed(0)
    mmd = MMD(kernel)
    same = torch.stack([mmd(*torch.randn(2, 8, 4)) for _ in range(2000)])
    assert abs(float(same.mean())) < 4 * float(same.std()) / 2000**0.5
    assert float(mmd(torch.randn(200, 4) * 0.3, torch.randn(200, 4))) > 0.05
    assert float(mmd(torch.ones(1, 4), torch.ones(1, 4))) == 0


@pytest.mark.parametrize(
    ("settings", "words"), [({"kernel": "box"}, "there are imq and rbf"), ({"scales": []}, "at least one, all above 0")]
)
def test_mmd_refuses(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MMD(**settings)


@pytest.mark.parametrize(("alpha", "scale"), [(0.0, 1.0), (0.5, 8.0), (1.0, 3.0), (-2.0, 4.0)])
def test_info_vae_pays_the_kl_and_the_divergence_their_weights(build: Build, alpha: float, scale: float) -> None:
    method, data, _ = build(ROW["info_vae"], f"model.alpha={alpha}", f"model.scale={scale}")
    loss = float(method.training_step(first(data), 0))
    found = recorded(method)
    expected = found["reconstruction_loss"] + (1 - alpha) * found["kl"] + (alpha + scale - 1) * found["mmd"]
    assert loss == pytest.approx(expected, rel=1e-5)


# What does not fit


@pytest.mark.parametrize(
    ("model", "word", "complaint"),
    [
        ("beta_tcvae", "model.beta=-1", "must not be negative"),
        ("factor_vae", "model.gamma=-1", "model.gamma=-1: it must not be negative"),
        ("dip_vae", "model.diagonal=-1", "must not be negative"),
        ("info_vae", "model.alpha=1.5", "must be 1 at most"),
        ("info_vae", "model.scale=0.2", "1 or more"),
    ],
)
def test_weights_that_make_no_sense_are_refused(build: Build, model: str, word: str, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        build(ROW[model], word)


@pytest.mark.parametrize("model", ["beta_tcvae", "dip_vae"])
def test_a_posterior_that_is_no_gaussian_is_refused(build: Build, model: str) -> None:
    method, data, _ = build(ROW[model], "posterior=planar")
    z = torch.zeros(8, 10)
    turn = {
        "dip_vae": lambda: method.training_step(first(data), 0),
        "beta_tcvae": lambda: method.parts(Drawn(z, z[:, 0], None), 8),
    }[model]
    with pytest.raises(UserError, match="posterior=gaussian"):
        turn()
