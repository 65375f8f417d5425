"""The game of generator and discriminator: objectives, penalties, and who sees what on whose turn."""

import itertools
import math
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from lightning import Callback
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tests.contract.cases import CASES
from tests.contract.test_contract import run
from unlabeled.errors import UserError
from unlabeled.losses import adversarial, penalty
from unlabeled.nn.layers.batch_statistics import freeze_batch_norm_stats, uses_batch_statistics

ROWS = {case.model: case for case in CASES}


# --- Objectives


def scores(n: int = 9) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, generator=g), torch.randn(n, generator=g) - 0.5


def log_d(score: Tensor) -> Tensor:
    return logsigmoid(score.double())


def test_minimax_is_one_value_for_both_players() -> None:
    """V = E log D(x) + E log(1 - D(G(z))): the discriminator raises what the generator lowers."""
    real, fake = scores()
    game = adversarial.Minimax()
    value = log_d(real).mean() + log_d(-fake).mean()
    torch.testing.assert_close(game.discriminator(real, fake).double(), -value)
    torch.testing.assert_close(game.generator(fake).double(), log_d(-fake).mean())


def test_minimax_saturates_where_non_saturating_does_not() -> None:
    slopes = []
    for game in (adversarial.Minimax(), adversarial.NonSaturating()):
        score = torch.tensor([-8.0], requires_grad=True)  # a fake that the discriminator is sure of
        game.generator(score).backward()
        assert score.grad is not None
        slopes.append(float(score.grad))
    assert -1e-3 < slopes[0] < 0 and slopes[1] == pytest.approx(-1, abs=1e-3)


def test_relativistic_losses_are_the_published_ones() -> None:
    real, fake = scores()
    average = adversarial.RelativisticAverage()
    discriminator = -log_d(real - fake.mean()).mean() - log_d(-(fake - real.mean())).mean()
    generator = -log_d(fake - real.mean()).mean() - log_d(-(real - fake.mean())).mean()
    torch.testing.assert_close(average.discriminator(real, fake).double(), discriminator)
    torch.testing.assert_close(average.discriminator(fake, real).double(), generator)
    pairing = adversarial.RelativisticPairing()
    torch.testing.assert_close(pairing.discriminator(real, fake).double(), -log_d(real - fake).mean())
    torch.testing.assert_close(pairing.discriminator(fake, real).double(), -log_d(fake - real).mean())
    with pytest.raises(UserError, match="model=relativistic_gan"):
        pairing.generator(fake)


ONE_SIDED = [adversarial.Minimax, adversarial.NonSaturating, adversarial.LeastSquares, adversarial.Wasserstein]
TWO_SIDED = [adversarial.RelativisticAverage, adversarial.RelativisticPairing]


@pytest.mark.parametrize("kind", [*ONE_SIDED, adversarial.Hinge, *TWO_SIDED], ids=lambda kind: kind.__name__)
def test_gradients_pull_scores_the_right_way(kind: Any) -> None:
    """The discriminator raises real scores and lowers fake ones; the generator raises fake ones."""
    game, (real, fake) = kind(), (torch.full((4,), 0.1, requires_grad=True) for _ in range(2))
    to_real, to_fake = torch.autograd.grad(game.discriminator(real, fake), [real, fake])
    assert (to_real < 0).all() and (to_fake > 0).all()
    loss = game.discriminator(fake, real) if kind in TWO_SIDED else game.generator(fake)
    (to_fake,) = torch.autograd.grad(loss, [fake])
    assert (to_fake < 0).all()


@pytest.mark.parametrize(("kind", "level"), [(adversarial.NonSaturating, 0.0), (adversarial.LeastSquares, 0.5)])
def test_the_best_discriminator_of_two_equal_distributions_knows_nothing(kind: Any, level: float) -> None:
    """p_data = p_g: the minimum is D = 1/2 everywhere; a logit of 0, or a score halfway between the two targets."""
    score = torch.full((5,), level, requires_grad=True)
    loss = kind().discriminator(score, score)
    (slope,) = torch.autograd.grad(loss, [score])
    score, loss = score.detach(), loss.detach()
    assert slope.abs().max() < 1e-6
    assert all(float(kind().discriminator(score + e, score + e)) > float(loss) for e in (-0.3, 0.3))
    if kind is adversarial.NonSaturating:
        assert float(loss) == pytest.approx(2 * math.log(2))  # Goodfellow et al. 2014, theorem 1


# --- Penalties, of discriminators whose slope is known


def linear(slope: float) -> Any:
    """D(x) = slope * x_1, whose gradient has that length everywhere."""
    return lambda x: slope * x.flatten(1)[:, 0]


def bowl(x: Tensor) -> Tensor:
    """D(x) = |x|^2 / 2, whose gradient is x."""
    return x.square().flatten(1).sum(1) / 2


REAL = torch.linspace(-1, 1, 5 * 12).view(5, 3, 2, 2)
FAKE = REAL.flip(0) * 0.5 + 0.1


@pytest.mark.parametrize(
    ("part", "slope", "expected"),
    [
        (penalty.GradientPenalty(10), 3.0, 40.0),
        (penalty.GradientPenalty(10), 0.5, 2.5),
        (penalty.OneSidedGradientPenalty(10), 3.0, 40.0),
        (penalty.OneSidedGradientPenalty(10), 0.5, 0.0),
        (penalty.Dragan(10), 3.0, 40.0),
        (penalty.R1(10), 3.0, 45.0),
        (penalty.R2(10), 3.0, 45.0),
        (penalty.R1AndR2(10), 3.0, 90.0),
        (penalty.NoPenalty(), 3.0, 0.0),
    ],
)
def test_penalties_of_a_linear_discriminator(part: Any, slope: float, expected: float) -> None:
    assert float(part(linear(slope), REAL, FAKE)) == pytest.approx(expected, rel=1e-5)


def test_zero_centred_penalties_look_where_they_say() -> None:
    at_real, at_fake = (x.square().flatten(1).sum(1).mean() for x in (REAL, FAKE))
    torch.testing.assert_close(penalty.R1(2)(bowl, REAL, FAKE), at_real)
    torch.testing.assert_close(penalty.R2(2)(bowl, REAL, FAKE), at_fake)
    torch.testing.assert_close(penalty.R1AndR2(2)(bowl, REAL, FAKE), at_real + at_fake)


def test_dragan_looks_near_real_images_only() -> None:
    seen: list[Tensor] = []

    def watching(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return bowl(x)

    penalty.Dragan(10, spread=0.5)(watching, REAL, FAKE + 100)
    away = seen[0] - REAL
    widest = 0.5 * REAL.flatten(1).std(1).view(-1, 1, 1, 1)
    assert (away <= widest).all() and away.min() >= 0 and away.std() > 0


@pytest.mark.parametrize("kind", [penalty.GradientPenalty, penalty.OneSidedGradientPenalty, penalty.Dragan])
def test_a_flat_discriminator_has_a_finite_gradient(kind: Any) -> None:
    weight = torch.zeros((), requires_grad=True)
    kind()(lambda x: weight * bowl(x), REAL, FAKE).backward()
    assert weight.grad is not None and weight.grad.isfinite()


def test_penalties_are_float32_under_autocast() -> None:
    """A slope of 300 squares past float16's range."""
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False), nn.Flatten(0))
    nn.init.constant_(discriminator[1].weight, 300)
    with torch.autocast("cpu", torch.float16):
        value = penalty.R1(2)(discriminator, REAL, FAKE)
    assert float(value) == pytest.approx(300**2 * 12, rel=1e-5)


# --- Turns


class Eyes(Callback):
    """What the discriminator is shown in each of its forward passes: (batch, how many images, with a graph or not)."""

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.passes: list[tuple[int, int, bool]] = []
        self.drawn: list[tuple[int, bool]] = []
        self.means: list[Tensor] = []
        method.discriminator.register_forward_pre_hook(
            lambda _, x: self.passes.append((method.batches, len(x[0]), x[0].requires_grad))
        )
        method.generator.register_forward_hook(self.draws)
        self.method = method

    def draws(self, generator: Any, z: Any, x: Tensor) -> None:
        if generator.training:  # pictures are drawn in evaluation
            self.drawn.append((self.method.batches, x.requires_grad))

    def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
        norms = [m for m in method.generator.modules() if isinstance(m, nn.BatchNorm2d)]
        self.means.append(torch.cat([m.running_mean.clone() for m in norms]))


@pytest.mark.parametrize("model", ["dcgan", "wgan"])
def test_one_forward_of_the_generator_serves_both_turns(model: str, build: Any) -> None:
    """One a batch, with a graph on the batches of its own turn only; the discriminator sees it detached first."""
    eyes, steps = Eyes(), 2
    run(build(ROWS[model], f"model.discriminator_steps={steps}", "budget.batches=4", "data.source.n=32"), watch=eyes)
    assert eyes.drawn == [(0, False), (1, True), (2, False), (3, True)]
    discriminator_turn = [(8, False), (8, False)] if model == "dcgan" else [(16, False)]  # apart through batch norm
    for batch in range(4):
        own = [(8, True)] if batch % 2 else []
        assert [(n, graph) for b, n, graph in eyes.passes if b == batch] == discriminator_turn + own


def test_the_generators_statistics_move_on_its_own_turn_only(build: Any) -> None:
    eyes = Eyes()
    run(build(ROWS["dcgan"], "model.discriminator_steps=3", "budget.batches=6", "data.source.n=48"), watch=eyes)
    before = [torch.zeros_like(eyes.means[0]), *eyes.means]
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(before)]
    assert moved == [False, False, True, False, False, True]


def test_no_gradient_of_the_discriminators_turn_reaches_the_generator(build: Any) -> None:
    method, data, _ = build(ROWS["dcgan"])
    x = next(iter(data.loader("train"))).x
    fake = method.sample(len(x))
    method.discriminator_loss(x, fake.detach()).backward()
    assert all(p.grad is None for p in method.generator.parameters())
    assert all(p.grad is not None for p in method.discriminator.parameters())


def test_one_pass_gives_what_two_give_where_images_do_not_see_each_other(build: Any) -> None:
    method, data, _ = build(ROWS["wgan_gp"])
    x = next(iter(data.loader("train"))).x
    fake = method.sample(len(x)).detach()
    assert not method.separate_batches
    together = method.scores(x, fake)
    for score, apart in zip(together, (method.discriminator(x), method.discriminator(fake)), strict=True):
        torch.testing.assert_close(score, apart)


def test_what_couples_is_seen() -> None:
    class Sees(nn.Module):
        uses_batch_statistics = True

    plain = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    assert not uses_batch_statistics(plain)
    assert uses_batch_statistics(nn.Sequential(plain, Sees())) and uses_batch_statistics(
        nn.Sequential(plain, nn.BatchNorm1d(2))
    )


def test_still_statistics_come_back_to_life() -> None:
    norm = nn.BatchNorm1d(2, momentum=0.3)
    x = torch.randn(8, 2) + 5
    with freeze_batch_norm_stats(norm):
        inside = norm(x)
    assert norm.running_mean is not None and norm.running_mean.abs().max() == 0
    torch.testing.assert_close(inside, norm(x))  # by the batch's own, either way
    torch.testing.assert_close(norm.running_mean, 0.3 * x.mean(0))


# --- Optimizers


def test_another_optimizer_is_one_word(build: Any) -> None:
    """And lists of its settings arrive as torch takes them, not as a config's."""
    method = build(ROWS["dcgan"], "optimizer@model.discriminator_optimizer=sgd")[0]
    generator, discriminator = method.configure_optimizers()
    assert isinstance(discriminator, torch.optim.SGD) and discriminator.defaults["nesterov"]
    assert isinstance(generator, torch.optim.Adam) and generator.defaults["betas"] == (0.5, 0.999)
    assert type(method.generator_optimizer.keywords["betas"]) is list


# --- Clipped weights


def test_every_weight_of_the_discriminator_is_clipped_after_its_step(build: Any, capsys: Any) -> None:
    method = run(build(ROWS["wgan"], "model.discriminator_optimizer.lr=0.1", "budget.batches=2"))
    assert max(float(p.abs().max()) for p in method.discriminator.parameters()) == pytest.approx(0.01)
    assert max(float(p.abs().max()) for p in method.generator.parameters()) > 0.02
    assert "clipped" not in capsys.readouterr().err
    run(build(ROWS["wgan"], "model.discriminator.batch_norm=true", "budget.batches=1"))
    assert "note: the critic's weights are clipped to 0.01, and its batch norm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "word", "line"),
    [
        ("wgan_gp", "model.discriminator.batch_norm=true", "batch norm"),
        ("dcgan", "penalty=r1", "batch norm"),
        ("dcgan", "model.discriminator_steps=0", "at least 1"),
        ("wgan", "model.clip_value=0", "positive"),
        ("lsgan", "augmentation=ada", "objective=non_saturating"),
        ("wgan_gp", "model.penalty.weight=-1", "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(model: str, word: str, line: str, build: Any) -> None:
    with pytest.raises(InstantiationException) as caught:
        build(ROWS[model], word)
    assert isinstance(caught.value.__cause__, UserError) and line in str(caught.value.__cause__)
