"""Generators and discriminators: the papers' tables, spectral norm, self-attention, and their games."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.contract.cases import CASES
from tests.contract.test_contract import run
from unlabeled.errors import UserError
from unlabeled.losses import adversarial
from unlabeled.methods.gan.ebgan import mean_squared_cosine
from unlabeled.nn.gan import infogan, r3gan
from unlabeled.nn.gan import resnet as resnet_gan
from unlabeled.nn.gan.autoencoder_discriminator import (
    AutoencoderDiscriminator,
    Decoder,
    Encoder,
    Euclidean,
    MeanAbsolute,
)
from unlabeled.nn.gan.discriminators import AuxiliaryDiscriminator
from unlabeled.nn.layers.attention import SelfAttention
from unlabeled.nn.layers.batch_statistics import uses_batch_statistics
from unlabeled.nn.layers.spectral import spectral_norm

ROWS = {case.model: case for case in CASES}


def sigma(layer: Any) -> float:
    """The largest singular value of a layer's weight, as (outputs, all else)."""
    return float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2))


def normalised(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if parametrize.is_parametrized(m)]


def weighted(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def maps(network: nn.Module, kind: Any, x: Tensor) -> list[tuple[int, ...]]:
    """(C, H, W) that each module of a kind gives."""
    seen: list[tuple[int, ...]] = []
    hooks = [
        m.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape[1:])))
        for m in network.modules()
        if isinstance(m, kind)
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return seen


# --- SNGAN's residual networks


@pytest.mark.parametrize(
    ("size", "start", "generator", "discriminator"),
    [  # Miyato et al. 2018, tables 3, 4 and 5; their channels over 8, at width 64 / 8
        (32, (32, 4, 4), [(32, 8), (32, 16), (32, 32)], [(16, 16), (16, 8), (16, 8), (16, 8)]),
        (48, (64, 6, 6), [(32, 12), (16, 24), (8, 48)], [(8, 24), (16, 12), (32, 6), (64, 3), (128, 3)]),
        (
            128,
            (128, 4, 4),
            [(128, 8), (64, 16), (32, 32), (16, 64), (8, 128)],
            [(8, 64), (16, 32), (32, 16), (64, 8), (128, 4), (128, 4)],
        ),
    ],
)
def test_stages_are_those_of_the_papers_tables(size: int, start: Any, generator: Any, discriminator: Any) -> None:
    drawn = resnet_gan.Generator(128, (3, size, size), width=8)
    assert drawn.start == start
    square = lambda blocks: [(channels, side, side) for channels, side in blocks]
    assert maps(drawn, resnet_gan.GeneratorBlock, torch.randn(2, 128)) == square(generator)
    judge = resnet_gan.Discriminator((3, size, size), width=8)
    assert maps(judge, resnet_gan.DiscriminatorBlock, torch.randn(2, 3, size, size)) == square(discriminator)


def test_weights_of_table_3_counted_by_hand() -> None:
    dense, conv = lambda a, b: a * b + b, lambda a, b, k: a * b * k * k + b
    block = 2 * conv(256, 256, 3) + conv(256, 256, 1) + 2 * 512
    generator = dense(128, 4 * 4 * 256) + 3 * block + 512 + conv(256, 3, 3)
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    discriminator = first + 6 * conv(128, 128, 3) + conv(128, 128, 1) + dense(128, 1)
    networks = resnet_gan.Generator(128, (3, 32, 32)), resnet_gan.Discriminator((3, 32, 32))
    assert [sum(p.numel() for p in n.parameters()) for n in networks] == [generator, discriminator]


def test_a_discriminators_block_changes_channels_in_its_second_convolution_but_for_the_images() -> None:
    blocks = [
        m
        for m in resnet_gan.Discriminator((3, 48, 48), width=8).modules()
        if isinstance(m, resnet_gan.DiscriminatorBlock)
    ]
    pairs = [(block.conv1.weight.shape[:2], block.conv2.weight.shape[:2]) for block in blocks]
    assert pairs[0] == ((8, 3), (8, 8)) and pairs[1:] == [((n, n), (2 * n, n)) for n in (8, 16, 32, 64)]


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 28, 28), (2, 9, 17), (1, 33, 50), (3, 64, 64)])
@pytest.mark.parametrize("attention", [None, 1])
def test_networks_are_for_any_size_and_channels(shape: tuple[int, int, int], attention: int | None) -> None:
    z = torch.randn(2, 5)
    x = resnet_gan.Generator(5, shape, width=1, spectral_norm=True, attention=attention)(z)
    assert x.shape == (2, *shape) and x.abs().max() <= 1
    assert resnet_gan.Discriminator(shape, width=1, attention=attention)(x).shape == (2,)


def test_enlarging_after_and_shrinking_before_a_1x1_convolution_is_the_same() -> None:
    """Figure 8 has it the other way round."""
    up = resnet_gan.GeneratorBlock(4, 3, (7, 9)).eval()
    x = torch.randn(2, 4, 4, 5)
    wide = nn.functional.interpolate(x, (7, 9))
    h = up.conv1(nn.functional.interpolate(up.norm1(x).relu(), (7, 9)))
    torch.testing.assert_close(up(x), up.shortcut(wide) + up.conv2(up.norm2(h).relu()))
    down, pool = resnet_gan.DiscriminatorBlock(4, 3, down=True), nn.AvgPool2d(2)
    x = torch.randn(2, 4, 6, 8)
    torch.testing.assert_close(down(x), pool(down.shortcut(x) + down.conv2(down.conv1(x.relu()).relu())))


def test_the_discriminator_sums_over_places_and_sees_one_image_at_a_time() -> None:
    discriminator = resnet_gan.Discriminator((1, 8, 8), width=2).eval()
    x = torch.randn(3, 1, 8, 8)
    places = discriminator.body[:-1](x)
    assert places.min() == 0  # after the last ReLU
    expected = places.sum((2, 3)) @ discriminator.head.weight[0] + discriminator.head.bias
    torch.testing.assert_close(discriminator(x), expected)
    torch.testing.assert_close(discriminator(x[1:2]), discriminator(x)[1:2])
    assert not uses_batch_statistics(discriminator)


# --- Spectral norm


@pytest.mark.parametrize("layer", [nn.Linear(9, 5), nn.Conv2d(3, 6, 3)], ids=["dense", "convolution"])
def test_spectral_norm_is_1_when_power_iteration_has_converged(layer: Any) -> None:
    nn.init.normal_(layer.weight, 0, 3)
    before = layer.weight.detach().clone()
    x = torch.randn(2, 9) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 5, 5)
    layer = spectral_norm(layer)
    for _ in range(300):
        layer(x)
    assert sigma(layer) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(
        layer.weight, before / torch.linalg.matrix_norm(before.flatten(1), 2), rtol=1e-4, atol=1e-5
    )


def test_power_iteration_is_one_step_in_training_and_none_in_evaluation() -> None:
    layer: Any = spectral_norm(nn.Linear(6, 4))
    norm, w = layer.parametrizations.weight[0], layer.parametrizations.weight.original.detach()
    u, v = norm._u.clone(), norm._v.clone()
    layer.eval()(torch.randn(2, 6))
    assert torch.equal(norm._u, u) and torch.equal(norm._v, v)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(w + torch.randn(4, 6))  # as after a step of the optimizer
    w = layer.parametrizations.weight.original.detach()
    layer.train()(torch.randn(2, 6))
    after_u = w @ v / (w @ v).norm()
    after_v = w.T @ after_u / (w.T @ after_u).norm()
    torch.testing.assert_close(norm._u, after_u)  # algorithm 1, begun at the other end: u, then v
    torch.testing.assert_close(norm._v, after_v)


def test_the_gradient_goes_through_sigma() -> None:
    """Equation 12: d(W / sigma) has no component that only rescales W."""
    layer: Any = spectral_norm(nn.Linear(6, 4)).eval()
    (layer.weight * torch.randn(4, 6)).sum().backward()
    w = layer.parametrizations.weight.original
    assert w.grad.abs().max() > 0.01 and abs(float((w.grad * w).sum())) < 1e-5


def test_every_layer_of_a_discriminator_has_it_or_none_has() -> None:
    for shape in [(1, 8, 8), (3, 64, 64)]:
        discriminator = resnet_gan.Discriminator(shape, width=1, attention=1)
        assert set(weighted(discriminator)) == set(normalised(discriminator))
        assert not normalised(resnet_gan.Discriminator(shape, width=1, spectral_norm=False, attention=1))
    assert not normalised(resnet_gan.Generator(5, (1, 8, 8), width=1))
    sagan = resnet_gan.Generator(5, (1, 8, 8), width=1, spectral_norm=True, attention=1)
    assert set(weighted(sagan)) == set(normalised(sagan))


def test_averaged_vectors_have_length_1_again_when_loaded_and_others_stay_bitwise() -> None:
    layer: Any = spectral_norm(nn.Linear(6, 4))
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), state.values(), strict=True))
    short = {name: value * 0.5 if value.ndim == 1 and "_" in name else value for name, value in state.items()}
    expected = layer.eval().weight.detach().clone()
    layer.load_state_dict(short)
    torch.testing.assert_close(layer.weight, expected)


def test_averages_are_of_the_vectors_after_their_iteration(build: Any) -> None:
    """With a decay of 0 the average is what the networks have right after the player's step."""
    built = build(ROWS["sagan"], "callbacks=averaging", "callbacks.averaging.decay=0.0", "budget.batches=1")
    method = run(built, limit_val_batches=0)
    averaging = next(c for c in method.trainer.callbacks if type(c).__name__ == "WeightAveraging")
    state = method.state_dict()
    vectors = [name for name in state if name.startswith("generator.") and name.endswith("._u")]
    assert vectors and all(torch.equal(state[name], averaging.average[name]) for name in vectors)


def test_wgan_gp_takes_the_residual_discriminator(build: Any) -> None:
    overrides = [
        "network@model.discriminator=gan/sngan_discriminator",
        "model.discriminator.width=2",
        "model.discriminator.spectral_norm=false",
    ]
    case = ROWS["wgan_gp"]
    method = run(build(case, *overrides, "budget.batches=2"))
    assert isinstance(method.discriminator, resnet_gan.Discriminator) and not normalised(method.discriminator)
    assert all(value.isfinite().all() for value in method.state_dict().values())


# --- Self-attention


def test_self_attention_is_the_papers_equations_written_out() -> None:
    layer = SelfAttention(16).double()
    nn.init.constant_(layer.gamma, 0.7)
    x = torch.randn(2, 16, 3, 2, dtype=torch.float64)
    f, g, h, v = (getattr(layer, name).weight[:, :, 0, 0] for name in "fghv")
    y = torch.empty_like(x)
    for b in range(2):
        places = x[b].flatten(1).T  # (N, C)
        for j in range(6):
            s = torch.stack([(f @ places[i]) @ (g @ places[j]) for i in range(6)])
            beta = s.exp() / s.exp().sum()
            o = v @ sum(beta[i] * (h @ places[i]) for i in range(6))
            y[b].flatten(1)[:, j] = 0.7 * o + places[j]
    torch.testing.assert_close(layer(x), y)


def test_self_attention_starts_as_the_identity_and_learns_to_differ() -> None:
    layer = SelfAttention(8)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(layer(x), x)
    layer(x).square().sum().backward()
    assert layer.gamma.grad is not None and layer.gamma.grad != 0


@pytest.mark.parametrize(("model", "part"), [("sagan", "generator"), ("sagan", "discriminator")])
def test_attention_where_there_is_no_such_map_is_refused(model: str, part: str, build: Any) -> None:
    with pytest.raises(InstantiationException) as caught:
        build(ROWS[model], f"model.{part}.attention=5")
    assert isinstance(caught.value.__cause__, UserError) and "attention=5" in str(caught.value.__cause__)


def test_two_learning_rates(resolve: Any) -> None:
    model = resolve("model=sagan")["model"]
    rates = [float(model[f"{player}_optimizer"]["lr"]) for player in ("generator", "discriminator")]
    assert rates == [1e-4, 4e-4] and model["discriminator_steps"] == 1


# --- Autoencoders that are discriminators


def test_a_discriminators_score_is_minus_what_it_loses(build: Any) -> None:
    x = torch.randn(3, 2, 4, 4)
    for energy, expected in [
        (Euclidean(), lambda e: e.flatten(1).norm(dim=1)),
        (MeanAbsolute(), lambda e: e.abs().sum((1, 2, 3)) / 32),
    ]:
        decoder = nn.Sequential(nn.Linear(32, 32), nn.Unflatten(1, (2, 4, 4)))
        discriminator = AutoencoderDiscriminator(nn.Flatten(), decoder, energy)
        torch.testing.assert_close(discriminator(x), -expected(x - decoder(x.flatten(1))))
        assert torch.equal(discriminator.features(x), x.flatten(1))


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 17, 30), (2, 64, 64)])
def test_autoencoders_of_any_size(shape: tuple[int, int, int]) -> None:
    x = torch.randn(2, *shape)
    code = Encoder(shape, 5, width=2)(x)
    assert code.shape == (2, 5) and Decoder(shape, 5, width=2)(code).shape == x.shape
    assert Decoder(shape, 5, width=2, bound=True)(100 * code).abs().max() <= 1


def test_the_balance_is_the_papers(build: Any) -> None:
    method, data, _ = build(ROWS["began"], "model.lambda_k=0.1", "model.gamma=0.4")
    method.over_ranks = lambda *values: list(values)  # one process, and no trainer
    x, fake, k = next(iter(data.loader("train"))).x, method.sample(8).detach(), 0.0
    with torch.no_grad():
        real, drawn = (float(-method.discriminator(v).mean()) for v in (x, fake))
    for sign in (1, 1, 1, -1):  # then a generator that does worse than it should
        worse = fake if sign > 0 else fake + 30
        with torch.no_grad():
            drawn = float(-method.discriminator(worse).mean())
        assert float(method.discriminator_loss(x, worse).detach()) == pytest.approx(
            real - k * drawn, rel=1e-4, abs=1e-5
        )
        assert float(method.generator_loss(worse).detach()) == pytest.approx(drawn, rel=1e-4)
        k = min(1.0, max(0.0, k + 0.1 * (0.4 * real - drawn)))
        assert float(method.k) == pytest.approx(k, abs=1e-5)
        noted = {name: float(value) for name, value in method.recorded[-1].items()}
        assert noted["train/convergence"] == pytest.approx(real + abs(0.4 * real - drawn), rel=1e-4)
        assert noted["train/k"] == pytest.approx(k, abs=1e-5)


@pytest.mark.parametrize(("fake", "k"), [(0.1, 0.35), (2.0, 0.0), (-99.0, 1.0)])
def test_the_balance_rises_where_fakes_are_too_good_and_stays_within_0_and_1(build: Any, fake: float, k: float) -> None:
    method, *_ = build(ROWS["began"], "model.lambda_k=0.5", "model.gamma=0.8")
    method.balance(torch.tensor(1.0), torch.tensor(fake))
    assert float(method.k) == pytest.approx(k)


def test_images_do_not_fade_in_begans_networks() -> None:
    """Before training, at 64 pixels: codes differ as images do, and so do their decodings."""
    torch.manual_seed(0)
    encoder, decoder = Encoder((3, 64, 64), 32, 8), Decoder((3, 64, 64), 32, 8)
    with torch.no_grad():
        codes = encoder(torch.randn(16, 3, 64, 64))
        images = decoder(torch.randn(16, 32))
    assert codes.std(0).mean() > 0.03 and images.std(0).mean() > 0.03  # PyTorch's own weights: 0.00005, 0.0003


def test_no_gradient_of_begans_discriminator_reaches_the_generator_and_codes_are_uniform(build: Any) -> None:
    method, data, _ = build(ROWS["began"])
    method.k.fill_(0.5)
    method.discriminator_loss(next(iter(data.loader("train"))).x, method.sample(8).detach()).backward()
    assert all(p.grad is None for p in method.generator.parameters())
    codes = method.sample_prior(500)
    assert -1 <= codes.min() < -0.99 and 0.99 < codes.max() <= 1 and codes.var() == pytest.approx(1 / 3, rel=0.05)


def test_begans_best_checkpoint_is_where_it_converged_most(build: Any, tmp_path: Path) -> None:
    run(build(ROWS["began"], "budget.epochs=2"))
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/convergence"]]
    real, fake, convergence = (float(rows[-1][f"val/{name}"]) for name in ("loss_real", "loss_fake", "convergence"))
    assert convergence == pytest.approx(real + abs(0.5 * real - fake), rel=1e-4)
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    lowest = min(rows, key=lambda row: float(row["val/convergence"]))
    assert best["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == int(lowest["batch"])


def test_margin_pushes_fakes_up_to_it_and_no_further() -> None:
    """Equations 1 and 2, of energies."""
    energy_real, energy_fake = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 12.0])
    game = adversarial.Margin(10.0)
    assert float(game.discriminator(-energy_real, -energy_fake)) == pytest.approx(2 + (6 + 0) / 2)
    assert float(game.generator(-energy_fake)) == pytest.approx(8)
    with pytest.raises(UserError, match="positive"):
        adversarial.Margin(0)


def test_the_pulling_away_term_is_equation_14_written_out(build: Any) -> None:
    codes = torch.randn(5, 7)
    total = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                total += float((codes[i] @ codes[j]) / (codes[i].norm() * codes[j].norm())) ** 2
    assert float(mean_squared_cosine(codes)) == pytest.approx(total / 20, rel=1e-4)
    assert float(mean_squared_cosine(torch.eye(4))) == 0 and float(
        mean_squared_cosine(-3 * codes[:1].expand(4, -1))
    ) == pytest.approx(1)
    assert float(mean_squared_cosine(codes[:1])) == 0
    method, *_ = build(ROWS["ebgan"], "model.pulling_away=0.3")
    fake = method.sample(6)
    codes = method.discriminator.encoder(fake)
    expected = -method.discriminator(fake).mean() + 0.3 * mean_squared_cosine(codes)
    torch.testing.assert_close(method.generator_loss(fake, fake), expected)


# --- R3GAN


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 28, 28), (2, 9, 17), (3, 64, 64)])
def test_r3gan_is_for_any_size(shape: tuple[int, int, int]) -> None:
    x = r3gan.Generator(5, shape, width=16)(torch.randn(2, 5))
    assert x.shape == (2, *shape) and x.abs().max() <= 1
    discriminator = r3gan.Discriminator(shape, width=16)
    assert discriminator(x).shape == (2,) and not uses_batch_statistics(discriminator)
    assert r3gan.narrowing([(16, 9), (32, 32), (33, 8), (64, 64), (256, 256)], 64) == [64, 64, 32, 32, 8]


def test_r3gan_has_no_norm_and_groups_of_a_size() -> None:
    for network in (r3gan.Generator(5, (3, 32, 32), width=32), r3gan.Discriminator((3, 32, 32), width=32)):
        kinds = {type(m).__name__ for m in network.modules()}
        assert not any("Norm" in kind for kind in kinds)
        blocks = [m for m in network.modules() if isinstance(m, r3gan.Block)]
        assert len(blocks) == 8  # two at each of 4, 8, 16 and 32 pixels
        assert all(block.conv2.weight.shape == (64, 16, 3, 3) for block in blocks)
    with pytest.raises(UserError, match="groups of 16"):
        r3gan.Discriminator((3, 32, 32), width=12)


def test_r3gans_blocks_start_as_the_identity_with_small_weights() -> None:
    """Fix-up: L blocks of m = 3 layers, scaled by L^(-1 / (2m - 2)); the last layer is 0."""
    block = r3gan.Block(128, 16, blocks=16)
    x = torch.randn(2, 128, 5, 5)
    assert torch.equal(block(x), x)
    he = lambda fan_in: (2 / (1 + 0.2**2)) ** 0.5 / fan_in**0.5
    assert float(block.conv1.weight.std()) == pytest.approx(he(128) / 2, rel=0.05)
    assert float(block.conv2.weight.std()) == pytest.approx(he(16 * 9) / 2, rel=0.05)
    assert float(block.conv1.bias.abs().max()) == 0 and block.conv3.bias is None
    block(x).square().sum().backward()
    assert block.conv3.weight.grad is not None and block.conv3.weight.grad.abs().max() > 0


def test_r3gan_plays_the_relativistic_game_with_both_penalties(build: Any) -> None:
    """L_D = E f(D(G(z)) - D(x)) + weight / 2 (R1 + R2); L_G = E f(D(x) - D(G(z))); f = softplus."""
    method, data, _ = build(ROWS["r3gan"], "model.penalty.weight=0.5")
    x = next(iter(data.loader("train"))).x
    fake = method.sample(len(x)).detach()
    slopes = []
    for image in (x, fake):
        leaf = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(method.discriminator(leaf).sum(), leaf)
        slopes.append(gradient.square().sum((1, 2, 3)).mean())
    apart = method.discriminator(x) - method.discriminator(fake)
    f = lambda t: (1 + t.exp()).log().mean()
    torch.testing.assert_close(method.discriminator_loss(x, fake), f(-apart) + 0.25 * sum(slopes), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.generator_loss(x, fake), f(apart), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "word", "line"),
    [
        ("began", "model.gamma=2", "from 0 to 1"),
        ("ebgan", "model.pulling_away=-1", "not be negative"),
        ("ebgan", "model.objective.margin=0", "positive"),
        ("r3gan", "model.discriminator.width=9", "groups of 16"),
        ("sngan", "data.size=6", "too small"),
    ],
)
def test_what_makes_no_sense_is_refused(model: str, word: str, line: str, build: Any) -> None:
    with pytest.raises(InstantiationException) as caught:
        build(ROWS[model], word)
    assert isinstance(caught.value.__cause__, UserError) and line in str(caught.value.__cause__)


# --- InfoGAN's networks


def test_infogans_networks_are_table_1() -> None:
    generator, discriminator = infogan.Generator(74, (1, 28, 28)).eval(), infogan.Discriminator((1, 28, 28)).eval()
    # 74 numbers; 1024; 7x7x128; 64 channels at 14; the image at 28. Batch norm: two weights a channel, none of a bias
    wide, deep = 7 * 7 * 128, 16 * 64
    ours = sum(p.numel() for p in generator.parameters())
    assert ours == 74 * 1024 + 2 * 1024 + 1024 * wide + 2 * wide + 128 * deep + 2 * 64 + deep + 1
    ours = sum(p.numel() for p in discriminator.parameters())
    assert ours == (deep + 64) + 128 * deep + 2 * 128 + wide * 1024 + 2 * 1024 + (1024 + 1)
    x = torch.rand(2, 1, 28, 28)
    assert maps(discriminator, nn.Conv2d, x) == [(64, 14, 14), (128, 7, 7)]
    assert maps(generator, nn.ConvTranspose2d, torch.randn(2, 74)) == [(64, 14, 14), (1, 28, 28)]
    with torch.no_grad():
        assert torch.equal(discriminator(x), discriminator.score(discriminator.features(x)))
    answer = AuxiliaryDiscriminator(discriminator, (1, 28, 28), 14, [128], batch_norm=True).answer
    assert [type(part).__name__ for part in answer] == ["Flatten", "Linear", "BatchNorm1d", "LeakyReLU", "Linear"]


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 11, 26), (1, 32, 32)])
def test_infogans_networks_take_any_size(shape: tuple[int, int, int]) -> None:
    x = infogan.Generator(6, shape, width=4, hidden=8)(torch.randn(3, 6))
    assert x.shape == (3, *shape) and x.abs().max() <= 1
    assert infogan.Discriminator(shape, width=4, hidden=8)(x).shape == (3,)
    with pytest.raises(UserError, match="at least 5 pixels"):
        infogan.Discriminator((1, 4, 9))
