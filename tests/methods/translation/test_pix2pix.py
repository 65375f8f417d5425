"""pix2pix against its equations, its networks and its ablations."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, mse_loss

from unlabeled.batches import Paired
from unlabeled.errors import UserError
from unlabeled.losses.adversarial import LeastSquares, NonSaturating
from unlabeled.losses.distance import AbsoluteError
from unlabeled.methods.translation.paired_regression import PairedRegression
from unlabeled.methods.translation.pix2pix import Pix2Pix
from unlabeled.nn.translation.patch_discriminator import (
    ConditionalDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
    UnconditionalDiscriminator,
)
from unlabeled.nn.translation.unet import EncoderDecoder, UNet

SHAPE = (3, 32, 32)
Adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(**settings: Any) -> Pix2Pix:
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "generator": UNet(SHAPE, width=4),
        "discriminator": ConditionalDiscriminator(PatchDiscriminator(SHAPE, width=4, images=2)),
        "objective": NonSaturating(),
    }
    optimizers = {"generator_optimizer": Adam, "discriminator_optimizer": Adam}
    return Pix2Pix(**(parts | optimizers | {"schedule": lambda progress: 1.0} | settings))


# Networks


def test_parameters_of_the_paper() -> None:
    """Published with batch norm, whose scales and shifts take the place of biases: 54.414M and 2.769M."""
    count = lambda network: sum(p.numel() for p in network.parameters() if p.ndim > 1)
    generator, discriminator = UNet((3, 256, 256)), PatchDiscriminator((3, 256, 256), images=2)
    norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
    assert count(generator) + norms + 3 == 54_413_955
    assert count(discriminator) + 2 * (128 + 256 + 512) + 64 + 1 == 2_768_705


@pytest.mark.parametrize("network", [UNet, EncoderDecoder])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 33, 50), (3, 28, 28), (1, 47, 4)])
def test_any_size_and_channels(network: Any, shape: tuple[int, int, int]) -> None:
    x = images(2, *shape)
    y = network(shape, width=2)(x)
    assert y.shape == x.shape and y.abs().max() <= 1


def test_an_image_has_as_many_levels_as_halvings() -> None:
    seen: list[tuple[int, ...]] = []
    network = UNet((3, 64, 64), width=2)
    network.down[-1].register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[2:])))
    network(images(1, 3, 64, 64))
    assert seen == [(1, 1)] and len(network.down) == 6


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 27, 41)])
def test_an_impulse_comes_out_where_it_went_in(shape: tuple[int, int, int]) -> None:
    """The outermost level alone: inner ones answer all over the image, and norms do too."""
    torch.manual_seed(0)
    _, height, width = shape
    network = UNet(shape, width=32, dropout=0.0)
    for up in network.up:
        up.register_forward_hook(lambda module, given, made: torch.zeros_like(made))
    x = torch.zeros(1, *shape)
    for row, column in ((0, 0), (5, 12), (height - 1, width - 1), (height // 2, 3)):
        lit = x.clone()
        lit[..., row, column] = 1
        answer = (network(lit) - network(x))[0, 0].abs()
        rows, columns = torch.nonzero(answer > 1e-7, as_tuple=True)
        assert rows.min() <= row <= rows.max() and rows.max() - rows.min() < 8
        assert columns.min() <= column <= columns.max() and columns.max() - columns.min() < 8


@pytest.mark.parametrize(("network", "reach"), [(UNet, True), (EncoderDecoder, False)])
def test_skips_reach_the_last_layer(network: Any, reach: bool) -> None:
    model = network((1, 32, 32), width=4, dropout=0.0)
    for up in model.up:
        up.register_forward_hook(lambda module, given, made: torch.zeros_like(made))
    assert (not torch.equal(model(images(1, 1, 32, 32)), model(images(1, 1, 32, 32, seed=1)))) is reach


def test_the_innermost_level_learns_from_a_single_image() -> None:
    """A norm there would leave zeros of its one pixel."""
    torch.manual_seed(0)
    network = UNet(SHAPE, width=4, dropout=0.0)
    network(images(1, *SHAPE)).square().mean().backward()
    for layer in (network.down[-1][1], network.up[0][1]):
        assert layer.weight.grad is not None and layer.weight.grad.abs().max() > 0


def test_dropout_stays_on_and_the_seed_fixes_it() -> None:
    method, x = small().eval(), images(2, *SHAPE)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return method.translate(x)

    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))
    quiet = UNet(SHAPE, width=4, dropout=0.0)
    assert torch.equal(quiet(x), quiet(x))


def test_rows_do_not_affect_each_other() -> None:
    network, x = UNet(SHAPE, width=4, dropout=0.0).double(), images(3, *SHAPE).double()
    torch.testing.assert_close(network(x), torch.cat([network(one) for one in x.split(1)]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("halvings", "field"), [(0, 1), (1, 16), (3, 70), (5, 286)])
def test_the_field_of_a_score(halvings: int, field: int) -> None:
    side = max(64, 2 * field)
    network: Any = (
        PatchDiscriminator((1, side, side), width=1, halvings=halvings)
        if halvings
        else PixelDiscriminator((1, side, side), width=1)
    )
    # Without the norms, whose statistics see everything.
    network.layers = nn.Sequential(*(m for m in network.layers if not isinstance(m, nn.InstanceNorm2d)))
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    x = images(1, 1, side, side).requires_grad_()
    scores = network(x)
    middle = scores.shape[-1] // 2
    scores[0, middle, middle].backward()
    assert x.grad is not None
    rows, columns = torch.nonzero(x.grad[0, 0], as_tuple=True)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == field


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: UNet((1, 3, 9)), "4x4, not 3x9"),
        (lambda: UNet(SHAPE, levels=1), "levels=1 must be 2 or more"),
        (lambda: UNet(SHAPE, dropout=1.0), r"dropout=1.0 lie in \[0, 1\)"),
        (lambda: UNet(SHAPE, dropout=float("nan")), r"dropout=nan lie in \[0, 1\)"),
        (lambda: PatchDiscriminator((1, 64, 64), halvings=5), "286x286 .* at least 128x128, not 64x64"),
        (lambda: PatchDiscriminator((1, 7, 9), halvings=1), "16x16 .* at least 8x8, not 7x9"),
        (lambda: PatchDiscriminator(SHAPE, halvings=0), "halvings=0 must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


# The losses


def test_losses_are_the_equations() -> None:
    method = small(l1_weight=7.0)
    a, b, fake = (images(2, *SHAPE, seed=seed) for seed in range(3))
    real_scores, fake_scores = (method.discriminator.network(torch.cat([a, x], 1)) for x in (b, fake))
    bce = lambda scores, label: binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))
    torch.testing.assert_close(
        method.discriminator_loss(a, b, fake), (bce(real_scores, 1.0) + bce(fake_scores, 0.0)) / 2
    )
    torch.testing.assert_close(method.generator_loss(a, b, fake), bce(fake_scores, 1.0) + 7 * l1_loss(fake, b))


def test_each_ablation_drops_its_term_only() -> None:
    a, b, fake = (images(2, *SHAPE, seed=seed) for seed in range(3))
    full, gan = small(), small(l1_weight=0.0)
    torch.testing.assert_close(full.generator_loss(a, b, fake) - gan.generator_loss(a, b, fake), 100 * l1_loss(fake, b))
    assert torch.equal(full.discriminator_loss(a, b, fake), gan.discriminator_loss(a, b, fake))
    blind = small(discriminator=UnconditionalDiscriminator(PatchDiscriminator(SHAPE, width=4)))
    for loss in (blind.discriminator_loss, blind.generator_loss):
        assert torch.equal(loss(a, b, fake), loss(-a, b, fake))
    for loss in (full.discriminator_loss, full.generator_loss):
        assert not torch.equal(loss(a, b, fake), loss(-a, b, fake))
    squares = small(objective=LeastSquares(), l1_weight=0.0)
    scores = squares.discriminator(a, fake)
    torch.testing.assert_close(squares.generator_loss(a, b, fake), mse_loss(scores, torch.ones_like(scores)) / 2)


def test_the_regression_is_the_absolute_error() -> None:
    generator = UNet(SHAPE, width=4, dropout=0.0)
    method = PairedRegression(generator, AbsoluteError(), Adam, lambda progress: 1.0)
    a, b = images(2, *SHAPE), images(2, *SHAPE, seed=1)
    torch.testing.assert_close(method.loss(Paired(a, b)), 3 * 32 * 32 * l1_loss(generator(a), b))
    recorded = method.recorded[-1]
    torch.testing.assert_close(recorded["train/loss"], 3 * 32 * 32 * recorded["train/l1"])
    assert torch.equal(method.translate(a), generator(a))


@pytest.mark.parametrize(
    ("model", "differs"),
    [
        ("pix2pix_gan", {"l1_weight": 0.0}),
        (
            "pix2pix_unconditional",
            {"discriminator._target_": "UnconditionalDiscriminator", "discriminator.network.images": 1},
        ),
        ("pix2pix_without_skips", {"generator._target_": "EncoderDecoder"}),
    ],
)
def test_an_ablation_changes_one_thing(resolve: Any, model: str, differs: dict[str, Any]) -> None:
    from unlabeled.app.run.changes import differences, flatten

    words = ("data=plain2striped_pairs", "data_root=unused")
    configs = (flatten(resolve(f"model={name}", *words)["model"]) for name in ("pix2pix", model))
    found = {".".join(place): value for place, (_, value) in differences(*configs).items()}
    assert {k: v.rpartition(".")[2] if isinstance(v, str) else v for k, v in found.items()} == differs
