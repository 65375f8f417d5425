"""GANs that grow and GANs of styles: their layers, their regularisers and what is drawn from them."""

import math
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from lightning import Callback
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate

from tests.contract.cases import CASES
from tests.contract.test_contract import run
from unlabeled.errors import UserError
from unlabeled.losses.adversarial import WassersteinDrift
from unlabeled.losses.path_length import PathLength
from unlabeled.methods.gan.progressive_gan import SIZE, level
from unlabeled.nn.gan import progressive, stylegan, stylegan2
from unlabeled.nn.gan.style import Mapping, mix_styles
from unlabeled.nn.gan.stylegan2 import Generator, ModulatedConv, ModulatedUp
from unlabeled.nn.layers.batch_statistics import uses_batch_statistics
from unlabeled.nn.layers.equalized import EqualizedConv2d, EqualizedLinear, PixelNorm
from unlabeled.nn.layers.filtered import Double, Halve
from unlabeled.nn.layers.sizes import sides

ROWS = {case.model: case for case in CASES}


# --- Layers


@pytest.mark.parametrize("features", [4, 400])
def test_equalized_layers_keep_variance_whatever_their_width(features: int) -> None:
    torch.manual_seed(0)
    flat = EqualizedLinear(features, 500, rate=0.01)
    assert float(flat(torch.randn(400, features)).var()) == pytest.approx(1, abs=0.15)
    deep = EqualizedConv2d(features, 300)
    assert float(deep(torch.randn(4, features, 12, 12))[..., 1:-1, 1:-1].var()) == pytest.approx(1, abs=0.15)
    assert float(deep.weight.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_adam_moves_equalized_weights_at_their_rate(rate: float) -> None:
    """A step of Adam is lr to every weight; where the weight is used, rate lr / sqrt(features): in its own unit."""
    layer = EqualizedLinear(25, 3, bias=0.5, rate=rate)
    used = lambda: (layer(torch.eye(25)) - layer(torch.zeros(25, 25))).detach(), layer(torch.zeros(1, 25)).detach()
    (weights, bias), optimizer = (used[0](), used[1]), torch.optim.Adam(layer.parameters(), lr=0.1)
    torch.testing.assert_close(bias, torch.full((1, 3), 0.5))
    layer(torch.ones(1, 25)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(weights - used[0](), torch.full((25, 3), 0.1 * rate / 5), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(bias - layer(torch.zeros(1, 25)), torch.full((1, 3), 0.1 * rate), rtol=1e-3, atol=1e-6)


def test_pixel_norm_makes_each_pixels_features_of_mean_square_one() -> None:
    x = PixelNorm()(torch.randn(2, 7, 3, 3) * 5)
    torch.testing.assert_close(x.square().mean(1), torch.ones(2, 3, 3))


def weights_of(layer: ModulatedConv, w: Tensor) -> Tensor:
    """w'' (B, out, channels, k, k), equations 1 and 3 written out."""
    s = w @ layer.style.weight.T / math.sqrt(w.shape[1]) + layer.style.bias  # (B, channels)
    channels, k = layer.weight.shape[1:3]
    modulated = s[:, None, :, None, None] * layer.weight / math.sqrt(channels * k * k)
    if not layer.demodulate:
        return modulated
    return modulated / (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize(("kernel", "demodulate"), [(3, True), (1, False)])
def test_a_modulated_convolution_is_the_published_one(kernel: int, demodulate: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(5, 4, 6, kernel, demodulate)
    x, w = torch.randn(3, 5, 8, 7), torch.randn(3, 6) * 3
    each = [
        conv2d(image[None], weight, padding=kernel // 2) for image, weight in zip(x, weights_of(layer, w), strict=True)
    ]
    torch.testing.assert_close(layer(x, w), torch.cat(each), rtol=1e-4, atol=1e-5)


def test_a_modulated_step_up_puts_zeros_between_pixels_then_convolves_and_filters() -> None:
    torch.manual_seed(0)
    layer = ModulatedUp(5, 4, 6, (9, 7))
    x, w = torch.randn(3, 5, 5, 4), torch.randn(3, 6) * 3
    sparse = torch.zeros(3, 5, 13, 11)  # from -1 to 2h + 1
    sparse[..., 2:11:2, 2:9:2] = x
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    smooth = torch.outer(taps, taps)[None, None] / 16
    for image, weight, made in zip(sparse, weights_of(layer, w), layer(x, w), strict=True):
        wide = conv2d(image[None], weight.flip(2, 3))  # (1, 4, 11, 9)
        exact = conv2d(wide.transpose(0, 1), smooth, padding=1).transpose(0, 1)[0]
        torch.testing.assert_close(made, exact[:, :9, :7], rtol=1e-4, atol=1e-5)


def test_demodulated_features_have_unit_variance_for_any_style() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(64, 64, 8)
    w = torch.randn(6, 8) * torch.tensor([0.0, 0.1, 1.0, 3.0, 10.0, 100.0])[:, None]
    spread = layer(torch.randn(6, 64, 32, 32), w)[..., 1:-1, 1:-1].var((1, 2, 3))
    assert ((spread - 1).abs() < 0.1).all(), spread


def test_the_filter_is_the_bilinear_one_inside() -> None:
    """Doubled, [1, 3, 3, 1] interpolates linearly; halved, it is the antialiased triangle. Beyond the border is 0."""
    x = torch.randn(2, 3, 10, 8)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(Double((20, 16))(x)[inside], interpolate(x, scale_factor=2, mode="bilinear")[inside])
    halved = interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(Halve()(x)[..., 1:-1, 1:-1], halved[..., 1:-1, 1:-1])
    flat = Double((20, 16))(torch.ones(1, 1, 10, 8))
    assert flat[0, 0, 0, 8] == 0.75 and flat[0, 0, 0, 0] == 0.75**2 and flat[0, 0, 9, 8] == 1


@pytest.mark.parametrize("network", [stylegan, stylegan2])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 28), (2, 7, 30)])
def test_networks_of_any_size(shape: tuple[int, int, int], network: Any) -> None:
    w = torch.randn(4, 2 * len(sides(*shape[1:])), 6)
    generator, discriminator = network.Generator(shape, 6, 4, 8), network.Discriminator(shape, 4, 8)
    assert generator.layers == w.shape[1]
    image = generator(w)
    assert image.shape == (4, *shape) and discriminator(image).shape == (4,)
    gradients = torch.autograd.grad(discriminator(image).sum(), [*generator.parameters(), *discriminator.parameters()])
    assert all((g != 0).any() for g in gradients)  # nothing lies idle
    assert network.channels_of(4, 4, 8) == [4, 8, 8, 8]  # doubled, and no more than 8


def test_adain_sets_each_channels_moments() -> None:
    torch.manual_seed(0)
    adain, x, w = stylegan.AdaIN(5, 6), 3 * torch.randn(4, 5, 9, 7) + 2, torch.randn(4, 6)
    scale, shift = (w @ adain.style.weight.T / math.sqrt(6) + adain.style.bias).chunk(2, 1)
    made = adain(x, w)
    torch.testing.assert_close(made.mean((2, 3)), shift, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.std((2, 3), correction=0), (scale + 1).abs(), rtol=1e-4, atol=1e-4)
    standard = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(made, (scale + 1)[:, :, None, None] * standard + shift[:, :, None, None])


def test_each_style_reaches_its_own_layer_only() -> None:
    """The last style is of the last step to an image; the first of all that follows."""
    generator = Generator((1, 16, 16), 6, 4)
    w = torch.randn(1, 6, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(generator(w, fresh=False).square().sum(), w)
    assert (slope.abs().sum(2) > 0).all()
    moved = w.detach().clone()
    moved[:, 5] += 1
    seen = []
    generator.convolutions[-1].register_forward_hook(lambda _, x, y: seen.append(y))
    generator(w, fresh=False), generator(moved, fresh=False)
    assert torch.equal(*seen)


@pytest.mark.parametrize("network", [stylegan, stylegan2])
def test_a_discriminator_sees_how_much_images_differ(network: Any) -> None:
    discriminator = network.Discriminator((1, 8, 8), 4)
    assert uses_batch_statistics(discriminator)
    x = torch.randn(4, 1, 8, 8)
    alike = x[:1].expand(4, -1, -1, -1)
    assert not torch.allclose(discriminator(x)[0], discriminator(alike)[0])


# --- Styles


def test_styles_cross_over_at_one_layer() -> None:
    torch.manual_seed(0)
    styles = mix_styles(torch.zeros(2000, 3), torch.ones(2000, 3), 6, 0.9)
    assert torch.equal(styles, styles[..., :1].expand(-1, -1, 3))
    other = styles[..., 0]
    assert (other[:, 0] == 0).all() and (other.diff(dim=1) >= 0).all()  # own first; once over, never back
    start = 6 - other.sum(1).long()
    counts = start.bincount(minlength=7)
    assert counts[0] == 0 and float(counts[6]) / 2000 == pytest.approx(0.1, abs=0.03)
    assert (counts[1:6] / 2000 - 0.18).abs().max() < 0.04  # every layer from the second on is as likely
    assert not mix_styles(torch.zeros(50, 3), torch.ones(50, 3), 6, 0.0).any()


def test_the_mean_style_follows_and_truncation_goes_towards_it() -> None:
    mapping = Mapping(4, 3, layers=2, decay=0.75)
    w = mapping(torch.randn(5, 4)).detach()
    mapping.follow(w)
    mapping.follow(w + 1)
    mean = 0.75 * 0.25 * w.mean(0) + 0.25 * (w + 1).mean(0)
    torch.testing.assert_close(mapping.average, mean)
    torch.testing.assert_close(mapping.truncate(w, 0.7), mean + 0.7 * (w - mean))
    assert torch.equal(mapping.truncate(w, 1), w)
    z = torch.randn(5, 4)
    torch.testing.assert_close(mapping(z), mapping(7 * z))  # on the sphere


@pytest.mark.parametrize("model", ["stylegan", "stylegan2"])
def test_without_any_deviation_all_is_the_mean_image(model: str, build: Any) -> None:
    method = run(build(ROWS[model], "model.truncation=0", "budget.batches=2")).eval()
    with torch.no_grad():
        images = method.decode(method.sample_prior(5))
        mean = method.generator(method.mapping.average.expand(1, method.layers, -1), fresh=False).clamp(-1, 1)
    assert method.mapping.average.abs().max() > 0
    torch.testing.assert_close(images, mean.expand_as(images))
    (sweep, captions), (table, _) = method.figures(images).values()
    torch.testing.assert_close(sweep[:8], mean.expand(8, -1, -1, -1))
    assert captions[0] == "psi = 0" and captions[-1] == "psi = 1"
    same = [table[8 * (i + 1) + i] for i in range(7)]  # a code mix_styles with itself
    torch.testing.assert_close(torch.stack(same), table[:7])


@pytest.mark.parametrize("model", ["stylegan", "stylegan2"])
def test_codes_have_one_image_and_samples_new_noise(model: str, build: Any) -> None:
    method, *_ = build(ROWS[model])
    for name, weight in method.generator.named_parameters():
        if name.endswith("strength"):
            nn.init.ones_(weight)
    z = torch.randn(2, method.latent_dim)
    method.sample_prior = lambda n: z
    with torch.no_grad():
        assert torch.equal(method.decode(z), method.decode(z))
        assert not torch.equal(method.sample(2), method.sample(2))


# --- StyleGAN2's regularisers


def test_path_length_of_a_linear_generator_is_its_jacobians() -> None:
    """x = A w: J^T y = A^T y for each of the styles' layers, whose square is |A|_F^2 / (H W) in the mean."""
    torch.manual_seed(0)
    a, path = torch.randn(3 * 8 * 8, 5, dtype=torch.float64), PathLength()
    w = torch.randn(4000, 1, 5, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    lengths = path.lengths((w[:, 0] @ a.T).view(-1, 3, 8, 8), w)
    torch.manual_seed(1)
    y = torch.randn(4000, 3, 8, 8, dtype=torch.float64) / 8
    torch.testing.assert_close(lengths, (y.flatten(1) @ a).norm(dim=1))
    assert float(lengths.square().mean()) == pytest.approx(float(a.square().sum()) / 64, rel=0.03)
    mean, n = torch.tensor(1.5, dtype=torch.float64), len(lengths)
    torch.testing.assert_close(path(lengths, mean), 2 * (lengths - 1.5).square().sum() / n)


def test_path_lengths_are_root_mean_squares_over_layers() -> None:
    path = PathLength()
    w = torch.randn(2, 4, 3, requires_grad=True)
    one = w[:, 0].sum(1).view(2, 1, 1, 1).expand(-1, 1, 4, 4)  # only the first of four layers counts
    torch.manual_seed(0)
    lengths = path.lengths(one, w)
    torch.manual_seed(0)
    y = torch.randn(2, 1, 4, 4) / 4
    torch.testing.assert_close(lengths, (3 * y.sum((1, 2, 3)).square() / 4).sqrt())


class Steps(Callback):
    """How often each player has stepped, and what was recorded, batch by batch."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.names: list[set[str]] = []

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.count = [0, 0]
        for i, optimizer in enumerate(trainer.optimizers):
            optimizer.register_step_post_hook(lambda *_, i=i: self.count.__setitem__(i, self.count[i] + 1))

    def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
        self.steps.append((self.count[0], self.count[1]))
        self.names.append({name for values in method.recorded for name in values})
        method.recorded.clear()


def test_regularisers_have_turns_of_their_own(build: Any) -> None:
    steps = Steps()
    words = ("model.penalty_every=2", "model.path_length_every=3", "budget.batches=6", "data.source.n=24")
    run(build(ROWS["stylegan2"], *words, "callbacks.records.every=100"), watch=steps)  # two epochs of three
    generator, discriminator = zip(*steps.steps, strict=True)
    assert discriminator == (1, 3, 4, 6, 7, 9) and generator == (1, 2, 4, 5, 6, 8)
    assert ["train/penalty" in names for names in steps.names] == [False, True] * 3
    assert ["train/path_length" in names for names in steps.names] == [False, False, True] * 2


def test_lazy_optimizers_are_slowed_down(build: Any) -> None:
    words = ("model.penalty_every=16", "model.path_length_every=8", "model.generator_optimizer.betas=[0.5,0.99]")
    method, *_ = build(ROWS["stylegan2"], *words)
    (generator,), (discriminator,) = (optimizer.param_groups for optimizer in method.configure_optimizers())
    assert generator["lr"] == pytest.approx(2.5e-3 * 8 / 9) and discriminator["lr"] == pytest.approx(2.5e-3 * 16 / 17)
    assert generator["betas"] == pytest.approx((0.5 ** (8 / 9), 0.99 ** (8 / 9)))
    assert discriminator["betas"] == pytest.approx((0, 0.99 ** (16 / 17)))


def test_lazy_losses_count_as_often_as_they_are_left_out(build: Any) -> None:
    method, data, _ = build(
        ROWS["stylegan2"], "model.penalty_every=5", "model.path_length_every=7", "model.penalty.weight=3"
    )
    x = next(iter(data.loader("train"))).x
    at = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(method.discriminator(at).sum(), at)
    expected = 5 * 3 / 2 * slope.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(method.penalty_loss(x, x).detach(), expected)


def test_path_lengths_have_a_running_mean(build: Any) -> None:
    method, data, _ = build(ROWS["stylegan2"], "model.path_length_every=7", "model.path_length.decay=0.25")
    x = next(iter(data.loader("train"))).x
    seen: list[Tensor] = []
    measure, mean = method.path_length.lengths, 0.0
    method.path_length.lengths = lambda images, w: seen.append(measure(images, w)) or seen[-1]  # type: ignore[func-returns-value]
    for _ in range(3):
        loss = method.path_loss(x)
        lengths = seen[-1].detach()
        assert len(lengths) == len(x) // 2
        mean = 0.75 * mean + 0.25 * float(lengths.mean())
        assert float(method.path_mean) == pytest.approx(mean)
        torch.testing.assert_close(loss.detach(), 7 * 2 * (lengths - mean).square().mean())
    assert "path_mean" in method.state_dict() and not method.path_mean.requires_grad
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.mapping.parameters())


def test_path_lengths_are_float32_under_autocast(build: Any) -> None:
    method, data, _ = build(ROWS["stylegan2"])
    x, kinds = next(iter(data.loader("train"))).x, []
    method.generator.convolutions[0].register_forward_hook(lambda _, w, features: kinds.append(features.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        method.path_loss(x)
        method.generator(method.styles(2))
    assert kinds == [torch.float32, torch.bfloat16]


# --- Growth


def test_sizes_fade_in_and_are_trained_for_equal_shares_of_the_run() -> None:
    """Three sizes, five phases: 0, 0 to 1, 1, 1 to 2, 2."""
    ways = {0.1: 0.0, 0.25: 0.25, 0.3: 0.5, 0.5: 1.0, 0.7: 1.5, 0.75: 1.75, 0.9: 2.0, 0.999: 2.0}
    assert {share: pytest.approx(level(share, 3)) for share in ways} == ways


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 13, 28)])
def test_a_size_fades_in_from_what_there_was(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    generator, discriminator = progressive.Generator(6, shape, 4, 8), progressive.Discriminator(shape, 4, 8)
    z, x = torch.randn(4, 6), torch.randn(4, *shape)

    def at(level: float) -> tuple[Tensor, Tensor, Tensor]:
        generator.grow(level)
        discriminator.grow(level)
        return generator(z), discriminator(x), discriminator.shrunk(x)

    top, sizes = len(generator.pyramid) - 1, generator.pyramid
    images = {level: at(level) for level in (top - 1, top - 1 + 1e-5, top - 1 + 0.3, top - 1e-5, top)}
    small, start, some, end, whole = images.values()
    assert tuple(small[0].shape[2:]) == sizes[-2] and whole[0].shape == (4, *shape)
    rough = interpolate(small[0], sizes[-1], mode="nearest")
    torch.testing.assert_close(start[0], rough, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(start[1], small[1], atol=1e-3, rtol=1e-3)  # the discriminator, of the image's means
    torch.testing.assert_close(end[0], whole[0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(end[1], whole[1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(some[0], 0.7 * rough + 0.3 * whole[0], atol=1e-4, rtol=1e-4)
    blurred = interpolate(adaptive_avg_pool2d(x, sizes[-2]), sizes[-1], mode="nearest")
    torch.testing.assert_close(some[2], 0.7 * blurred + 0.3 * x, atol=1e-5, rtol=1e-5)
    assert torch.equal(whole[2], x) and torch.equal(small[2], adaptive_avg_pool2d(x, sizes[-2]))


class Growth(Steps):
    """Of each batch: the sides of the discriminator's input, how far it has grown, which layers moved, Adam's steps."""

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.start = start
        self.seen: list[set[tuple[int, ...]]] = []
        self.grown: list[float] = []
        self.moved: list[list[bool]] = []
        self.adam: list[list[int]] = []

    def on_train_start(self, trainer: Any, method: Any) -> None:
        super().on_train_start(trainer, method)
        method.grow(self.start)
        method.discriminator.register_forward_pre_hook(lambda _, x: self.sides.add(tuple(x[0].shape[2:])))

    def on_train_batch_start(self, trainer: Any, method: Any, *_: Any) -> None:
        self.sides: set[tuple[int, ...]] = set()
        self.before = [[p.clone() for p in block.parameters()] for block in method.generator.blocks]

    def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
        self.seen.append(self.sides)
        self.grown.append(int(method.grown) / SIZE)
        blocks = zip(self.before, method.generator.blocks, strict=True)
        self.moved.append([not all(map(torch.equal, old, block.parameters())) for old, block in blocks])
        self.adam.append([max(int(s["step"]) for s in o.state.values()) for o in trainer.optimizers])


def test_networks_grow_and_adam_forgets(build: Any) -> None:
    growth = Growth()
    words = (
        "model.discriminator.group=2",
        "data.batch_size=2",
        "budget.epochs=null",
        "budget.batches=10",
        "data.epochs=null",
    )
    method = run(build(ROWS["progressive_gan"], *words), watch=growth)
    assert growth.seen == [{(4, 4)}] * 2 + [{(8, 8)}] * 4 + [{(16, 16)}] * 4
    assert growth.grown == pytest.approx([0, 0, 0.25, 0.75, 1, 1, 1.25, 1.75, 2, 2])
    assert growth.moved == [[True, False, False]] * 2 + [[True, True, False]] * 4 + [[True] * 3] * 4
    assert growth.adam == [[n, n] for n in (1, 2, 1, 2, 3, 4, 1, 2, 3, 4)]
    method.eval()
    sampled = method.sample(2)
    again, *_ = build(ROWS["progressive_gan"])
    assert again.generator.stage == 0 and again.sample(2).shape == sampled.shape  # small images, enlarged
    again.load_state_dict(method.state_dict())
    assert again.generator.stage == again.discriminator.stage == 2 and again.reached == 2 * SIZE


def test_a_run_with_a_longer_budget_does_not_shrink(build: Any) -> None:
    growth = Growth(start=int(1.5 * SIZE))
    run(build(ROWS["progressive_gan"], "budget.epochs=null", "budget.batches=2", "data.source.n=8"), watch=growth)
    assert growth.grown[0] == 1.5 and growth.grown[1] > 1.5


def test_drift_holds_real_scores() -> None:
    real, fake = torch.tensor([3.0, -1.0]), torch.tensor([0.5, 0.7])
    game = WassersteinDrift(0.01)
    assert float(game.discriminator(real, fake)) == pytest.approx(0.6 - 1.0 + 0.01 * 5.0)
    assert float(game.generator(fake)) == pytest.approx(-0.6)


# --- What makes no sense


@pytest.mark.parametrize(
    ("model", "word", "line"),
    [
        ("stylegan2", "penalty=none ~model.penalty.weight", "say penalty=r1"),
        ("stylegan2", "model.path_length_every=0", "at least 1"),
        ("stylegan2", "model.mapping.layers=0", "at least 1"),
        ("stylegan2", "model.path_length.weight=-1", "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(model: str, word: str, line: str, build: Any) -> None:
    with pytest.raises(InstantiationException) as caught:
        build(ROWS[model], *word.split())
    assert isinstance(caught.value.__cause__, UserError) and line in str(caught.value.__cause__)


def test_gradients_are_not_accumulated_between_turns(build: Any) -> None:
    with pytest.raises(UserError, match="accumulate=2"):
        run(build(ROWS["stylegan2"], "accumulate=2", "budget.batches=2"))
