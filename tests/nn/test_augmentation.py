"""What stands between images and a discriminator: DiffAugment and ADA, their draws, gradients and controller."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.contract.cases import CASES
from tests.contract.test_contract import assert_resumes, run
from unlabeled.errors import UserError
from unlabeled.nn.augment.adaptive_augmentation import AdaptiveAugmentation, rotation, scaling, translation, warp
from unlabeled.nn.augment.diff_augment import DiffAugment

ROWS = {case.model: case for case in CASES}
NOTHING = {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0, "translation": 0.0, "cutout": 0.0}
MANY = 4000


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def only(**strength: float) -> DiffAugment:
    return DiffAugment(**(NOTHING | strength))


def image(*shape: int) -> Tensor:
    return torch.rand(*shape) * 2 - 1


def alike(values: Tensor, low: float, high: float) -> None:
    """Uniform between low and high: bounds, mean and variance."""
    assert low - 1e-4 <= values.min() < low + 0.02 * (high - low)
    assert high + 1e-4 >= values.max() > high - 0.02 * (high - low)
    assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert float(values.var()) == pytest.approx((high - low) ** 2 / 12, rel=0.1)


# --- DiffAugment


def test_diff_augment_of_no_strength_is_the_image() -> None:
    x = image(5, 3, 7, 6)
    torch.testing.assert_close(only()(x), x)


def test_brightness_is_added() -> None:
    x = image(1, 3, 2, 2).expand(MANY, -1, -1, -1)
    added = (only(brightness=0.5)(x) - x).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=0)
    alike(added[:, 0], -0.5, 0.5)


def test_saturation_scales_about_each_pixels_grey() -> None:
    x = image(1, 3, 2, 2).expand(MANY, -1, -1, -1)
    y = only(saturation=1.0)(x)
    torch.testing.assert_close(y.mean(1), x.mean(1))
    factor = (y - y.mean(1, keepdim=True)).flatten(1).norm(dim=1) / (x - x.mean(1, keepdim=True)).flatten(1).norm(dim=1)
    alike(factor, 0, 2)
    grey = image(4, 1, 5, 5)
    torch.testing.assert_close(only(saturation=1.0)(grey), grey)


def test_contrast_scales_about_the_images_mean() -> None:
    x = image(1, 3, 2, 2).expand(MANY, -1, -1, -1)
    y, flat = only(contrast=0.5)(x).flatten(1), x.flatten(1)
    torch.testing.assert_close(y.mean(1), flat.mean(1), atol=1e-5, rtol=1e-4)
    alike((y - y.mean(1, keepdim=True))[:, 0] / (flat - flat.mean(1, keepdim=True))[:, 0], 0.5, 1.5)


def test_translation_is_by_whole_pixels_and_zeros_come_in() -> None:
    x = image(1, 2, 8, 16).expand(MANY, -1, -1, -1)
    y = only(translation=0.125)(x)
    wide = torch.nn.functional.pad(x[0], (2, 2, 1, 1))
    shifted = torch.stack([wide[:, dy : dy + 8, dx : dx + 16] for dy in range(3) for dx in range(5)])
    same = ((y[:, None] - shifted).abs() < 1e-5).flatten(2).all(2)  # (MANY, 15)
    assert same.sum(1).eq(1).all()
    assert same.float().mean(0).sub(1 / 15).abs().max() < 0.02


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_cutout_is_half_of_each_side_anywhere(size: tuple[int, int]) -> None:
    y = only(cutout=0.5)(torch.ones(MANY, 2, *size))
    assert torch.equal(y[:, 0], y[:, 1]) and set(y.unique().tolist()) == {0.0, 1.0}
    hole = y[:, 0] == 0
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])  # a rectangle
    for side, n in zip((rows, columns), size, strict=True):
        assert side.sum(1).max() == int(n / 2 + 0.5) and side.sum(1).min() >= n // 4
        often = side.float().mean(0)
        assert (often - often.flip(0)).abs().max() < 0.04  # no side is favoured


def test_each_image_has_draws_of_its_own() -> None:
    x = image(1, 3, 8, 8).expand(6, -1, -1, -1)
    for part in (DiffAugment(), AdaptiveAugmentation(p=1.0)):
        y = part(x)
        assert y.shape == x.shape and len({tuple(one.flatten().tolist()) for one in y}) == 6


@pytest.mark.parametrize("part", [DiffAugment(), AdaptiveAugmentation(p=0.9)], ids=["diff_augment", "ada"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_gradient_is_that_of_finite_differences(part: Any, channels: int) -> None:
    x = torch.randn(2, channels, 6, 5, requires_grad=True)
    weight, direction = torch.randn(2, channels, 6, 5), torch.randn(2, channels, 6, 5)

    def seen(x: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same draws
        return (part(x) * weight).sum()

    (gradient,) = torch.autograd.grad(seen(x), [x])
    slope = (seen(x + 0.5 * direction) - seen(x - 0.5 * direction)).detach()  # the map is affine
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-3, atol=1e-3)
    assert gradient.flatten(1).abs().sum(1).min() > 0


# --- ADA's transformations


def test_ada_at_p_0_is_the_image_bitwise() -> None:
    x = image(4, 3, 9, 8).requires_grad_()
    y = AdaptiveAugmentation()(x)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones_like(x))


def test_warping_is_blitting_where_the_map_is() -> None:
    x, on = image(2, 3, 6, 6), torch.ones(2)
    turned = warp(x, rotation(on * math.pi / 2))
    torch.testing.assert_close(turned, x.rot90(1, (2, 3)), atol=1e-5, rtol=1e-4)
    x = image(2, 3, 6, 9)
    torch.testing.assert_close(warp(x, scaling(-on, on)), x.flip(3), atol=1e-5, rtol=1e-4)
    moved = warp(x, translation(2 * on, -on))
    torch.testing.assert_close(moved[:, :, 1:, :-2], x[:, :, :-1, 2:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved[:, :, :, -2:], moved[:, :, :, -4:-2].flip(3), atol=1e-5, rtol=1e-4)  # mirrored
    wide = warp(x, scaling(on / 2, on))  # twice as wide: each pixel between two of its neighbors
    torch.testing.assert_close(wide[..., 4], x[..., 4], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(wide[..., 5], x[..., 4] / 2 + x[..., 5] / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_geometry_is_drawn_as_in_appendix_b(p: float) -> None:
    """The determinant is +-s^2, of flip and scale; singular values tell the stretch; the turn is uniform."""
    part, x = AdaptiveAugmentation(p=p), torch.zeros(MANY, 1, 40, 80)
    g = part.geometry(x).double()
    linear, det = g[:, :2, :2], torch.linalg.det(g)
    assert float((det < 0).double().mean()) == pytest.approx(p / 2, abs=0.03)
    scale = det.abs().log2() / 2
    assert float((scale.abs() > 1e-5).double().mean()) == pytest.approx(p, abs=0.03)
    assert float(scale.square().mean()) == pytest.approx(p * 0.2**2, rel=0.12) and abs(float(scale.mean())) < 0.02
    values = torch.linalg.svdvals(linear)
    stretch = (values[:, 0] / values[:, 1]).log2() / 2
    assert float((stretch > 1e-5).double().mean()) == pytest.approx(p, abs=0.03)
    assert float(stretch.square().mean()) == pytest.approx(p * 0.2**2, rel=0.12)
    # a rotation by no quarter happens with probability p
    plain = (stretch < 1e-5) & (det > 0)
    if p < 1:
        angle = torch.atan2(linear[plain, 1, 0], linear[plain, 0, 0]) / (math.pi / 2)
        assert float(((angle - angle.round()).abs() > 1e-4).double().mean()) == pytest.approx(p, abs=0.04)
    else:
        angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
        assert abs(float(angle.cos().mean())) < 0.04 and abs(float(angle.sin().mean())) < 0.04


def test_translations_are_uniform_whole_pixels_and_then_normal() -> None:
    part, x = AdaptiveAugmentation(p=0.1), torch.zeros(2 * MANY, 1, 40, 80)
    g = part.geometry(x).double()
    alone = g[(g[:, :2, :2] == torch.eye(2)).flatten(1).all(1), :2, 2] / torch.tensor([80, 40])
    whole = ((alone * torch.tensor([80, 40])).round() - alone * torch.tensor([80, 40])).abs().max(1).values < 1e-6
    blit, fraction = alone[whole], alone[~whole]
    assert len(blit) > 300 and len(fraction) > 300
    assert blit.abs().max() == 0.125
    assert float(len(fraction) / len(alone)) == pytest.approx(0.1, abs=0.015)
    often = float((blit != 0).any(1).double().mean())
    assert often == pytest.approx(0.1, abs=0.015)
    moved = blit[(blit != 0).any(1)]
    assert moved.std(0).sub(0.25 / 12**0.5).abs().max() < 0.01  # uniform over a quarter of the side
    assert fraction.std(0).sub(0.125).abs().max() < 0.02


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_colours_are_drawn_as_in_appendix_b(p: float) -> None:
    part = AdaptiveAugmentation(p=p)
    a, shift = (value.double() for value in part.colours(torch.zeros(MANY, 3, 2, 2)))
    assert float(shift.square().mean()) == pytest.approx(p * 0.2**2, rel=0.12)
    grey = torch.ones(3, dtype=torch.float64) / 3**0.5
    along = (a @ grey) @ grey  # gain, negative where luma is flipped
    torch.testing.assert_close(a @ grey, along[:, None] * grey, atol=1e-5, rtol=1e-5)  # grey stays grey
    assert float((along < 0).double().mean()) == pytest.approx(p / 2, abs=0.03)
    gain = along.abs().log2()
    assert float((gain.abs() > 1e-5).double().mean()) == pytest.approx(p, abs=0.03)
    assert float(gain.square().mean()) == pytest.approx(p * 0.5**2, rel=0.12)
    red = torch.tensor([2.0, -1.0, -1.0], dtype=torch.float64) / 6**0.5  # across grey
    across = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64) / 2**0.5
    turned = a @ red / along.abs()[:, None]
    saturation = turned.norm(dim=1).log2()
    assert float((saturation.abs() > 1e-5).double().mean()) == pytest.approx(p, abs=0.03)
    assert float(saturation.square().mean()) == pytest.approx(p, rel=0.12)
    hue = torch.atan2(turned @ across, turned @ red)
    assert float((hue.abs() > 1e-4).double().mean()) == pytest.approx(p, abs=0.03)
    assert float(hue.square().mean()) == pytest.approx(p * math.pi**2 / 3, rel=0.12)
    single, _ = part.colours(torch.zeros(MANY, 1, 2, 2))
    assert single.min() > 0  # grey images are not flipped


def test_colour_is_the_affine_map_that_was_drawn() -> None:
    part, x = AdaptiveAugmentation(p=1.0), image(3, 3, 4, 5)
    torch.manual_seed(1)
    a, shift = part.colours(x)
    torch.manual_seed(1)
    torch.testing.assert_close(part.coloured(x), torch.einsum("bij,bjhw->bihw", a, x + shift[..., None]))


# --- ADA's controller


def test_the_controller_by_hand() -> None:
    part = AdaptiveAugmentation(p=0.1, target=0.6, interval=2, ramp=100)
    sure, torn = torch.tensor([2.0, 0.1, 3.0, 1.0, 5.0]), torch.tensor([2.0, -0.1, 3.0, -1.0, 5.0])
    seen = []
    for scores in (sure, torn, torn, sure[:3], torn, torn, torn, torn):
        told = part.observe(scores)
        assert told["augmentation_probability"] == part.p
        seen.append(round(float(part.p), 6))
    # r_t: (5 + 1) / 10 = 0.6 leaves p alone; (1 + 3) / 8 < 0.6 takes 8 / 100; 0.2 takes 10 / 100, but none is under 0
    assert seen == pytest.approx([0.1, 0.1, 0.1, 0.02, 0.02, 0.0, 0.0, 0.0])
    for _ in range(4):
        part.observe(sure)
    assert float(part.p) == pytest.approx(0.2)
    for _ in range(60):
        part.observe(sure)
    assert float(part.p) == 1.0


def test_p_stays_where_the_ramp_is_infinite() -> None:
    part = AdaptiveAugmentation(p=0.3, interval=1, ramp=math.inf)
    part.observe(torch.ones(4))
    assert float(part.p) == pytest.approx(0.3)


def test_nothing_waits_for_the_device() -> None:
    """What a copy to the host would need is not called."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert function not in {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
            return function(*args, **(kwargs or {}))

    part, x = AdaptiveAugmentation(p=0.5, interval=1), image(2, 3, 6, 6)
    with Watch():
        part.observe(torch.ones(2))
        part(x)
        DiffAugment()(x)


def with_ada(model: str) -> Any:
    words = ["augmentation@model.augmentation=ada", "model.augmentation.interval=3", "model.augmentation.ramp=40"]
    return dataclasses.replace(ROWS[model], overrides=[*ROWS[model].overrides, *words, "model.augmentation.p=0.5"])


def test_a_game_with_ada_resumes_bitwise(build: Any, tmp_path: Path) -> None:
    case, overrides = with_ada("dcgan"), ["data.batch_size=2", "budget.batches=6", "callbacks.records.every=3"]
    straight = run(build(case, *overrides, run="straight"), limit_val_batches=1)
    assert 0 < float(straight.augmentation.p) != 0.5
    assert_resumes(case, build, overrides, straight, tmp_path, 5)


def test_a_game_tells_ada_its_scores_of_real_images(build: Any) -> None:
    method = run(build(with_ada("dcgan"), "model.augmentation.interval=1", "budget.batches=1"))
    assert abs(float(method.augmentation.p) - 0.5) == pytest.approx(8 / 40)
    method = run(build(with_ada("dcgan"), "budget.batches=2"))
    assert (float(method.augmentation.seen), float(method.augmentation.calls)) == (16.0, 2.0)


def test_ada_stays_exact_under_autocast() -> None:
    part, x = AdaptiveAugmentation(p=1.0), image(3, 3, 8, 8)
    seen = []
    for enabled in (False, True):
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            seen.append(part(x))
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["augmentation@model.augmentation=ada", "model.augmentation.p=1.5"], "p from 0 to 1"),
        (["augmentation@model.augmentation=ada", "model.augmentation.interval=0"], "positive"),
        (["augmentation@model.augmentation=diff_augment", "model.augmentation.cutout=2"], "cutout=2"),
        (["augmentation@model.augmentation=diff_augment", "model.augmentation.contrast=-1"], "not negative"),
    ],
)
def test_strengths_out_of_range_are_refused(words: list[str], line: str, build: Any) -> None:
    with pytest.raises(InstantiationException) as caught:
        build(ROWS["dcgan"], *words)
    assert isinstance(caught.value.__cause__, UserError) and line in str(caught.value.__cause__)


def test_points_are_refused() -> None:
    for part in (DiffAugment(), AdaptiveAugmentation()):
        with pytest.raises(UserError, match="augmentation=none"):
            part(torch.zeros(4, 2))
