"""VAEs that know of classes, or of a discriminator: who pays for what, and what a few labels do."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tests.contract.cases import CASES
from unlabeled.batches import Images
from unlabeled.distributions.m2 import M2
from unlabeled.errors import UserError
from unlabeled.evaluation.figures.drawing import draw_images
from unlabeled.nn.autoencoders.conditional import ConditionalDecoder, ConditionalEncoder, ConditionalPerceptron
from unlabeled.seeding import seed_noise

Build = Callable[..., tuple[Any, Any, dict[str, Any]]]
ROW = {case.model: case for case in CASES}


def first(data: Any) -> Images:
    return next(iter(data.loader("train")))


def recorded(method: Any) -> dict[str, float]:
    return {name.partition("/")[2]: float(value) for values in method.recorded for name, value in values.items()}


def moved_by(method: Any, loss: Tensor) -> set[str]:
    """The children that a loss has a gradient for."""
    found = set()
    for name, child in method.named_children():
        wanted = [p for p in child.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True) if wanted else ()
        if any(g is not None and g.any() for g in gradients):
            found.add(name)
    return found


# VAE/GAN


def whole(method: Any, x: Tensor) -> dict[str, Tensor]:
    """Algorithm 1's losses, one after another with the noise of a seed each."""
    mu, log_var = method.infer(x)
    again = lambda: method.generator(mu + (log_var / 2).exp() * torch.randn_like(mu))
    other = lambda: method.generator(torch.randn(len(x), mu.shape[1]))
    layer = method.discriminator.body
    like = lambda fake: 0.5 * sum((a - b).square().sum() for a, b in zip(layer(x), layer(fake), strict=True)) / len(x)
    bce = lambda image, target: binary_cross_entropy_with_logits(
        method.discriminator(image), torch.full((len(x),), target)
    )
    prior = kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0, 1)).sum(1).mean()
    seed_noise(1)
    encoder = prior + like(again())
    seed_noise(1)
    fake, drawn = again(), other()
    generator = method.gamma * like(fake) + bce(fake, 1.0) + bce(drawn, 1.0)
    seed_noise(1)
    discriminator = bce(x, 1.0) + bce(again(), 0.0) + bce(other(), 0.0)
    return {"encoder": encoder, "generator": generator, "discriminator": discriminator}


def test_the_three_players_of_vae_gan_pay_as_in_algorithm_1(build: Build) -> None:
    method, data, _ = build(ROW["vae_gan"], "model.gamma=0.3")
    x = first(data).x
    method.discriminator.head.weight.data *= 1000  # scores of some size: real and fake are no longer one half each
    method.discriminator.eval()  # no batch statistics: the order of its calls is all the same
    method.generator.eval()
    for player, expected in whole(method, x).items():
        seed_noise(1)
        torch.testing.assert_close(getattr(method, f"{player}_loss")(x), expected, msg=lambda m, p=player: f"{p}: {m}")


def test_whose_gradients_they_are(build: Build) -> None:
    """What each descends along reaches no player whose turn it is not, but by way of what it looks through."""
    method, data, _ = build(ROW["vae_gan"])
    x = first(data).x
    assert moved_by(method, method.discriminator_loss(x)) == {"discriminator"}
    assert moved_by(method, method.generator_loss(x)) == {
        "generator",
        "discriminator",
    }  # of which the generator alone steps
    method.discriminator.head.weight.data.fill_(float("nan"))  # the score
    assert torch.isfinite(method.encoder_loss(x))  # the encoder is not judged by it
    assert not torch.isfinite(method.generator_loss(x))


# Conditional VAE


def test_classes_stand_beside_codes_and_images() -> None:
    h, y = torch.randn(2, 3), torch.tensor([2, 0])
    network = ConditionalPerceptron(3, 4, outputs=5, num_params=2, hidden=[6])
    beside = torch.cat([h, torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]])], 1)
    torch.testing.assert_close(network(h, y), network.layers(beside))
    assert network(h, y).shape == (2, 10)
    assert ConditionalEncoder(nn.Flatten(), 12, 5, 4)(torch.randn(2, 3, 2, 2), y).shape == (2, 10)
    image = lambda dim: nn.Sequential(nn.Linear(dim, 4), nn.Unflatten(1, (1, 2, 2)))
    assert ConditionalDecoder(image, 3, 4)(h, y).shape == (2, 1, 2, 2)


def test_a_conditional_vae_bounds_the_image_given_its_class(build: Build) -> None:
    method, data, _ = build(ROW["conditional_vae"], "model.kl.beta=3")
    batch = first(data)
    mu, log_var = method.encoder(batch.x, batch.y).chunk(2, 1)
    seed_noise(1)
    z = mu + (log_var / 2).exp() * torch.randn_like(mu)
    pixels = -binary_cross_entropy_with_logits(method.decoder(z, batch.y), (batch.x + 1) / 2, reduction="none")
    kl = kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0, 1)).sum(1).mean()
    seed_noise(1)
    loss = method.loss(batch)
    torch.testing.assert_close(loss, 3 * kl - pixels.flatten(1).sum(1).mean())
    assert recorded(method)["negative_elbo"] == pytest.approx(float(kl - pixels.flatten(1).sum(1).mean()), rel=1e-5)
    with torch.no_grad():  # both read the class
        assert not torch.allclose(method.encoder(batch.x, batch.y), method.encoder(batch.x, 1 - batch.y))
        assert not torch.allclose(method.decoder(z, batch.y), method.decoder(z, 1 - batch.y))


def test_the_picture_of_classes_has_a_row_a_class(build: Build) -> None:
    method, data, _ = build(ROW["conditional_vae"])
    method.eval()
    asked = []
    sample = method.sample_class
    method.sample_class = lambda y: asked.append(y) or sample(y)
    page = draw_images(method, first(data))["classes"]
    assert torch.equal(asked[-1], torch.tensor([0] * 10 + [1] * 10)) and page.width > 10 * 64 and page.height > 2 * 64


@pytest.mark.parametrize("y", [[-1] * 8, [0] * 7 + [-1], [[0, 1]] * 8])
def test_images_without_a_class_are_refused(build: Build, y: Any) -> None:
    method, data, _ = build(ROW["conditional_vae"])
    with pytest.raises(UserError, match=r"learns from (images that have )?one class"):
        method.training_step(Images(first(data).x, torch.tensor(y)), 0)


@pytest.mark.parametrize("model", ["conditional_vae", "semi_supervised_vae"])
def test_data_without_classes_are_refused(build: Build, model: str) -> None:
    with pytest.raises(Exception, match=r"this data has none: put its images into a folder for each class"):
        build(ROW[model], "data.classes=null")


# M1+M2


class Known(nn.Module):
    """p(z|y) = N(centre_y, 0.5^2 I) whatever the style, which q leaves at its prior."""

    centres = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]])

    def forward(self, s: Tensor, y: Tensor) -> Tensor:
        return torch.cat([self.centres[y], torch.full((len(y), 2), 2 * math.log(0.5))], 1)


def known(classifier: Callable[[Tensor], Tensor]) -> M2:
    part = nn.Module()
    part.forward = classifier  # type: ignore[method-assign]
    at_prior = nn.Module()
    at_prior.forward = lambda z, y: torch.zeros(len(z), 8)  # type: ignore[method-assign]
    return M2(part, at_prior, Known(), style_dim=4, classes=3)


def test_the_bounds_of_m2_are_exact_at_the_true_posterior_and_below_it_elsewhere() -> None:
    parts = Independent(Normal(Known.centres, 0.5), 1)
    mixture = MixtureSameFamily(Categorical(torch.full((3,), 1 / 3)), parts)
    z = mixture.sample((50,))
    joint = parts.log_prob(z[:, None]) - math.log(3)  # log p(z, y), (50, 3)
    exact, flat = known(lambda z: parts.log_prob(z[:, None])), known(lambda z: torch.zeros(len(z), 3))
    for y in range(3):
        torch.testing.assert_close(exact.bound(z, torch.full((50,), y)), joint[:, y])
    torch.testing.assert_close(exact.log_prob(z), mixture.log_prob(z))
    assert (flat.log_prob(z) < mixture.log_prob(z) - 1e-3).all()
    torch.testing.assert_close(flat.log_prob(z), joint.mean(1) + math.log(3))  # entropy of a third each
    torch.testing.assert_close(exact.log_prob(z.view(5, 10, 2)), mixture.log_prob(z).view(5, 10))
    drawn = exact.sample_class(torch.tensor([1]).repeat(4000))
    torch.testing.assert_close(drawn.mean(0), Known.centres[1], atol=0.05, rtol=0)
    torch.testing.assert_close(exact.sample(6000).mean(0), Known.centres.mean(0), atol=0.1, rtol=0)


def test_the_style_is_paid_for() -> None:
    m2 = known(lambda z: torch.zeros(len(z), 3))
    mu, log_var = torch.randn(2, 4)
    m2.inference.forward = lambda z, y: torch.cat([mu, log_var]).expand(len(z), 8)  # type: ignore[method-assign]
    z, y = torch.zeros(1, 2), torch.tensor([1])
    style = kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0, 1)).sum()
    expected = Normal(Known.centres[1], 0.5).log_prob(z[0]).sum() - math.log(3) - style
    torch.testing.assert_close(m2.bound(z, y)[0], expected)


def second(build: Build, y: list[int], *overrides: str) -> tuple[Any, Images, Tensor]:
    """A method beyond its first stage, a batch with those labels, and its loss."""
    method, data, _ = build(ROW["semi_supervised_vae"], *overrides)
    method.progress = 0.9
    batch = Images(first(data).x, torch.tensor(y))
    seed_noise(1)
    return method, batch, method.training_step(batch, 0)


def test_the_second_stage_written_out(build: Build) -> None:
    words = ["model.alpha=3", "model.labelled_weight=0.25"]
    method, batch, loss = second(build, [0, -1, 1, -1, -1, -1, 1, -1], *words)
    seed_noise(1)
    z = method.sample_posterior(batch.x).detach()
    labelled, others = torch.tensor([0, 2, 6]), torch.tensor([1, 3, 4, 5, 7])
    y = torch.tensor([0, 1, 1])
    of_labelled = -method.prior.bound(z[labelled], y).mean()
    of_others = -method.prior.log_prob(z[others]).mean()
    classification = cross_entropy(method.prior.classifier(z[labelled]), y)
    torch.testing.assert_close(loss, 0.25 * of_labelled + 0.75 * of_others + 3 * classification)


@pytest.mark.parametrize("y", [[-1] * 8, [0, 1] * 4])
def test_batches_with_no_labels_or_with_nothing_else_have_a_finite_loss(build: Build, y: list[int]) -> None:
    method, _, loss = second(build, y)
    names = [name for recorded in method.recorded for name in recorded]
    absent = {"train/labelled_loss", "train/cross_entropy"} if y[0] < 0 else {"train/unlabelled_loss"}
    assert not absent & set(names) and len(names) == 3 - len(absent)
    assert torch.isfinite(loss) and moved_by(method, loss) == {"prior"}


def test_each_stage_moves_its_own_part(build: Build) -> None:
    method, data, _ = build(ROW["semi_supervised_vae"], "model.pretraining=0.4")
    batch = first(data)
    for progress, moves in [(0.39, {"encoder", "decoder"}), (0.4, {"prior"})]:
        method.progress = progress
        assert moved_by(method, method.training_step(batch, 0)) == moves


def test_the_first_stage_leaves_the_labelled_images_out_as_they_come_too_often(build: Build) -> None:
    method, data, _ = build(ROW["semi_supervised_vae"])
    x = first(data).x
    seen = []
    method.first_loss = lambda x: seen.append(x) or x.sum()
    method.progress = 0.1
    method.training_step(Images(x, torch.tensor([-1, 0] * 4)), 0)
    method.training_step(Images(x, torch.tensor([0, 1] * 4)), 0)  # unless there are no others
    assert torch.equal(seen[0], x[::2]) and torch.equal(seen[1], x)


def test_no_label_at_all_is_refused(build: Build) -> None:
    method, _, _ = second(build, [-1] * 8)
    with pytest.raises(UserError, match="no training image has one"):
        method.on_train_epoch_end()
    fine, _, _ = second(build, [-1] * 7 + [0])
    fine.on_train_epoch_end()
    with pytest.raises(UserError, match="one class an image"):
        fine.training_step(Images(torch.zeros(2, 1, 16, 16), torch.zeros(2, 3)), 0)


@pytest.mark.parametrize("word", ["model.pretraining=1.0", "model.alpha=-1", "model.labelled_weight=2.0"])
def test_shares_that_are_none_are_refused(build: Build, word: str) -> None:
    with pytest.raises(Exception, match=r"pretraining=.* is a share between 0 and 1"):
        build(ROW["semi_supervised_vae"], word)


def test_the_bound_of_the_stack_is_that_of_its_own_prior(build: Build) -> None:
    method, data, _ = build(ROW["semi_supervised_vae"])
    x = first(data).x
    seed_noise(1)
    _, kl = method.elbo_terms(x)
    seed_noise(1)
    drawn = method.posterior.draw(method.encoder(x))
    torch.testing.assert_close(kl, drawn.log_q - method.prior.log_prob(drawn.z))
    torch.testing.assert_close(method.classify_codes(method.encode(x)), method.classify(x))
    before = copy.deepcopy(method.state_dict())
    method.validation_step(first(data), 0)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), method.state_dict().values(), strict=True))
