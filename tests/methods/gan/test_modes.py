"""Mode collapse: points of known mixtures, what is left out of them in numbers and pictures, and what helps."""

import copy
import json
import math
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tests.contract.cases import CASES
from tests.contract.test_contract import run
from unlabeled.app.run.build import build as built
from unlabeled.batches import Points
from unlabeled.capabilities import Scores
from unlabeled.data.sources.mixtures import Grid, Mixture, Ring
from unlabeled.errors import UserError
from unlabeled.evaluation.figures.points import EDGE, draw_points, in_the_plane, strip
from unlabeled.evaluation.metrics.modes import counted
from unlabeled.nn.gan import dcgan
from unlabeled.nn.gan import mlp as mlp_gan
from unlabeled.nn.layers.batch_statistics import uses_batch_statistics
from unlabeled.nn.layers.minibatch import MinibatchDiscrimination, MinibatchStandardDeviation
from unlabeled.optim.unrolling import check_unrolls, unrolled

ROWS = {case.model: case for case in CASES}
LINE = Mixture("line", [[-0.5], [0.25]], [0.1, 0.2], [1, 3])
SMALL = ["model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "data.train=600", "data.batch_size=50"]


# --- Data


@pytest.mark.parametrize(("name", "modes", "deviation"), [("rings", 8, 0.01), ("grid25", 25, 0.0125)])
def test_points_are_drawn_as_the_data_state(name: str, modes: int, deviation: float, resolve: Any) -> None:
    data, _ = built(resolve(f"data={name}", "model=gan", "data_root=unused"))
    table = data.table("train")
    batch = table.batch(torch.arange(len(table)))
    assert isinstance(batch, Points) and batch.x.shape == (100_000, 2) and data.classes == modes
    assert batch.y.unique().tolist() == list(range(modes))
    for mode, centre in enumerate(data.source.centres):
        own = batch.x[batch.y == mode]
        assert abs(len(own) / 100_000 - 1 / modes) < 0.01
        torch.testing.assert_close(own.mean(0), centre, atol=1e-3, rtol=0)
        assert own.std(0).sub(deviation).abs().max() < 0.05 * deviation


def test_centres_are_the_papers() -> None:
    """Metz et al. 2017: a circle of radius 2, deviation 0.02; PacGAN's grid: -4, -2, 0, 2, 4 and 0.05. Scaled."""
    ring, grid = Ring(), Grid()
    torch.testing.assert_close(ring.centres[1], torch.tensor([2.0, 2.0]).sqrt() / 2)
    torch.testing.assert_close(ring.centres.norm(dim=1), torch.ones(8))
    assert float(ring.deviation[0]) == pytest.approx(0.02 / 2)
    wanted = {(x / 4, y / 4) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(centre) for centre in grid.centres.tolist()} == wanted
    assert float(grid.deviation[0]) == pytest.approx(0.05 / 4)


@pytest.mark.parametrize("mixture", [LINE, Ring(), Grid()], ids=lambda mixture: mixture.name)
def test_the_density_is_the_mixtures(mixture: Mixture) -> None:
    parts = Normal(mixture.centres, mixture.deviation[:, None].expand_as(mixture.centres))
    truth = MixtureSameFamily(Categorical(mixture.weights), Independent(parts, 1))
    x, _ = mixture.draw(50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture.log_density(x), truth.log_prob(x), rtol=1e-4, atol=1e-4)


def test_a_split_is_one_draw_whatever_the_seed_of_training(resolve: Any) -> None:
    words = ["data=rings", "model=gan", "data_root=unused", "data.val=10000"]  # as many as test
    first, again, other = (built(resolve(*words, *more))[0] for more in ([], ["seed=5"], ["data.split_seed=1"]))
    assert torch.equal(first.table("val").x, again.table("val").x) and first.keys == again.keys
    assert not torch.equal(first.table("val").x, other.table("val").x)
    assert len({tuple(x) for split in ("train", "val", "test") for x in first.table(split).x.tolist()}) == 120_000


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model=vae", "data=rings"], "model=vae learns from Images and data=rings gives Points: take data="),
        (["model=gan", "data=plain2striped"], "learns from Images or Points and data=plain2striped gives Unpaired"),
        (["model=dcgan", "data=rings"], "network of images .* say network@model.generator=gan/mlp_generator"),
        (["model=gan", "data=rings", "data.shape=[3]"], "its points have 2 numbers each"),
        (["model=gan", "data=rings", "data.train=0"], "data.train takes a whole number, 1 or more"),
        (["model=gan", "data=rings", "data.source.modes=1"], "2 at least"),
        (["model=gan", "data=mixture_1d", "data.source.weights=[1,2]"], "3 modes has one weight"),
        (["model=minibatch_gan", "model.discriminator.minibatch.kernels=0"], "kernels takes a whole number, 1 or more"),
        (["model=unrolled_gan", "model.unrolled_steps=-1"], "0 or more"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(words: list[str], line: str, program: Any, tmp_path: Path) -> None:
    result = program("train", *words, f"data_root={tmp_path}")
    assert result.status == 1
    assert re.search(line, result.complaint)


# --- Networks


@pytest.mark.parametrize("shape", [(3, 7, 5), (2,), (1,)])
def test_the_same_networks_take_images_and_points(shape: tuple[int, ...]) -> None:
    generator, discriminator = mlp_gan.Generator(4, shape, [8]), mlp_gan.Discriminator(shape, [8], batch_norm=True)
    x = generator(1e4 * torch.randn(6, 4))
    assert x.shape == (6, *shape) and discriminator(x).shape == (6,)
    torch.testing.assert_close(discriminator.eval()(x), discriminator.score(discriminator.features(x)))
    assert (x.abs().max() <= 1) == (len(shape) == 3)  # an image has bounds, a point has none


def test_minibatch_discrimination_is_the_published_sum() -> None:
    torch.manual_seed(0)
    part = MinibatchDiscrimination((3, 2, 2), kernels=4, dims=5)
    f = torch.randn(6, 3, 2, 2)
    found = part(f)
    assert part.added == 4 and found.shape == (6, 7, 2, 2) and torch.equal(found[:, :3], f)
    m = (f.flatten(1) @ part.project.weight.T).view(6, 4, 5).detach()
    for i in range(6):
        for b in range(4):
            o = sum(math.exp(-float((m[i, b] - m[j, b]).abs().sum())) for j in range(6) if j != i)
            torch.testing.assert_close(found[i, 3 + b], torch.full((2, 2), o / 5))


def test_minibatch_standard_deviation_is_one_number_a_group() -> None:
    torch.manual_seed(0)
    f = torch.randn(8, 3, 2, 2)
    whole = MinibatchStandardDeviation((3, 2, 2))(f)[:, 3]
    torch.testing.assert_close(whole, f.std(0, correction=0).mean().expand(8, 2, 2))
    fours = MinibatchStandardDeviation((3, 2, 2), group=4)(f)[:, 3, 0, 0]
    a, b = (part.std(0, correction=0).mean() for part in (f[:4], f[4:]))
    torch.testing.assert_close(fours, torch.stack([a] * 4 + [b] * 4))
    same = f[:1].expand(8, -1, -1, -1).clone().requires_grad_()
    collapsed = MinibatchStandardDeviation((3, 2, 2))(same)[:, 3]
    collapsed.sum().backward()
    assert collapsed.max() < 1e-3 and same.grad is not None and same.grad.isfinite().all()


@pytest.mark.parametrize("part", [MinibatchDiscrimination, MinibatchStandardDeviation])
@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_a_discriminator_with_such_a_part_sees_its_batch_as_a_whole(part: Any, network: str) -> None:
    torch.manual_seed(0)
    kind: Any = mlp_gan.Discriminator if network == "mlp" else partial(dcgan.Discriminator, width=4, batch_norm=False)
    x = torch.randn(6, 1, 16, 16)
    alone, together = kind((1, 16, 16)), kind((1, 16, 16), minibatch=part)
    assert uses_batch_statistics(together) and not uses_batch_statistics(alone)
    torch.testing.assert_close(alone(x)[:3], alone(x[:3]), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(together(x)[:3], together(x[:3]), rtol=1e-4, atol=1e-6)


def test_a_network_of_the_command_line_brings_its_minibatch_part(resolve: Any) -> None:
    words = ["network@model.discriminator.minibatch=gan/minibatch_standard_deviation", "data_root=unused"]
    method = built(resolve("model=dcgan", *words))[1]
    assert any(isinstance(part, MinibatchStandardDeviation) for part in method.discriminator.modules())
    swapped = resolve("model=minibatch_gan", "experiment=mixtures/rings", "data_root=unused")
    assert swapped["model"]["discriminator"]["minibatch"]["_target_"].endswith("MinibatchDiscrimination")


# --- Unrolling


def test_two_steps_of_gradient_descent_by_hand() -> None:
    """L(w) = (w - f)^2 / 2: w_2 = (1 - a)^2 w + (1 - (1 - a)^2) f, so d w_2 / d f = 1 - (1 - a)^2."""
    a, f = 0.1, torch.tensor(3.0, requires_grad=True)
    weight = nn.Parameter(torch.tensor([1.0]))
    (after,) = unrolled(torch.optim.SGD([weight], lr=a), lambda w: (w[0] - f).square().sum() / 2, 2)
    assert float(after) == pytest.approx(0.81 * 1 + 0.19 * 3)
    (slope,) = torch.autograd.grad(after.sum(), f)
    assert float(slope) == pytest.approx(0.19)
    assert float(weight) == 1  # it did not move itself


OPTIMIZERS = [
    partial(torch.optim.SGD, lr=0.05),
    partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.1),
    partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.9)),
    partial(torch.optim.Adam, lr=0.01, weight_decay=0.1),
]


@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_unrolled_steps_are_the_optimizers_own_and_differentiable(kind: Any, warm: int) -> None:
    """From where it is: as torch steps; and their slope is that of finite differences."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x, own = torch.randn(5, 2).double(), kind(network.parameters())
    names = [name for name, _ in network.named_parameters()]

    def loss(weights: Any, f: Tensor) -> Tensor:
        out = torch.func.functional_call(network, dict(zip(names, weights, strict=True)), (x,))
        return (out - f).square().mean()

    def step(optimizer: Any, model: nn.Module, f: Tensor) -> None:
        optimizer.zero_grad()
        (model(x) - f).square().mean().backward()
        optimizer.step()

    f = torch.tensor(0.7).double()
    for _ in range(warm):
        step(own, network, f)
    held, state = copy.deepcopy(network.state_dict()), copy.deepcopy(own.state_dict())
    ahead = unrolled(own, lambda w: loss(w, f), 2)
    assert all(torch.equal(value, held[name]) for name, value in network.state_dict().items())
    end = lambda f: torch.cat([w.flatten() for w in unrolled(own, lambda w: loss(w, f), 2)])
    found = torch.autograd.functional.jacobian(end, f)
    e = 1e-6
    torch.testing.assert_close(found, (end(f + e) - end(f - e)) / (2 * e), rtol=1e-4, atol=1e-7)
    assert str(own.state_dict()) == str(state)
    for _ in range(2):
        step(own, network, f)
    for value, mine in zip(network.parameters(), ahead, strict=True):
        torch.testing.assert_close(mine, value.detach(), rtol=1e-6, atol=1e-8)


LINEAR = ["model.discriminator.hidden=[]", "optimizer@model.discriminator_optimizer=sgd"]
LINEAR += ["model.discriminator_optimizer.momentum=0", "model.discriminator_optimizer.nesterov=false"]


def play(resolve: Any, *words: str) -> tuple[Any, Tensor, Tensor]:
    """An unrolled GAN whose discriminator, D(x) = w x + b, learns by SGD of rate 0.1; real points, fakes; float64."""
    said = [*LINEAR, "model.discriminator_optimizer.lr=0.1", "data_root=unused", *words]
    _, method = built(resolve("model=unrolled_gan", "data=rings", *said))
    own = method.double().configure_optimizers()[1]
    method._trainer = SimpleNamespace(optimizers=[None, own])
    return method, torch.randn(7, 2).double(), torch.randn(7, 2).double().requires_grad_()


def test_the_unrolled_generator_meets_the_discriminator_as_it_will_have_answered(resolve: Any) -> None:
    """Wasserstein's objective: w_K = w - K a (f - r), of the means f of fakes and r of real points.

    f_K = w_K (r - f); its slope along f is - w + 2 K a (f - r), without unrolling - w alone, and of the fakes' term
    alone - w + K a (2 f - r).
    """
    method, real, fake = play(resolve, "objective=wasserstein", "model.unrolled_steps=2")
    w = method.discriminator.head.weight.detach()[0].clone()
    loss = method.generator_loss(real, fake)
    (slope,) = torch.autograd.grad(loss, fake)
    f, r = fake.detach().mean(0), real.mean(0)
    torch.testing.assert_close(loss.detach().double(), (w - 0.2 * (f - r)) @ (r - f), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope.sum(0), -w + 0.4 * (f - r), rtol=1e-5, atol=1e-6)
    assert torch.equal(method.discriminator.head.weight[0], w)


@pytest.mark.parametrize("objective", ["minimax", "non_saturating"])
def test_the_unrolled_generator_descends_the_value_itself(objective: str, resolve: Any) -> None:
    """f = E log sigma(D(x)) + E log(1 - sigma(D(G(z)))) after one written-out step of the discriminator."""
    method, real, fake = play(resolve, f"objective={objective}", "model.unrolled_steps=1")
    w, b = (parameter.detach().flatten() for parameter in method.discriminator.parameters())
    wrong_real, wrong_fake = (-(real @ w + b)).sigmoid(), (fake @ w + b).sigmoid()  # - d f / d score, d f / d score
    ahead = w + 0.1 * ((wrong_real[:, None] * real).mean(0) - (wrong_fake[:, None] * fake).mean(0))
    bias = b + 0.1 * (wrong_real.mean() - wrong_fake.mean())
    truth = (real @ ahead + bias).sigmoid().log().mean() + (-(fake @ ahead + bias)).sigmoid().log().mean()
    loss = method.generator_loss(real, fake)
    slopes = [torch.autograd.grad(value, fake)[0] for value in (loss, truth)]
    torch.testing.assert_close(loss.double(), truth, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)


def test_the_discriminator_itself_moves_one_step_only(build: Any) -> None:
    """As a GAN's does on the same batch, with the optimizer's memory of one step, and batch norm's of one pass."""
    words = ["budget.batches=1", "model.discriminator.batch_norm=true", "model.discriminator.hidden=[8,8]"]
    plain = run(build(ROWS["gan"], *words, run="plain"))
    ends = {}
    for k in (0, 2):
        ends[k] = run(build(ROWS["unrolled_gan"], *words, f"model.unrolled_steps={k}", run=f"{k}"))
        for (name, a), b in zip(
            plain.discriminator.state_dict().items(), ends[k].discriminator.state_dict().values(), strict=True
        ):
            if "running" in name or "tracked" in name:
                assert torch.equal(ends[0].discriminator.state_dict()[name], b), name
            else:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    weights = [torch.cat([p.flatten() for p in ends[k].generator.parameters()]) for k in (0, 2)]
    assert not torch.allclose(*weights, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, partial(torch.optim.Adam, amsgrad=True), torch.optim.AdamW])
def test_an_optimizer_that_cannot_be_unrolled_is_refused(kind: Any) -> None:
    with pytest.raises(UserError, match="an unrolled discriminator learns by plain"):
        check_unrolls(kind([nn.Parameter(torch.zeros(1))]))


# --- Numbers and pictures


def test_modes_are_counted_as_the_literature_does() -> None:
    """Two at mode 0, one just within and one just beyond 3 standard deviations of mode 2, one nearest to mode 5."""
    ring = Ring()
    away = torch.tensor([0.0, 0.01])
    near = [ring.centres[0], ring.centres[0], ring.centres[2] + 2.9 * away, ring.centres[2] + 3.1 * away]
    x = torch.stack([*near, ring.centres[5] * 0.8])
    found = counted(x, ring)
    assert found["modes_covered"] == 2 and found["high_quality"] == pytest.approx(60)
    truth = 2 * 0.4 * math.log(0.4 * 8) + 0.2 * math.log(0.2 * 8)
    assert found["modes_reverse_kl"] == pytest.approx(truth, rel=1e-5)
    assert counted(x * math.nan, ring) == {"modes_covered": 0, "high_quality": 0, "modes_reverse_kl": 0}


def test_of_the_data_themselves_nothing_is_left_out() -> None:
    for mixture in (Grid(), LINE):
        x, _ = mixture.draw(20_000, torch.Generator().manual_seed(0))
        found = counted(x, mixture)
        whole = 1 - math.exp(-4.5) if mixture is not LINE else 0.9973
        assert found["modes_covered"] == len(mixture.centres) and found["modes_reverse_kl"] < 2e-2
        assert found["high_quality"] == pytest.approx(100 * whole, abs=0.5)


class Spot:
    """Every sample is one point."""

    device = torch.device("cpu")

    def __init__(self, *place: float):
        self.place = torch.tensor(place)

    def sample(self, n: int) -> Tensor:
        return self.place.expand(n, -1)


def test_the_density_is_drawn_where_it_is() -> None:
    class Data:
        source = Ring()

    pixels = np.asarray(draw_points(Spot(0.5, -0.25), None, Data)["density"]).astype(int).sum(2)
    empty = np.asarray(in_the_plane(torch.full((1, 2), math.nan), Data.source)).astype(int).sum(2)
    changed = np.argwhere(np.abs(pixels - empty) > 60)
    middle = changed.mean(0) / len(pixels) * 2 * EDGE - EDGE  # row, column
    assert np.allclose(middle, [0.25, 0.5], atol=0.05)  # rows run downwards


def test_a_strip_has_the_first_and_the_last(tmp_path: Path) -> None:
    colours = [(20 * i, 0, 0) for i in range(12)]
    for i, colour in enumerate(colours):
        Image.new("RGB", (300, 300), colour).save(tmp_path / f"batch-{i + 1:06d}.png")
    made = strip(sorted(tmp_path.glob("*.png")))
    assert made.size == (1500, 2 * 323)  # two rows of five, a line of letters above each
    assert [made.getpixel(place) for place in ((150, 100), (1350, 500))] == [colours[0], colours[-1]]


@pytest.mark.parametrize(("model", "data"), [("gan", "rings"), ("gan_1d", "mixture_1d")])
def test_points_go_through_the_whole_program(model: str, data: str, program: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [f"model={model}", f"data={data}", *SMALL, "callbacks=modes", "callbacks.measures.every=1"]
    result = program("train", *words, f"run={folder}", "budget.epochs=2", "data_root=unused")
    assert result.status == 0 and "val/modes_covered" in result.out
    made = {str(path.relative_to(folder / "pictures")) for path in (folder / "pictures").rglob("*.png")}
    frames = {f"history/density/batch-{n:06d}.png" for n in (12, 24)}
    assert made == {"density.png", "density_over_time.png"} | frames
    result = program("evaluate", f"checkpoint={folder}", "data.root=unused")
    assert result.status == 0 and "note" not in result.out
    content = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert [number["name"] for number in content["numbers"]] == ["modes_covered", "high_quality", "modes_reverse_kl"]
    facts = content["numbers"][0]["facts"]
    assert facts["samples"] == 2500 and facts["baseline_value"] == facts["modes"]
    assert (folder / "evaluation" / "density.png").is_file()
    refused = program("evaluate", f"checkpoint={folder}", "evaluation.extractor=classifier")
    assert refused.status == 1 and "these data are points" in refused.complaint


def test_on_a_line_the_discriminator_is_in_the_picture(resolve: Any) -> None:
    data, method = built(resolve("model=gan_1d", "data=mixture_1d", "data_root=unused"))
    assert isinstance(method, Scores)

    def blue(image: Image.Image) -> int:
        pixels = np.asarray(image).astype(int)
        return int((pixels[:, :, 2] - pixels[:, :, 0] > 60).sum())

    with torch.no_grad():
        shown = draw_points(method.eval(), None, data)["density"]
    without = draw_points(Spot(0.3), None, data)["density"]
    assert blue(shown) > 100 > blue(without)
