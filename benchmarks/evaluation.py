"""What the image metrics cost: beyond their extraction, and beside torch-fidelity on the same folders.

    python benchmarks/evaluation.py [IMAGES]

First, all metrics of 10,000 generated and 10,000 real images at 2048 features, from features that are there: seconds,
of which Inception on this machine would need thousands. Then FID, IS, KID, precision and recall of two folders of
IMAGES (default 40) PNGs each at 32x32, from the files to the numbers, with the same randomly initialised Inception:
torch-fidelity with that for everything, and as it comes, with VGG16 for precision and recall. The sides take turns.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unlabeled.data.modules import ImageData
from unlabeled.data.sources.folder import Folder
from unlabeled.evaluation import comparison
from unlabeled.evaluation.comparison import METRICS, judge
from unlabeled.evaluation.distribution import Folders
from unlabeled.evaluation.extraction import Extraction
from unlabeled.evaluation.extractors import Inception
from unlabeled.evaluation.moments import ClassSums, Moments
from unlabeled.evaluation.study import Study

N, DIM, CLASSES, ROUNDS = 10_000, 2048, 1008, 3


def extracted(seed: int) -> tuple[Extraction, float]:
    """Random features as a pass leaves them, and the seconds of summing them up."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(9)) / DIM**0.5
    h = (torch.randn(N, DIM, generator=generator) @ (mixing * torch.logspace(0, -2, DIM)) + 0.4).relu()
    logits = torch.randn(N, CLASSES, generator=generator)
    moments, classes = Moments(DIM), ClassSums(N, CLASSES)
    began = time.perf_counter()
    for index in torch.arange(N).split(100):
        moments.update(h[index])
        classes.update(index, logits[index])
    spent = time.perf_counter() - began
    return Extraction(N, moments, classes, torch.arange(N), h, torch.zeros(0, dtype=torch.uint8)), spent


def beyond_extraction() -> None:
    sides = [extracted(seed) for seed in (1, 2, 3)]
    sums = sum(spent for _, spent in sides[:2])
    generated, real, floor = (side for side, _ in sides)
    study: Any = SimpleNamespace(device=torch.device("cpu"), seed=0)
    for words, others in {
        f"all metrics of {N:,} + {N:,} images": {"generated": generated},
        f"the same with a floor of {N:,}": {"generated": generated, "floor": floor},
    }.items():
        began = time.perf_counter()
        judge(study, others, real, METRICS)
        print(f"{words:<42} {sums + time.perf_counter() - began:6.1f} s, {sums:.1f} s of it running sums")


class Untrained:
    """torch-fidelity's networks with random weights, in files as it takes them."""

    def __init__(self, folder: Path):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        from torchvision.models import vgg16

        class Random(FeatureExtractorInceptionV3):
            def load_state_dict(self, *_: Any, **__: Any) -> Any:
                pass

        self.inception, self.vgg = folder / "inception.pth", folder / "vgg16.pth"
        torch.manual_seed(0)
        torch.save({}, self.inception)
        network = Random("inception-v3-compat", ["2048"], self.inception)
        network.train()  # one pass sets the statistics of its batch norms, so that features are of usual size
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None
        with torch.no_grad():
            network(pictures(8, 5))
        torch.save(network.state_dict(), self.inception)
        torch.save(vgg16(weights=None).state_dict(), self.vgg)


def pictures(n: int, seed: int) -> Tensor:
    """Smooth random RGB images (n, 3, 32, 32) uint8."""
    coarse = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed)).square()
    return (torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


def ours(folder: Path, weights: Untrained) -> dict[str, float]:
    """All of METRICS and the floors."""
    with tempfile.TemporaryDirectory() as packed:
        sides = []
        for name in ("fake", "real"):
            data = ImageData(Folder(str(folder / name)), folder, (3, 32, 32), 100, packed=packed, val=0.0, test=0.0)
            data.prepare_data()
            sides.append(data)
        fake, real = sides
        method = SimpleNamespace(device=torch.device("cpu"))
        study = Study(method, real, "train", extractor=Inception(weights.inception))
        return {n.name.partition("[")[0]: n.value for n in Folders(fake.table("train")).measure(study)}


def theirs(folder: Path, weights: Untrained, as_it_comes: bool) -> dict[str, float]:
    from torch_fidelity import calculate_metrics

    size = min(1000, len(list((folder / "fake").iterdir())))
    common = {"input1": str(folder / "fake"), "input2": str(folder / "real"), "cuda": False, "verbose": False}
    inception = {"feature_extractor": "inception-v3-compat", "feature_extractor_weights_path": weights.inception}
    vgg = {"feature_extractor": "vgg16", "feature_extractor_weights_path": weights.vgg}
    found = calculate_metrics(
        **common, **inception, isc=True, fid=True, kid=True, prc=not as_it_comes, kid_subset_size=size
    )
    return found | calculate_metrics(**common, **vgg, prc=True) if as_it_comes else found


def beside_torch_fidelity(n: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, side in enumerate(("fake", "real")):
            (folder / side).mkdir()
            for i, levels in enumerate(pictures(n, seed)):
                Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(folder / side / f"{i:05d}.png")
        weights = Untrained(folder)
        runs: dict[str, Callable[[], dict[str, float]]] = {
            "Unlabeled": lambda: ours(folder, weights),
            "torch-fidelity, Inception for all": lambda: theirs(folder, weights, False),
            "torch-fidelity as it comes": lambda: theirs(folder, weights, True),
        }
        seconds: dict[str, list[float]] = {side: [] for side in runs}
        found = {}
        for _ in range(ROUNDS):
            for side, run in runs.items():
                began = time.perf_counter()
                with contextlib.redirect_stderr(io.StringIO()):
                    found[side] = run()
                seconds[side].append(time.perf_counter() - began)
    for side, spent in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(spent, seconds["Unlabeled"], strict=True))
        print(f"{side:<42} {min(spent):6.1f} s, {ratio:.2f} times ours")
    mine, other = found["Unlabeled"], found["torch-fidelity, Inception for all"]
    keys = {"fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean"}
    keys |= {"inception_score": "inception_score_mean", "precision": "precision", "recall": "recall"}
    for metric, key in keys.items():
        print(f"{metric:<42} {mine[metric]:.8g}, torch-fidelity {other[key]:.8g}")


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, distances to {comparison.COMPARED:,} at most")
    beyond_extraction()
    beside_torch_fidelity(n)


if __name__ == "__main__":
    main()
