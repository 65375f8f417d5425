"""GANs that read classes, answer questions or infer codes: against published equations and cases solved by hand."""

import math
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from lightning import Callback
from torch import Tensor, nn
from torch.nn.functional import softplus

from tests.contract.cases import CASES
from tests.contract.test_contract import run
from unlabeled.batches import Images
from unlabeled.capabilities import SamplesClasses
from unlabeled.errors import UserError
from unlabeled.evaluation.figures.drawing import draw_images
from unlabeled.losses import penalty
from unlabeled.losses.mutual_information import Codes
from unlabeled.nn.gan import dcgan
from unlabeled.nn.gan.conditional_dcgan import Discriminator as ConditionalDiscriminator
from unlabeled.nn.gan.conditional_dcgan import ProductGenerator
from unlabeled.nn.gan.discriminators import AuxiliaryDiscriminator, scores_and_answers
from unlabeled.nn.gan.projection import ClassBatchNorm2d, ClassGenerator, ProjectionDiscriminator
from unlabeled.nn.layers.labels import Labels, PartialLabels

ROWS = {case.model: case for case in CASES}


def first(data: Any) -> Any:
    return next(iter(data.loader("train")))


# --- Labels


def test_labels_are_one_hot_and_drawn_uniformly() -> None:
    labels = Labels("it", 4)
    assert labels.one_hot(labels(torch.tensor([2, 0]))).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    torch.manual_seed(0)
    drawn = labels.one_hot(labels.pick(4000))
    assert drawn.sum(1).eq(1).all() and (drawn.mean(0) - 0.25).abs().max() < 0.03


def test_an_image_without_a_label_is_refused_on_the_first_batch_and_later_at_the_epochs_end() -> None:
    labels = Labels("it", 2)
    with pytest.raises(UserError, match="here have none"):
        labels(torch.tensor([0, -1]))
    labels = Labels("it", 2)
    labels(torch.tensor([0, 1]))
    labels.check()
    labels(torch.tensor([0, -1]))  # waits for nothing
    with pytest.raises(UserError, match="here have none"):
        labels.check()
    with pytest.raises(UserError, match="attributes"):
        labels(torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("elsewhere", [0, 3])
def test_labels_of_all_processes_count(monkeypatch: pytest.MonkeyPatch, elsewhere: int) -> None:
    """No process raises alone, and then leaves the others waiting for it."""
    monkeypatch.setattr("unlabeled.nn.layers.ranks.is_initialized", lambda: True)
    monkeypatch.setattr("unlabeled.nn.layers.ranks.all_reduce", lambda value: value.add_(elsewhere))
    labels, partial = Labels("it", 2), PartialLabels("it", 2)
    partial.known(torch.tensor([-1, -1]))
    if elsewhere:
        partial.check()
        with pytest.raises(UserError, match="here have none"):
            labels(torch.tensor([0, 1]))
    else:
        labels(torch.tensor([0, 1]))
        with pytest.raises(UserError, match="no training image has one"):
            partial.check()
    assert labels.unknown == partial.labelled == 0  # sums are not kept


@pytest.mark.parametrize("case", [case for case in CASES if SamplesClasses in case.can], ids=str)
def test_only_classes_of_training_images_are_drawn(case: Any, build: Any) -> None:
    method, _, _ = build(case, "data.class_subset=1")
    method.eval()
    assert method.classes == 2 and method.labels.seen.tolist() == [1]
    torch.manual_seed(0)
    drawn = method.sample(16)
    torch.manual_seed(0)
    asked = method.labels.pick(16)
    assert asked.tolist() == [1] * 16
    torch.testing.assert_close(drawn, method.sample_class(asked))
    named = SimpleNamespace(class_names=("dark", "bright"))
    assert draw_images(method, first(build(case)[1]), named)["classes"].height < 100  # a row
    fresh, _, _ = build(case)
    assert fresh.labels.seen.tolist() == [0, 1]
    state = method.state_dict()
    fresh.load_state_dict(state)
    assert fresh.labels.seen.tolist() == [1]
    fresh.labels.restrict(torch.tensor([0, 1]))
    fresh.load_state_dict({name: value for name, value in state.items() if name != "labels.present"})  # an older one
    assert fresh.labels.seen.tolist() == [0, 1]


def test_an_image_without_a_label_may_be_of_any_mode_with_training_images(build: Any) -> None:
    method, _, _ = build(ROWS["supervised_adversarial_autoencoder"], "data.class_subset=1")
    wanted = method.prior_codes(torch.full((200,), -1))
    nearest = torch.cdist(wanted[:, :2], method.prior.centres[:, :2]).argmin(1)
    assert nearest.float().mean() > 0.9


WITH_LABELS = ["acgan", "conditional_gan", "projection_gan"]


@pytest.mark.parametrize("model", WITH_LABELS)
def test_what_has_no_classes_is_refused(model: str, build: Any) -> None:
    for word, line in (("data.classes=null", "a folder for each class"), ("model.discriminator_steps=0", "at least 1")):
        with pytest.raises(InstantiationException) as caught:
            build(ROWS[model], *word.split())
        assert isinstance(caught.value.__cause__, UserError) and line in str(caught.value.__cause__)
    with pytest.raises(UserError, match="here have none") as refused:
        run(build(ROWS[model], "data.source.unlabelled=4", "budget.epochs=1"))
    assert "\n" not in str(refused.value)


# --- Conditional and projection GAN


class Classes(Callback):
    """The classes given to each forward of discriminator and generator: (images, classes (B,)) of a run."""

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.judged: list[tuple[Tensor, list[int]]] = []
        self.drawn: list[list[int]] = []
        method.discriminator.register_forward_pre_hook(lambda _, a: self.judged.append((a[0], a[1].argmax(1).tolist())))
        method.generator.register_forward_pre_hook(lambda _, a: self.drawn.append(a[1].argmax(1).tolist()))

    def on_train_batch_start(self, trainer: Any, method: Any, batch: Any, batch_idx: int) -> None:
        self.batch = batch


def test_fakes_are_judged_by_the_classes_that_they_were_drawn_for(build: Any) -> None:
    """Real images by their own; fakes by fresh ones, the same in both turns."""
    eyes = Classes()
    run(build(ROWS["conditional_gan"], "budget.batches=1", "data.source.n=64", "data.batch_size=32"), watch=eyes)
    (real, y), (fake, drawn), (again, redrawn) = eyes.judged[:3]
    assert torch.equal(real, eyes.batch.x) and y == eyes.batch.y.tolist()
    assert drawn == redrawn == eyes.drawn[0] and torch.equal(fake, again.detach())
    assert drawn != y and set(drawn) == {0, 1}


def test_a_penalty_sees_the_discriminator_with_the_classes_of_real_images(build: Any) -> None:
    """D(x, y) = s_y x_1, whose slope is s_y: R1 is weight / 2 times the mean of s_y^2 over real classes."""

    class Slopes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slopes = nn.Parameter(torch.tensor([1.0, 3.0]))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (y @ self.slopes) * x.flatten(1)[:, 0]

    method, data, _ = build(ROWS["conditional_gan"], "model.discriminator.batch_norm=false", "penalty=r1")
    method.discriminator = Slopes()
    method.penalty = penalty.R1(2.0)
    batch = first(data)
    zeros = torch.zeros(8, dtype=torch.int64)
    y, drawn = method.labels.one_hot(batch.y), method.labels.one_hot(zeros)
    method.discriminator_loss(batch.x, batch.x, y, drawn)
    expected = (1 + 8 * (batch.y == 1).float()).mean()
    torch.testing.assert_close(method.recorded[-1]["train/penalty"], expected)


def test_an_embedding_times_the_code_is_drawn() -> None:
    torch.manual_seed(0)
    generator = ProductGenerator(5, 3, (1, 8, 8), 2).eval()
    z, one_hot = torch.randn(4, 5), torch.eye(3)
    rows = generator.embedding.weight.T
    for c in range(3):
        torch.testing.assert_close(generator(z, one_hot[[c] * 4]), generator.image(z * rows[c]))
    between = (one_hot[:1] + one_hot[2:]).expand(4, -1) / 2
    torch.testing.assert_close(generator(z, between), generator.image(z * (rows[0] + rows[2]) / 2))


def test_one_pass_of_a_conditional_discriminator_gives_what_two_give(build: Any) -> None:
    method, data, _ = build(ROWS["conditional_gan"], "model.discriminator.batch_norm=false")
    x, y = first(data).x, method.labels.one_hot(method.labels.pick(8))
    fake, drawn = -x, 1 - y
    assert not method.separate_batches
    two = method.discriminator(x, y), method.discriminator(fake, drawn)
    for score, expected in zip(method.scores(x, fake, y, drawn), two, strict=True):
        torch.testing.assert_close(score, expected)
    assert not torch.allclose(method.discriminator(x, y), method.discriminator(x, drawn))


def test_a_code_is_a_class_and_noise(build: Any) -> None:
    method, _, _ = build(ROWS["conditional_gan"])
    method.eval()
    torch.manual_seed(0)
    codes = method.sample_prior(500)
    assert codes.shape == (500, 2 + method.latent_dim)
    assert codes[:, :2].sum(1).eq(1).all() and abs(float(codes[:, 0].mean()) - 0.5) < 0.08
    torch.manual_seed(1)
    ones = method.sample_class(torch.ones(3, dtype=torch.int64))
    torch.manual_seed(1)
    z = torch.randn(3, method.latent_dim)
    torch.testing.assert_close(ones, method.generator(z, torch.tensor([[0.0, 1.0]]).expand(3, 2)))


def test_a_class_stands_beside_the_image_as_planes() -> None:
    discriminator = ConditionalDiscriminator((1, 16, 16), 3, embedding=5, width=4, batch_norm=False)
    x, y = torch.randn(2, 1, 16, 16), torch.eye(3)[:2]
    planes = discriminator.embedding.weight.T[:2, :, None, None].expand(2, 5, 16, 16)
    torch.testing.assert_close(discriminator(x, y), discriminator.image(torch.cat([x, planes], 1)))


def test_batch_norm_of_a_class_is_batch_norm_scaled_by_the_class() -> None:
    norm = ClassBatchNorm2d(2, 3)
    nn.init.normal_(norm.scale.weight), nn.init.normal_(norm.shift.weight)
    x, y = torch.randn(6, 2, 4, 4) * 3 + 1, torch.tensor([0, 1, 2, 0, 1, 2])
    found = norm(x, torch.eye(3)[y])
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    for i, c in enumerate(y.tolist()):
        scale, shift = norm.scale.weight[:, c], norm.shift.weight[:, c]
        torch.testing.assert_close(found[i], plain[i] * scale[:, None, None] + shift[:, None, None])


def projecting() -> ProjectionDiscriminator:
    torch.manual_seed(0)
    return ProjectionDiscriminator((1, 16, 16), 3, width=4)


def test_a_projection_discriminator_is_equation_3() -> None:
    """y^T V phi(x) + psi(phi(x)): the score of one class minus another's is their rows' difference along phi."""
    discriminator: Any = projecting().eval()
    x = torch.randn(4, 1, 16, 16)
    phi = discriminator.body[:-1](x).sum((2, 3))
    psi = phi @ discriminator.head.weight[0] + discriminator.head.bias
    for c in range(3):
        found = discriminator(x, torch.eye(3)[c].expand(4, 3))
        torch.testing.assert_close(found, phi @ discriminator.embedding.weight[c] + psi)


def test_every_weight_of_a_projection_discriminator_has_spectral_norm_1_and_evaluation_leaves_it() -> None:
    discriminator = projecting()
    x, y = torch.randn(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    with torch.no_grad():
        for _ in range(50):
            discriminator(x, y)
    weights = [m.weight for m in discriminator.eval().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weights) > 8
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.03)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    discriminator(x, y)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    with torch.no_grad():
        discriminator.train()(x, y)
    assert not all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 20), (2, 48, 40)])
def test_projection_networks_fit_any_size(shape: tuple[int, int, int]) -> None:
    y = torch.eye(5)[:3]
    image = ClassGenerator(6, 5, shape, width=2)(torch.randn(3, 6), y)
    assert image.shape == (3, *shape) and image.abs().max() <= 1
    assert ProjectionDiscriminator(shape, 5, width=2)(image, y).shape == (3,)


# --- Discriminators that answer


class Saying(nn.Module):
    """A discriminator of known scores and answers: the first pixel, and as many as `outputs` after it, times `sure`."""

    def __init__(self, outputs: int, sure: float = 1.0):
        super().__init__()
        self.outputs = outputs
        self.sure = nn.Parameter(torch.tensor(sure))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.flatten(1)
        return pixels[:, 0], self.sure * pixels[:, 1 : 1 + self.outputs]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_scores_and_answers_are_of_the_same_features(batch_norm: bool) -> None:
    torch.manual_seed(0)
    discriminator: Any = AuxiliaryDiscriminator(
        dcgan.Discriminator((2, 13, 20), 4, batch_norm), (2, 13, 20), 5, hidden=[7]
    )
    assert discriminator.body.training
    real, fake = torch.randn(4, 2, 13, 20), torch.randn(3, 2, 13, 20) + 1
    said = scores_and_answers(discriminator, real, fake, separate_batches=batch_norm)
    for x, (score, answer) in zip((real, fake), said, strict=True):
        assert score.shape == (len(x),) and answer.shape == (len(x), 5)
        torch.testing.assert_close(score, discriminator.body(x))
        torch.testing.assert_close(answer, discriminator.answer(discriminator.body.features(x)))


# --- ACGAN


@pytest.mark.parametrize("fakes", [1.0, 0.0])
def test_acgan_losses_are_equations_2_and_3(fakes: float, build: Any) -> None:
    """D falls along -(L_S + w L_C), of fakes too or not; G along its part of L_S minus w L_C, of its own."""
    method, data, _ = build(ROWS["acgan"], "model.weight=0.7", f"model.fake_class_weight={fakes}")
    method.discriminator, method.separate_batches = Saying(2), False
    x, y = first(data).x, torch.tensor([0, 1] * 4)
    fake, drawn = x.flip(0) * 0.5, torch.tensor([1, 1, 0, 0] * 2)

    def log_p(x: Tensor, y: Tensor) -> Tensor:
        a = x.flatten(1)[:, 1:3].double().exp()
        return (a[range(8), y.tolist()] / a.sum(1)).log().mean()

    score_real, score_fake = (v.flatten(1)[:, 0].double() for v in (x, fake))
    l_s = score_real.sigmoid().log().mean() + (1 - score_fake.sigmoid()).log().mean()
    l_c = log_p(x, y) + fakes * log_p(fake, drawn)
    torch.testing.assert_close(
        method.discriminator_loss(x, fake, y, drawn).double(), -(l_s + 0.7 * l_c), rtol=1e-5, atol=1e-5
    )
    wanted = -score_fake.sigmoid().log().mean() - 0.7 * log_p(fake, drawn)
    torch.testing.assert_close(method.generator_loss(x, fake, drawn).double(), wanted, rtol=1e-5, atol=1e-5)


class Turns(Callback):
    """What every loss is called with, and the codes that the generator reads."""

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.discriminator: list[tuple[Tensor, ...]] = []
        self.generator: list[tuple[Tensor, ...]] = []
        self.codes: list[Tensor] = []
        for name in ("discriminator", "generator"):
            setattr(method, f"{name}_loss", self.watched(getattr(method, f"{name}_loss"), getattr(self, name)))
        method.generator.register_forward_pre_hook(lambda _, a: self.codes.append(torch.cat(a, 1)))

    def watched(self, loss: Any, seen: list[tuple[Tensor, ...]]) -> Any:
        def call(*args: Tensor) -> Tensor:
            seen.append(args)
            return loss(*args)

        return call

    def on_train_batch_start(self, trainer: Any, method: Any, batch: Any, batch_idx: int) -> None:
        self.batch = batch


def test_acgan_names_fakes_by_the_classes_that_they_were_drawn_for(build: Any) -> None:
    seen = Turns()
    run(build(ROWS["acgan"], "budget.batches=1", "data.source.n=64", "data.batch_size=32"), watch=seen)
    (real, fake, y, drawn), (_, again, redrawn) = seen.discriminator[0], seen.generator[0]
    assert torch.equal(real, seen.batch.x) and torch.equal(y, seen.batch.y)
    assert torch.equal(drawn, redrawn) and torch.equal(drawn, seen.codes[0][:, -2:].argmax(1))
    assert not torch.equal(drawn, y) and not fake.requires_grad and again.requires_grad


@pytest.mark.parametrize(("hidden", "rows"), [(0, 8), (5, 3), (8, 0)])
def test_acgans_accuracy_is_of_images_with_a_class(hidden: int, rows: int, build: Any) -> None:
    method, *_ = build(ROWS["acgan"])
    method.eval()
    x = torch.randn(8, 1, 16, 16)
    y = method.classify(x).argmax(1)
    y[-1] = 1 - y[-1]  # one is wrong
    method.validation_step(Images(x, torch.where(torch.arange(8) < hidden, -1, y)), 0)
    (recorded,) = method.recorded
    assert int(recorded.rows) == rows
    assert not rows or float(recorded["val/accuracy"]) == pytest.approx((rows - 1) / rows)


# --- InfoGAN


def channel() -> tuple[Tensor, Tensor, Tensor]:
    """A code of three values sent through P(x|c), in tenths; rows that hold exactly that distribution: c, x (30,)."""
    p = torch.tensor([[6, 2, 1, 1], [0, 7, 3, 0], [2, 2, 2, 4]])
    rows = [(c, x) for c, x in product(range(3), range(4)) for _ in range(int(p[c, x]))]
    c, x = torch.tensor(rows).T
    return p.double() / 30, c, x


def test_the_bound_is_the_mutual_information_where_q_is_the_posterior_and_less_elsewhere() -> None:
    joint, c, x = channel()
    exact = float((joint * (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).clamp(min=1e-300).log()).sum())
    codes, one_hot = Codes([3], numbers=0), torch.eye(3)[c]
    q = (joint / joint.sum(0)).T[x].float().clamp(min=1e-30).log()  # log P(c|x)
    found, nothing = codes.bound(one_hot, q)
    assert float(found) == pytest.approx(exact, abs=1e-6) and 0.2 < exact < math.log(3) and float(nothing) == 0
    noise = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    assert float(codes.bound(one_hot, q + 0.3 * noise)[0]) < exact
    assert float(codes.bound(one_hot, torch.zeros(30, 3))[0]) == pytest.approx(0, abs=1e-6)  # it knows nothing


def test_two_categories_told_exactly_hold_the_sum_of_their_entropies() -> None:
    codes = Codes([3, 5], numbers=0)
    torch.manual_seed(0)
    c = codes.draw(100)
    assert c.shape == (100, 8) and c[:, :3].sum(1).eq(1).all() and c[:, 3:].sum(1).eq(1).all()
    assert float(codes.bound(c, 100 * c)[0]) == pytest.approx(math.log(3) + math.log(5), abs=1e-5)
    torch.testing.assert_close(codes.mean(100 * c), c)


def test_the_bound_of_a_number_in_noise_is_the_analytic_one_and_below_the_mutual_information() -> None:
    """x = c + s e, Q(c|x) = N(x, s^2): L_I = log 2 - log(2 pi e s^2) / 2; I(c; x) = h(x) - h(s e), by integration."""
    s, n = 0.2, 400_000
    codes = Codes([2], numbers=1, min_std=0.1)
    torch.manual_seed(0)
    c = codes.draw(n)
    assert c[:, 2].min() >= -1 and c[:, 2].max() <= 1 and abs(float(c[:, 2].var()) - 1 / 3) < 0.01
    x = c[:, 2:] + s * torch.randn(n, 1)
    scale = torch.full((n, 1), math.log(math.expm1(s - 0.1)))
    found = float(codes.bound(c, torch.cat([torch.zeros(n, 2), x, scale], 1))[1])
    of_noise = 0.5 * math.log(2 * math.pi * math.e * s**2)
    assert found == pytest.approx(math.log(2) - of_noise, abs=0.01)
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    inside = torch.special.ndtr((grid + 1) / s) - torch.special.ndtr((grid - 1) / s)
    density = (inside / 2).clamp(min=1e-300)
    information = float(-torch.trapezoid(density * density.log(), grid)) - of_noise
    assert found < information < found + 0.2


def test_infogan_is_told_the_code_that_its_fakes_were_drawn_from(build: Any) -> None:
    """A generator that writes its code into pixels and a discriminator that reads them there: L_I = H(c)."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(()))

        def forward(self, z: Tensor) -> Tensor:
            image = torch.zeros(len(z), 256)
            image[:, 1 : 1 + z.shape[1]] = z
            return self.unused * image.view(-1, 1, 16, 16)

    method, data, config = build(ROWS["infogan"], "budget.batches=2", "model.discriminator_steps=2", "data.source.n=16")
    method.generator, method.discriminator, method.separate_batches = Writes(), Saying(14, 60.0), False
    recorded: dict[str, float] = {}
    method.record = lambda **values: recorded.update({name: float(v.detach()) for name, v in values.items()})
    run((method, data, config), limit_val_batches=0)
    for turn in ("discriminator", "generator"):
        assert recorded[f"{turn}_category_information"] == pytest.approx(math.log(10), abs=1e-3)


def test_infogans_losses_pay_for_information(build: Any) -> None:
    """Each turn's loss is the GAN's minus both lambdas times their parts of L_I."""
    method, data, _ = build(ROWS["infogan"], "model.category_weight=2.0", "model.number_weight=0.5")
    method.discriminator, method.separate_batches = Saying(14), False
    x, codes = first(data).x, method.sample_prior(8)
    c, fake = codes[:, :12], x.flip(0)
    named, told = method.codes.bound(c, fake.flatten(1)[:, 1:15])
    score_real, score_fake = x.flatten(1)[:, 0], fake.flatten(1)[:, 0]
    game = softplus(-score_real).mean() + softplus(score_fake).mean()
    torch.testing.assert_close(method.discriminator_loss(x, fake, c), game - 2 * named - 0.5 * told)
    torch.testing.assert_close(method.generator_loss(x, fake, c), softplus(-score_fake).mean() - 2 * named - 0.5 * told)


def test_an_image_is_in_the_cluster_that_q_finds_likeliest_and_its_code_decodes(build: Any) -> None:
    method, data, _ = build(ROWS["infogan"])
    method.eval()
    x = first(data).x
    code = method.encode(x)
    assert torch.equal(method.assign(x), code[:, :10].argmax(1)) and method.clusters == 10
    torch.testing.assert_close(code[:, :10].sum(1), torch.ones(8))
    assert code.shape == (8, method.latent_dim) and code[:, 12:].abs().max() == 0 and code.abs().max() <= 1
    pictures = method.figures(x)
    assert set(pictures) == {"categories", "number_0", "number_1"} and len(pictures["categories"][0]) == 80


def test_traversals_move_one_thing_at_a_time(build: Any) -> None:
    method, data, _ = build(ROWS["infogan"])
    seen: list[Tensor] = []
    method.generator.register_forward_pre_hook(lambda _, z: seen.append(z[0].clone()))
    method.eval().figures(first(data).x)
    rows = seen[0].unflatten(0, (10, 8))  # of categories
    assert torch.equal(rows[:, 0, :10], torch.eye(10)) and torch.equal(rows[0, :, 10:], rows[5, :, 10:])
    for i, codes in enumerate(seen[1:]):
        row = codes.unflatten(0, (10, 8))[3]
        torch.testing.assert_close(row[:, 10 + i], torch.linspace(-2, 2, 8))
        others = [d for d in range(method.latent_dim) if d != 10 + i]
        assert torch.equal(row[:1, others].expand(8, -1), row[:, others])


@pytest.mark.parametrize(
    ("model", "word", "line"),
    [
        ("infogan", "model.latent_dim=12", "more than the 12 of c"),
        ("infogan", "model.codes.categories=[1]", "2 values or more"),
        ("infogan", "model.codes.min_std=0", "above 0"),
        ("infogan", "model.number_weight=-1", "0 or more"),
        ("infogan", "model.discriminator_steps=0", "at least 1"),
        ("acgan", "model.weight=-1", "negative"),
        ("acgan", "model.fake_class_weight=-1", "negative"),
        ("acgan", "penalty=r1", "batch norm"),
        ("bigan", "model.discriminator_steps=0", "at least 1"),
        ("ssgan", "model.shape=[1,16,20]", "rotates images"),
        ("ssgan", "model.discriminator_weight=-1", "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(model: str, word: str, line: str, build: Any) -> None:
    with pytest.raises(InstantiationException) as caught:
        build(ROWS[model], *word.split())
    assert isinstance(caught.value.__cause__, UserError) and line in str(caught.value.__cause__)


# --- BiGAN


class Pairs(nn.Module):
    """D(x, z) = a x_1 + b z_1."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor([a, b]))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.slopes[0] * x.flatten(1)[:, 0] + self.slopes[1] * z[:, 0]


def test_bigan_losses_are_of_pairs_with_roles_exchanged(build: Any) -> None:
    method, data, _ = build(ROWS["bigan"])
    method.discriminator, method.separate_batches = Pairs(1.0, 2.0), False
    x, z = first(data).x, method.sample_prior(8)
    fake, found = method.decode(z), method.encode(x)
    score_found, score_made = method.discriminator(x, found), method.discriminator(fake, z)
    discriminator = -score_found.sigmoid().log().mean() - (1 - score_made.sigmoid()).log().mean()
    both = -score_made.sigmoid().log().mean() - (1 - score_found.sigmoid()).log().mean()
    torch.testing.assert_close(method.discriminator_loss(x, fake.detach(), found.detach(), z), discriminator)
    loss = method.generator_loss(x, fake, found, z)
    torch.testing.assert_close(loss, both)
    loss.backward()
    for part in (method.generator, method.encoder):
        assert all(p.grad is not None for p in part.parameters())


def test_a_penalty_of_a_joint_discriminator_is_of_the_pairs_slope(build: Any) -> None:
    """|grad (a x_1 + b z_1)| = sqrt(a^2 + b^2)."""
    method, data, _ = build(ROWS["bigan"], "model.discriminator.body.batch_norm=false", "penalty=wgan_gp")
    method.discriminator = Pairs(3.0, 4.0)
    x, z = first(data).x, method.sample_prior(8)
    method.discriminator_loss(x, x.flip(0), z.flip(0), z)
    assert float(method.recorded[-1]["train/penalty"]) == pytest.approx(10 * (5 - 1) ** 2, rel=1e-5)


def test_bigans_turns_judge_codes_that_were_found_and_images_that_were_made(build: Any) -> None:
    seen = Turns()
    method = run(
        build(ROWS["bigan"], "budget.batches=2", "model.discriminator_steps=2", "data.source.n=16"), watch=seen
    )
    assert len(seen.discriminator) == 2 and len(seen.generator) == 1
    assert not any(part.requires_grad for parts in seen.discriminator for part in parts)
    x, fake, found, z = seen.generator[0]
    assert torch.equal(x, seen.batch.x) and torch.equal(z, seen.codes[1]) and fake.requires_grad and found.requires_grad
    assert found.shape == z.shape == (8, method.latent_dim)
    assert torch.equal(found.detach(), seen.discriminator[1][2]) and torch.equal(
        fake.detach(), seen.discriminator[1][1]
    )


# --- SSGAN


def test_ssgan_turns_a_quarter_of_the_batch_and_weighs_each_players_loss(build: Any) -> None:
    method, data, _ = build(ROWS["ssgan"], "model.generator_weight=0.3", "model.discriminator_weight=2.0")
    method.discriminator, method.separate_batches = Saying(4), False
    real = first(data).x
    fake = real.flip(0) * 0.5

    def lost(x: Tensor) -> Tensor:
        """-log Q(r | x^r) of two of eight images, in all four turns."""
        told = [(torch.rot90(image, r, (1, 2)).flatten()[1:5].double(), r) for image in x[:2] for r in range(4)]
        return -torch.stack([(a.exp() / a.exp().sum()).log()[r] for a, r in told]).mean()

    score_real, score_fake = (v.flatten(1)[:, 0].double() for v in (real, fake))
    hinge = (1 - score_real).clamp(min=0).mean() + (1 + score_fake).clamp(min=0).mean()
    torch.testing.assert_close(
        method.discriminator_loss(real, fake).double(), hinge + 2 * lost(real), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        method.generator_loss(real, fake).double(), -score_fake.mean() + 0.3 * lost(fake), rtol=1e-5, atol=1e-5
    )


def test_ssgans_discriminator_has_spectral_norm_in_its_answer_too(build: Any) -> None:
    method, _, _ = build(ROWS["ssgan"])
    layers = [m for m in method.discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert method.discriminator.answer[-1] in layers and all(nn.utils.parametrize.is_parametrized(m) for m in layers)
