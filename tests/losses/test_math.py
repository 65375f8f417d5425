"""What each formula must satisfy, whatever network it is given."""

import math

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Independent, Normal, kl_divergence

from unlabeled.batches import from_uint8, to_uint8
from unlabeled.distributions import gaussian
from unlabeled.distributions.kl import Weighted
from unlabeled.distributions.likelihood import Bernoulli, Gaussian
from unlabeled.distributions.posterior import DiagonalGaussian
from unlabeled.distributions.prior import StandardNormal
from unlabeled.errors import UserError
from unlabeled.losses import adversarial, penalty
from unlabeled.methods.vae.vae import VAE
from unlabeled.nn.autoencoders import convolutional
from unlabeled.nn.autoencoders import course as ee559
from unlabeled.nn.gan import dcgan
from unlabeled.optim import schedules
from unlabeled.seeding import mix

OBJECTIVES = [adversarial.NonSaturating, adversarial.LeastSquares, adversarial.Wasserstein, adversarial.Hinge]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_discriminator_raises_real_and_lowers_fake_the_generator_raises_fake(objective: type) -> None:
    # scores of 0.3: inside hinge's margins, and on the near side of the least-squares targets 0 and 1
    real, fake, score = (torch.full((4,), 0.3, requires_grad=True) for _ in range(3))
    objective().discriminator(real, fake).backward()
    objective().generator(score).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all() and (score.grad < 0).all()


def test_non_saturating_is_binary_cross_entropy_of_logits() -> None:
    real, fake = torch.randn(2, 7)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones(7)) + bce(fake, torch.zeros(7))
    torch.testing.assert_close(adversarial.NonSaturating().discriminator(real, fake), expected)
    torch.testing.assert_close(adversarial.NonSaturating().generator(fake), bce(fake, torch.ones(7)))


def test_non_saturating_discriminator_is_at_rest_at_one_half_where_the_distributions_are_one() -> None:
    score = torch.zeros(5, requires_grad=True)  # sigma(0) = 1/2
    adversarial.NonSaturating().discriminator(score, score).backward()
    torch.testing.assert_close(score.grad, torch.zeros(5))


def test_least_squares_written_out() -> None:
    real, fake = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0])
    assert adversarial.LeastSquares().discriminator(real, fake) == pytest.approx((1 + 1) / 4 + (1 + 9) / 4)
    assert adversarial.LeastSquares().generator(fake) == pytest.approx((0 + 4) / 4)


def test_gradient_penalty_is_the_squared_distance_of_the_slope_from_one() -> None:
    slope_three = lambda x: 3 * x.flatten(1)[:, 0]
    x = torch.randn(4, 3, 8, 8)
    assert float(penalty.GradientPenalty(weight=10)(slope_three, x, -x)) == pytest.approx(10 * (3 - 1) ** 2)


def test_gradient_penalty_takes_each_image_by_itself() -> None:
    """Slopes 1 and 3 in one batch: the mean of 0 and 4, not the penalty of a mean slope."""
    slopes = torch.tensor([1.0, 3.0])
    x = torch.randn(2, 1, 2, 2)
    value = penalty.GradientPenalty(weight=1)(lambda x: slopes * x.flatten(1)[:, 0], x, -x)
    assert float(value) == pytest.approx((0 + 4) / 2)


def test_gradient_penalty_reaches_the_discriminator_in_float32_under_autocast() -> None:
    discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1))
    x = torch.randn(3, 1, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        value = penalty.GradientPenalty()(discriminator, x, -x)
    value.backward()
    norm = discriminator[1].weight.detach().norm()
    assert value.dtype == torch.float32 and float(value.detach()) == pytest.approx(
        float(10 * (norm - 1) ** 2), rel=1e-5
    )
    assert discriminator[1].weight.grad.norm() > 0


def test_gaussian_kl_and_density_match_torch() -> None:
    mu, log_var, x = torch.randn(3, 5, 3)
    q = Independent(Normal(mu, (log_var / 2).exp()), 1)
    p = Independent(Normal(torch.zeros(5, 3), torch.ones(5, 3)), 1)
    torch.testing.assert_close(gaussian.kl_to_standard_normal(mu, log_var), kl_divergence(q, p))
    torch.testing.assert_close(gaussian.log_normal(x, mu, log_var), q.log_prob(x))


def test_bernoulli_matches_torch() -> None:
    x = (torch.rand(4, 1, 3, 3) > 0.5).float() * 2 - 1
    logits = torch.randn(4, 1, 3, 3)
    expected = Independent(TorchBernoulli(logits=logits), 3).log_prob((x + 1) / 2)
    torch.testing.assert_close(Bernoulli().log_prob(logits, x), expected)
    torch.testing.assert_close((Bernoulli().mean(logits) + 1) / 2, torch.sigmoid(logits))


def test_gaussian_likelihood_matches_torch_and_its_bits_are_those_of_the_discrete_levels() -> None:
    x = from_uint8(torch.randint(0, 256, (4, 1, 3, 3)))
    output = torch.rand(4, 1, 3, 3) * 2 - 1
    likelihood = Gaussian(sigma=0.25)
    expected = Independent(Normal(output, 0.25), 3).log_prob(x)
    torch.testing.assert_close(likelihood.log_prob(output, x), expected)
    # the probability of a level is the mass between its edges: for a wide Gaussian, density times width
    likelihood, edges = Gaussian(sigma=1.0), Normal(output.double(), 1.0)
    mass = (edges.cdf(x + 1 / 255) - edges.cdf(x - 1 / 255)).log().sum((1, 2, 3))
    bits = -(likelihood.log_prob(output, x) / 9 + math.log(likelihood.bin_width)) / math.log(2)
    torch.testing.assert_close(bits, (-mass / 9 / math.log(2)).float(), rtol=1e-3, atol=1e-3)


def test_binarization() -> None:
    x = torch.full((2, 1, 200, 200), 0.4)  # a probability of 0.7
    assert torch.equal(Bernoulli("none").observe(x), x.mul(1).add(1).div(2) * 2 - 1)
    assert torch.equal(Bernoulli("threshold").observe(x), torch.ones_like(x))
    drawn = Bernoulli("dynamic").observe(x)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0} and float((drawn + 1).mean() / 2) == pytest.approx(0.7, abs=0.01)
    with pytest.raises(UserError, match="dynamic"):
        Bernoulli("sometimes")


class Linear(torch.nn.Module):
    """x (B, 1, 1, D) -> what a linear map and a constant make of it."""

    def __init__(self, weight: torch.Tensor, constant: torch.Tensor, shape: tuple[int, ...]):
        super().__init__()
        self.weight, self.constant, self.shape = weight, constant, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ self.weight.T + self.constant).unflatten(1, self.shape)


def test_the_elbo_of_a_linear_gaussian_model_is_exact_at_the_true_posterior_and_below_it_elsewhere() -> None:
    """x = W z + noise: log p(x) is known, and the bound is tight where q is the posterior."""
    torch.manual_seed(0)
    d, z, sigma = 5, 2, 0.5
    w = torch.randn(d, z)
    precision = torch.eye(z) + w.T @ w / sigma**2
    w = w @ torch.linalg.eigh(precision)[1]  # turned, so that the posterior is diagonal
    precision = torch.eye(z) + w.T @ w / sigma**2
    covariance = torch.linalg.inv(precision)
    log_var = covariance.diagonal().log()
    posterior = torch.cat([covariance @ w.T / sigma**2, torch.zeros(z, d)])
    x = torch.randn(3, 1, 1, d)
    exact = torch.distributions.MultivariateNormal(torch.zeros(d), w @ w.T + sigma**2 * torch.eye(d)).log_prob(
        x.flatten(1)
    )

    def bound(shift: float) -> torch.Tensor:
        encoder = Linear(posterior, torch.cat([torch.full((z,), shift), log_var]), (2 * z,))
        decoder, parts = Linear(w, torch.zeros(d), (1, 1, d)), (StandardNormal(z), DiagonalGaussian(), Weighted())
        vae = VAE(encoder, decoder, Gaussian(sigma), *parts, z, torch.optim.Adam, schedules.Constant())
        return vae.log_likelihood(x.repeat(4000, 1, 1, 1)).detach().unflatten(0, (4000, 3)).mean(0)

    torch.testing.assert_close(bound(0.0), exact, atol=0.1, rtol=0)
    assert (bound(0.7) < exact - 0.2).all()


def test_every_grey_level_survives_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)
    assert from_uint8(levels).min() == -1 and from_uint8(levels).max() == 1
    assert to_uint8(torch.tensor([-2.0, 0.4999 / 127.5 - 1, 0.5001 / 127.5 - 1, 3.0])).tolist() == [0, 0, 1, 255]


SHAPES = [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 33, 47), (3, 64, 64), (1, 128, 96)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_networks_fit_any_size(shape: tuple[int, int, int]) -> None:
    x = torch.randn(2, *shape)
    for module in (ee559, convolutional):
        encoder = (module.Encoder if module is ee559 else module.ConvEncoder)(shape, 5, num_params=2, width=4)
        decoder = (module.Decoder if module is ee559 else module.ConvDecoder)(shape, 5, width=4)
        assert encoder(x).shape == (2, 10) and decoder(encoder(x)[:, :5]).shape == x.shape
    assert dcgan.Generator(7, shape, width=4)(torch.randn(2, 7)).shape == x.shape
    assert dcgan.Discriminator(shape, width=4)(x).shape == (2,)


def test_the_course_autoencoder_has_its_sides_on_28_pixels() -> None:
    sides = [28]
    for layer in ee559.Encoder((1, 28, 28), 8):
        if isinstance(layer, torch.nn.Conv2d):
            sides.append((sides[-1] - layer.kernel_size[0]) // layer.stride[0] + 1)
    assert sides == [28, 24, 20, 9, 4, 1]


def test_dcgan_at_64_pixels_is_the_papers() -> None:
    shapes = [tuple(p.shape) for p in dcgan.Generator(100, (3, 64, 64), 128).parameters() if p.ndim == 4]
    assert shapes == [(100, 1024, 4, 4), (1024, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 3, 4, 4)]


@pytest.mark.parametrize("network", [lambda: ee559.Encoder((1, 7, 9), 8), lambda: dcgan.Discriminator((3, 5, 64))])
def test_images_too_small_for_a_network_are_refused_in_words(network: object) -> None:
    with pytest.raises(UserError, match=r"too small.*at least"):
        network()  # type: ignore[operator]


def test_schedules() -> None:
    decay, cosine, steps = schedules.LinearDecay(0.5), schedules.Cosine(0.1), schedules.Steps([0.3, 0.6], 0.2)
    assert [decay(t) for t in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]
    assert [cosine(t) for t in (0, 0.05, 0.1, 0.55, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [steps(t) for t in (0, 0.3, 0.59, 0.9)] == pytest.approx([1, 0.2, 0.2, 0.04])


def test_schedules_that_never_turn() -> None:
    """A decay that starts at the run's end, and a warm-up that takes all of it."""
    shares = [0.0, 0.5, 0.999, 1.0]
    assert [schedules.LinearDecay(1.0)(share) for share in shares] == [1.0] * 4
    assert [schedules.Cosine(1.0)(share) for share in shares] == shares


def test_mixed_seeds_do_not_collide() -> None:
    seeds = {mix(a, b, c) for a in range(20) for b in range(20) for c in range(20)}
    assert len(seeds) == 8000 and all(0 <= seed < 2**63 for seed in seeds)
