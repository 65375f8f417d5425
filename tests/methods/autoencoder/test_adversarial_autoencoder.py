"""Adversarial autoencoders: the prior's modes, who is moved by what, and what a label is for."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tests.contract.cases import CASES
from tests.contract.test_contract import run
from unlabeled.distributions.posterior import DiagonalGaussian
from unlabeled.distributions.prior import Modes
from unlabeled.errors import UserError
from unlabeled.nn.gan.discriminators import CodeDiscriminator, LabelledCodeDiscriminator

ROWS = {
    case.model.removesuffix("_autoencoder"): case for case in CASES if case.model.endswith("adversarial_autoencoder")
}
NAMES = ["adversarial", "supervised_adversarial", "semi_supervised_adversarial"]


@pytest.fixture
def made(build):
    def made(name, *overrides):
        method, data, _ = build(ROWS[name], *overrides)
        batch = data.table("train").batch(torch.arange(8))
        return method, batch.x, batch.y

    return made


# --- Modes


def gaussians(modes=3, dim=4, radius=1.4, along=0.5, across=0.1):
    """The mixture written out: a covariance turned by each mode's angle."""
    centres, covariances = torch.zeros(modes, dim), torch.eye(dim).repeat(modes, 1, 1)
    for k in range(modes):
        angle = torch.tensor(2 * torch.pi * k / modes)
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        centres[k, :2] = radius * turn[:, 0]
        covariances[k, :2, :2] = turn @ torch.diag(torch.tensor([along**2, across**2])) @ turn.T
    return MultivariateNormal(centres, covariances)


def test_modes_are_a_mixture_of_gaussians():
    prior, parts = Modes(4, 3), gaussians()
    z = torch.randn(2, 5, 4)
    want = MixtureSameFamily(Categorical(torch.ones(3) / 3), parts).log_prob(z)
    torch.testing.assert_close(prior.log_prob(z), want, rtol=1e-4, atol=1e-3)
    drawn = DiagonalGaussian().draw(torch.randn(5, 8))
    torch.testing.assert_close(prior.kl(drawn), (drawn.log_q - prior.log_prob(drawn.z))[:, None])


def test_modes_are_drawn_one_by_one_and_all_together():
    prior, parts = Modes(4, 3), gaussians()
    torch.manual_seed(0)
    for k in range(3):
        z = prior.draw(torch.full((20_000,), k))
        torch.testing.assert_close(z.mean(0), parts.mean[k], atol=0.03, rtol=0)
        torch.testing.assert_close(z.T.cov(), parts.covariance_matrix[k], atol=0.03, rtol=0)
    both = prior.draw(torch.tensor([2, -1]).repeat(9_000))
    nearest = torch.cdist(both, parts.mean).argmin(1)
    assert (nearest[::2] == 2).float().mean() > 0.95
    shares = torch.bincount(nearest[1::2], minlength=3) / 9_000
    torch.testing.assert_close(shares, torch.ones(3) / 3, atol=0.03, rtol=0)
    torch.manual_seed(1)
    shares = torch.bincount(torch.cdist(prior.sample(9_000), parts.mean).argmin(1), minlength=3) / 9_000
    torch.testing.assert_close(shares, torch.ones(3) / 3, atol=0.03, rtol=0)


def test_a_class_beside_a_code():
    discriminator, z = LabelledCodeDiscriminator(2, 3, hidden=(5,)), torch.randn(4, 2)
    y = torch.tensor([0, 2, -1, 1])
    beside = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0.0]])  # the last entry: not known
    torch.testing.assert_close(discriminator(z, y), discriminator.layers(torch.cat([z, beside], 1))[:, 0])
    assert CodeDiscriminator(2, hidden=(5,))(z).shape == (4,)


# --- Who is moved by what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("player", ["autoencoder", "discriminator", "generator"])
def test_each_phase_moves_its_own(made, build, name, player):
    """With the other phases' learning rates at 0."""
    moving = {"autoencoder": {"encoder", "decoder"}, "generator": {"encoder"}}
    moving["discriminator"] = (
        {"class_discriminator", "style_discriminator"} if name.startswith("semi") else {"discriminator"}
    )
    others = {"autoencoder", "discriminator", "generator"} - {player} | (
        {"classifier"} if name.startswith("semi") else set()
    )
    rates = [f"model.{other}_optimizer.lr=0.0" for other in others]
    before, *_ = made(name, *rates)
    after = run(build(ROWS[name], *rates, "budget.batches=2"))
    state = after.state_dict()
    moved = {key.split(".")[0] for key, value in before.state_dict().items() if not torch.equal(value, state[key])}
    assert moved - {"labels"} == moving[player]


def test_the_game_is_written_out(made):
    """The discriminator of the supervised one: bce of scores for draws of the classes' modes and for codes."""
    method, x, y = made("supervised_adversarial")
    y = torch.where(torch.arange(8) < 3, -1, y)
    torch.manual_seed(3)
    loss = method.discriminator_loss(x, y)
    torch.manual_seed(3)
    wanted = method.prior.draw(torch.where(y < 0, method.labels.pick(8), y))
    codes = method.encoder(x)
    real, fake = method.discriminator(wanted, y), method.discriminator(codes, y)
    bce = binary_cross_entropy_with_logits
    torch.testing.assert_close(loss, bce(real, torch.ones(8)) + bce(fake, torch.zeros(8)))
    torch.testing.assert_close(method.generator_loss(x, y), bce(fake, torch.ones(8)))
    loss.backward()
    assert all(p.grad is None for p in method.encoder.parameters())


def test_the_modes_become_classes(build):
    """Dark and bright halves swap: after learning, what is drawn from a class's mode is like its images."""
    case = ROWS["supervised_adversarial"]
    built = build(case, "data.val=0.125", "budget.epochs=300", "data.epochs=null")
    method = run(built, saved=False, limit_val_batches=0).eval()
    batch = built[1].table("train").batch(torch.arange(8))
    with torch.no_grad():
        nearest = torch.cdist(method.encode(batch.x), method.prior.centres).argmin(1)
        assert (nearest == batch.y).float().mean() > 0.8
        means = torch.stack([batch.x[batch.y == k].mean(0) for k in range(2)]).flatten(1)
        drawn = method.sample_class(torch.tensor([0, 1]).repeat(20)).flatten(1)
    assert (torch.cdist(drawn, means).argmin(1) == torch.tensor([0, 1]).repeat(20)).float().mean() > 0.8


# --- Labels


def test_classification_is_of_labelled_images_only(made):
    method, x, y = made("semi_supervised_adversarial")
    method.eval()
    some = torch.where(torch.arange(8) < 5, -1, y)
    loss = method.classification_loss(x, some, torch.tensor(3))
    torch.testing.assert_close(loss, cross_entropy(method.classify(x[5:]), y[5:]))
    wrong = (method.classify(x[5:]).argmax(1) != y[5:]).float().mean()
    torch.testing.assert_close(method.recorded[-1]["val/error_rate"], wrong)
    assert int(method.recorded[-1].rows) == 3
    none = method.classification_loss(x, torch.full((8,), -1), torch.tensor(0))
    assert int(method.recorded[-1].rows) == 0  # so that nothing is recorded of it
    none.backward()
    assert none == 0 and all(p.grad.abs().sum() == 0 for p in method.encoder.parameters())


def test_class_and_style_are_apart(made):
    method, x, _ = made("semi_supervised_adversarial", "model.latent_dim=5")
    method.eval()
    code = method.encode(x)
    torch.testing.assert_close(code[:, :2], method.classify(x).softmax(1))
    torch.testing.assert_close(code[:, 2:], method.encoder(x)[:, 2:])
    drawn = method.sample_prior(4000)
    assert torch.equal(drawn[:, :2].sum(1), torch.ones(4000)) and drawn[:, :2].max(1).values.min() == 1
    torch.testing.assert_close(drawn.mean(0), torch.tensor([0.5, 0.5, 0, 0, 0]), atol=0.06, rtol=0)
    torch.manual_seed(0)
    images = method.sample_class(torch.tensor([0, 1]))
    torch.manual_seed(0)
    code = torch.cat([torch.eye(2), torch.randn(2, 3)], 1)
    torch.testing.assert_close(images, method.decode(code))


def test_noise_is_of_training_only(made):
    method, x, _ = made("semi_supervised_adversarial", "model.noise=0.5")
    assert not torch.equal(method.train().classify(x), method.classify(x))
    assert torch.equal(method.eval().classify(x), method.classify(x))


def test_a_few_labels_do(build):
    """Two labels, one of each class; the other images follow."""
    case = ROWS["semi_supervised_adversarial"]
    built = build(case, "data.val=0.125", "data.num_labels=2", "budget.batches=150", "budget.epochs=null")
    batch = built[1].table("train").batch(torch.arange(8))
    seen = torch.cat([batch.y for batch in built[1].train_dataloader()])
    assert (seen < 0).any()
    method = run(built, saved=False, limit_val_batches=0).eval()
    with torch.no_grad():
        assert (method.classify(batch.x).argmax(1) == batch.y).float().mean() > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_not_accumulated(name, build):
    with pytest.raises(UserError, match=r"accumulate=2.*data\.batch_size"):
        run(build(ROWS[name], "accumulate=2", "budget.batches=2"))


def test_labels_that_are_missing(build, made):
    for name, words in (
        ("supervised_adversarial", "have a mode each"),
        ("semi_supervised_adversarial", "and this data has none"),
    ):
        with pytest.raises(Exception, match=words):
            build(ROWS[name], "data.classes=null")
    with pytest.raises(Exception, match="the code is the 2 classes and a style"):
        build(ROWS["semi_supervised_adversarial"], "model.latent_dim=2")
    for name in NAMES[1:]:
        method, x, y = made(name)
        with pytest.raises(UserError, match="has attributes"):
            method.labels.known(y[:, None]) if name.startswith("semi") else method.discriminator_loss(x, y[:, None])
    method, *_ = made("semi_supervised_adversarial")
    with pytest.raises(UserError, match="no training image has one"):
        method.on_train_epoch_end()
