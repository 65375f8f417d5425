"""How alike images are: by hand, against references, and never through a network connection."""

import math
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unlabeled.batches import Images, from_uint8, to_uint8
from unlabeled.data.kinds.images import ImageTable
from unlabeled.errors import UserError
from unlabeled.evaluation.metrics.reconstruction import Reconstruction
from unlabeled.evaluation.metrics.similarity import LPIPS, distances
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.study import Study

CPU = torch.device("cpu")


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def grey(*levels: int, side: int = 16) -> Tensor:
    return from_uint8(torch.tensor(levels, dtype=torch.uint8)).view(-1, 1, 1, 1).expand(-1, 3, side, side)


@pytest.fixture(scope="module")
def alexnet() -> dict[str, Tensor]:
    """An AlexNet's state, drawn from a seed and not from ImageNet."""
    from torchvision.models import alexnet

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return alexnet(weights=None).state_dict()


@pytest.fixture(scope="module")
def weights(alexnet: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / LPIPS.FILE
    torch.save({name: value for name, value in alexnet.items() if name.startswith("features.")}, file)
    return file


# By hand


def test_distances_by_hand() -> None:
    found = distances(grey(110, 50), grey(100, 50))
    assert found["mse"].tolist() == pytest.approx([(10 / 255) ** 2, 0], abs=1e-9)
    assert found["mae"].tolist() == pytest.approx([10, 0], abs=1e-4)
    exact = 20 * math.log10(255) + 10 * math.log10(3 * 16 * 16)  # one level off in one value
    assert found["psnr"].tolist() == pytest.approx([20 * math.log10(25.5), exact], abs=1e-4)
    x, y = 110 / 255, 100 / 255  # no variance: only the means differ; the constant is 0.01^2
    flat = (2 * x * y + 1e-4) / (x * x + y * y + 1e-4)
    assert found["ssim"].tolist() == pytest.approx([flat, 1], abs=1e-3)


def test_ssim_is_the_papers_equation() -> None:
    """Wang et al. 2004, equation 13, of levels 0 to 255, around every pixel; borders are reflected."""
    x, y = images(1, 1, 20, 24), images(1, 1, 20, 24, seed=1) * 0.3
    y = (x + y).clamp(-1, 1)
    t = torch.arange(11, dtype=torch.float64) - 5
    window = torch.outer((-(t**2) / 4.5).exp(), (-(t**2) / 4.5).exp())
    window /= window.sum()
    around = lambda image: torch.nn.functional.pad(image.double(), (5, 5, 5, 5), mode="reflect")[0, 0]
    a, b = ((127.5 * (around(image) + 1)).unfold(0, 11, 1).unfold(1, 11, 1) for image in (x, y))
    mean = lambda values: (values * window).sum((2, 3))
    variance_a, variance_b = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2
    covariance = mean(a * b) - mean(a) * mean(b)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean(a) * mean(b) + c1) / (mean(a) ** 2 + mean(b) ** 2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    assert distances(x, y)["ssim"].item() == pytest.approx((luminance * structure).mean().item(), abs=1e-6)


def test_what_is_out_of_range_counts_as_the_end_of_the_range() -> None:
    assert distances(torch.full((1, 1, 16, 16), 3.0), torch.ones(1, 1, 16, 16))["mse"] == 0


@pytest.mark.parametrize(("side", "there"), [(8, False), (10, False), (11, True)])
def test_ssim_needs_a_whole_window(side: int, there: bool) -> None:
    found = distances(images(2, 1, side, side), images(2, 1, side, side, seed=1))
    assert ("ssim" in found) is there and all(value.isfinite().all() for value in found.values())


def test_each_image_is_on_its_own() -> None:
    x, y = images(5, 3, 16, 16), images(5, 3, 16, 16, seed=1)
    for name, each in distances(x, y).items():
        assert each.dtype == torch.float64 and each.shape == (5,)
        torch.testing.assert_close(each[3:4], distances(x[3:4], y[3:4])[name])


# Reconstruction


class Darker:
    """Gives back every image three levels darker, plus a third of a level, which no file could hold."""

    device = CPU

    def reconstruct(self, x: Tensor) -> Tensor:
        return x - 3.3 / 127.5


class Data:
    def __init__(self, levels: Tensor):
        self.rows, self.batch, self.shape = levels, Images, tuple(levels.shape[1:])

    def table(self, split: str) -> Any:
        return ImageTable(self.rows, torch.zeros(len(self.rows), dtype=torch.int64))


def study(side: int = 16, n: int = 5, **settings: Any) -> Study:
    return Study(Darker(), Data(to_uint8(images(n, 1, side, side).abs())), **settings)


def test_reconstructions_are_compared_as_files_hold_them() -> None:
    of = study()
    numbers = {number.name: number for number in Reconstruction().measure(of)}
    assert set(numbers) == {"reconstruction_mse", "reconstruction_psnr", "reconstruction_ssim"}
    mse, psnr, ssim = numbers.values()
    assert mse.value == pytest.approx((3 / 255) ** 2, rel=1e-5) and mse.better == "lower"
    assert psnr.value == pytest.approx(20 * math.log10(85), abs=1e-4) and psnr.unit == "dB"
    levels = of.data.rows.double() / 255
    assert mse.facts["baseline_value"] == pytest.approx((levels - levels.mean(0)).square().mean().item())
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    x = of.data.rows.float()
    reference = StructuralSimilarityIndexMeasure(data_range=255.0)
    assert ssim.value == pytest.approx(float(reference(x - 3, x)), abs=1e-5)
    assert ssim.better == "higher" and ssim.facts["images"] == 5


def test_without_weights_lpips_is_left_out_with_one_line() -> None:
    of = study()
    Reconstruction().measure(of)
    (note,) = of.notes
    for word in (LPIPS.FILE, "7be5be79", "evaluation.lpips_weights="):
        assert word in note


def test_with_weights_it_is_there_with_what_it_saw(weights: Path) -> None:
    of = study()
    numbers = {number.name: number for number in Reconstruction(str(weights)).measure(of)}
    lpips = numbers["reconstruction_lpips"]
    given, x = from_uint8(of.data.rows - 3), from_uint8(of.data.rows)
    assert lpips.value == pytest.approx(LPIPS(weights, CPU)(given, x).mean().item(), rel=1e-5) and lpips.value > 0
    assert lpips.better == "lower" and lpips.facts["seen_at"] == "32x32"
    assert lpips.facts["weights"].startswith("alexnet@") and "7be5be79" in of.notes[0]  # these are others


def test_a_second_process_says_nothing(weights: Path) -> None:
    class Follows(Ranks):
        def gather(self, own: Any) -> list[Any]:
            return [own]

    assert Reconstruction().measure(study(n=250, ranks=Follows(1, 2))) == []


# LPIPS


def test_lpips_is_the_reference_on_the_same_weights(
    alexnet: dict[str, Tensor], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchmetrics' own metric, where its download is handed the file's network."""
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: alexnet)
    reference = LearnedPerceptualImagePatchSimilarity(net_type="alex")
    ours = LPIPS(weights, CPU)
    x, y = images(3, 3, 64, 48), images(3, 3, 64, 48, seed=1)
    found = ours(x, y)
    assert found.shape == (3,) and found.dtype == torch.float64
    assert found.mean().item() == pytest.approx(float(reference(x, y)), rel=1e-6)
    assert found[1].item() == pytest.approx(float(reference(x[1:2], y[1:2])), rel=1e-5) and found.min() > 0
    torch.testing.assert_close(ours(y, x), found)
    assert ours(x, x).abs().max() == 0
    assert ours(x, 0.9 * x + 0.1 * y).max() < found.min()  # nearer images, smaller distance


def test_grey_and_small_images(weights: Path) -> None:
    ours = LPIPS(weights, CPU)
    x, y = images(2, 1, 28, 28), images(2, 1, 28, 28, seed=1)
    wide = lambda image: torch.nn.functional.interpolate(
        image.expand(-1, 3, -1, -1), (56, 56), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(ours(x, y), ours(wide(x), wide(y)))
    assert ours.facts((1, 28, 28))["seen_at"] == "56x56" and ours.facts((3, 32, 40))["seen_at"] == "32x40"
    assert ours(images(1, 3, 8, 20), images(1, 3, 8, 20, seed=1)).isfinite().all()
    assert ours(3 * x, y).tolist() == ours((3 * x).clamp(-1, 1), y).tolist()


def test_the_noise_of_others_is_left_alone(weights: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    LPIPS(weights, CPU)
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_is_downloaded(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a network call")

    for name in ("torch.hub.load_state_dict_from_url", "torchvision.models._api.load_state_dict_from_url"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    assert {n.name for n in Reconstruction(str(weights)).measure(study())} >= {"reconstruction_lpips"}
    assert len(Reconstruction().measure(study())) == 3


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


BAD: dict[str, Any] = {
    "missing": None,
    "text": b"no weights at all",
    "code": Evil(),
    "other": {"features.0.weight": torch.zeros(3), "features.0.bias": torch.zeros(64)},
    "empty": {},
    "tensor": torch.zeros(3),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_file_is_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(BAD[kind], bytes):
        file.write_bytes(BAD[kind])
    elif kind != "missing":
        torch.save(BAD[kind], file)
    with pytest.raises(UserError, match=f"lpips_weights=.*{LPIPS.FILE}") as raised:
        LPIPS(file, CPU)
    assert "\n" not in str(raised.value) and "code ran" not in capsys.readouterr().out
