"""Random views against torchvision, colorsys and written-out references."""

import colorsys
import math

import pytest
import torch
from torchvision.transforms import functional as reference

from unlabeled.nn.augment.views import Views, turn

STILL = {
    "scale": (1.0, 1.0),
    "ratio": (1.0, 1.0),
    "flip": 0.0,
    "jitter": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "grey": 0.0,
    "blur": 0.0,
}


def images(n=8, channels=3, height=16, width=16, seed=0):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def unit(x):
    return (x + 1) / 2


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_asked_nothing_changed(channels):
    x = images(channels=channels)
    torch.testing.assert_close(Views(**STILL)(x), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_every_image_has_its_own_draw_within_range(channels, size):
    x = images(1, channels, *size).expand(16, -1, -1, -1)
    torch.manual_seed(0)
    y = Views(blur=0.5)(x)
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1
    distances = torch.cdist(y.flatten(1), y.flatten(1)) + torch.eye(16) * 9
    assert distances.min() > 1e-2


def test_parts_are_drawn_per_image():
    """Each of flip, jitter, grey and blur changes some of many copies and leaves the others exactly alone."""
    x = images(1).expand(64, -1, -1, -1)
    for part in (
        {"flip": 0.5},
        {"jitter": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        {"grey": 0.5},
        {"blur": 0.5},
    ):
        torch.manual_seed(0)
        same = torch.isclose(Views(**(STILL | part))(x), x, atol=1e-5).flatten(1).all(1)
        assert 16 <= same.sum() <= 48, part


def test_a_seed_decides():
    x, views = images(), Views(blur=0.5)
    torch.manual_seed(3)
    first, second = views(x), views(x)
    torch.manual_seed(3)
    assert torch.equal(views(x), first)
    assert not torch.equal(first, second)


def test_flip_mirrors():
    x = images()
    torch.testing.assert_close(Views(**(STILL | {"flip": 1.0}))(x), x.flip(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "grey"])
def test_colours_as_torchvision(part, channels, monkeypatch):
    """One factor at a time, read back from the draw, against torchvision's function of it."""
    x = images(channels=channels)
    draws = []
    monkeypatch.setattr("unlabeled.nn.augment.views.uniform", recorded(draws))
    torch.manual_seed(1)
    setting = {"grey": 1.0} if part == "grey" else {"jitter": 1.0, part: 0.8}
    y = Views(**(STILL | setting))(x)
    place = {"brightness": 0, "contrast": 1, "saturation": 2, "grey": 0}[part]
    factors = [d for d in draws if d.shape == (8,)][2 + place]  # after the two of the crop's corner
    for got, image, factor in zip(unit(y), unit(x), factors, strict=True):
        if part == "grey":
            want = reference.rgb_to_grayscale(image, 3) if channels == 3 else image
        elif part == "saturation" and channels == 1:
            want = image
        else:
            want = getattr(reference, f"adjust_{part}")(image, factor.item())
        torch.testing.assert_close(got, want, atol=2e-3, rtol=0)  # torchvision's grey weighs 0.2989


def recorded(draws):
    def uniform(size, low, high, like):
        draws.append(torch.rand(size) * (high - low) + low)
        return draws[-1]

    return uniform


@pytest.mark.parametrize("share", [-0.1, 0.03, 0.2, 1 / 3])
def test_hue_moves_as_in_hsv(share):
    """The hue of HSV moves by the angle to within 2.5 degrees, for colours of any hue; grey stays."""
    turned = turn(torch.tensor([2 * math.pi * share]))[0]
    for step in range(24):
        colour = colorsys.hsv_to_rgb(step / 24, 0.5, 0.5)
        hue = colorsys.rgb_to_hsv(*(turned @ torch.tensor(colour)).tolist())[0]
        moved = (hue - step / 24 - share + 0.5) % 1 - 0.5
        assert abs(moved) < 2.5 / 360
    torch.testing.assert_close(turned @ torch.full((3,), 0.4), torch.full((3,), 0.4))


def test_a_third_of_a_turn_takes_red_to_green():
    torch.testing.assert_close(
        turn(torch.tensor([2 * math.pi / 3]))[0] @ torch.tensor([1.0, 0, 0]),
        torch.tensor([0.0, 1, 0]),
        atol=1e-6,
        rtol=0,
    )


def test_hue_turns_images():
    x = torch.tensor([0.6, -0.2, -0.2])[None, :, None, None].expand(200, 3, 4, 4)  # a red
    torch.manual_seed(0)
    y = unit(Views(**(STILL | {"jitter": 1.0, "hue": 0.2}))(x))[:, :, 0, 0]
    hues = torch.tensor([(colorsys.rgb_to_hsv(*c.tolist())[0] + 0.5) % 1 - 0.5 for c in y])
    assert hues.abs().max() < 0.2 + 0.01 and hues.max() > 0.15 and hues.min() < -0.15


def test_crops_as_cut_and_resized(monkeypatch):
    """A crop that falls on pixel edges is torchvision's resized_crop, away from its rim."""
    side = 32
    ramp = torch.nn.functional.interpolate(images(1, 3, 6, 6), side, mode="bicubic").clamp(-1, 1)
    # share of area 1/4 at ratio 1: a 16x16 crop; the corner's draw d in [-1, 1] puts it at 8 + 8 d
    values = iter(
        [
            torch.full((1, 10), side * side / 4 / side**2),
            torch.zeros(1, 10),
            torch.tensor([0.5]),
            torch.tensor([-0.25]),
        ]
    )

    def uniform(size, low, high, like):
        value = next(values, None)
        return torch.rand(size) * (high - low) + low if value is None else value

    monkeypatch.setattr("unlabeled.nn.augment.views.uniform", uniform)
    got = Views(**(STILL | {"scale": (0.25, 0.25)})).cropped(ramp)
    want = reference.resized_crop(ramp, 6, 12, 16, 16, [side, side], antialias=False)
    torch.testing.assert_close(got[:, :, 1:-1, 1:-1], want[:, :, 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_crops_have_the_areas_and_ratios_asked_for():
    """Read back from what a crop does to a ramp of x and a ramp of y."""
    across = torch.linspace(-1 + 1 / 64, 1 - 1 / 64, 64)
    x = torch.stack([across.expand(64, 64), across[:, None].expand(64, 64)]).expand(400, 2, 64, 64)
    torch.manual_seed(0)
    y = Views(**(STILL | {"scale": (0.2, 0.8), "ratio": (0.75, 4 / 3)})).cropped(x)
    wide = (y[:, 0, 32, 40] - y[:, 0, 32, 24]) / (across[40] - across[24])
    high = (y[:, 1, 40, 32] - y[:, 1, 24, 32]) / (across[40] - across[24])
    area, ratio = wide * high, wide / high
    assert 0.2 - 1e-3 < area.min() < 0.22 and 0.75 < area.max() < 0.8 + 1e-3
    assert 0.75 - 1e-3 < ratio.min() < 0.77 and 1.30 < ratio.max() < 4 / 3 + 1e-3
    centre = (y[:, 0, 32, 31] + y[:, 0, 32, 32]) / 2
    assert (centre.abs() + wide <= 1 + 1e-3).all()  # within the image
    assert centre.min() < -0.3 and centre.max() > 0.3


def test_blur_is_gaussian(monkeypatch):
    x = images(height=40, width=40)
    monkeypatch.setattr("unlabeled.nn.augment.views.uniform", lambda size, low, high, like: torch.full(size, 1.1))
    got = Views(**(STILL | {"blur": 1.0})).blurred(x)
    want = reference.gaussian_blur(x, [5, 5], [1.1, 1.1])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_type(dtype):
    y = Views(blur=0.5)(images().to(dtype))
    assert y.dtype == dtype and torch.isfinite(y).all()


def test_autocast_changes_nothing():
    x, views = images(), Views(blur=0.5)
    torch.manual_seed(0)
    plain = views(x)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views(x), plain)
