"""What the image metrics and the probes cost, beside the libraries by hand.

FID, IS, KID, precision and recall of two folders of 40 PNGs each at 32x32, from the files to the numbers, with the same
randomly initialised Inception: against torch-fidelity with that for everything, and as it comes, with VGG16 for
precision and recall. All metrics of 10,000 + 10,000 images beyond their extraction, from features that are there,
against torch-fidelity's own functions on the same. A linear probe and kNN on features that are there, against
scikit-learn.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.common import Row, row, timed, turns
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.sources.folder import Folder
from unlabeled.evaluation.features.extraction import Extraction
from unlabeled.evaluation.features.extractors import Inception
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.metrics.comparison import METRICS, judge
from unlabeled.evaluation.metrics.distribution import Folders
from unlabeled.evaluation.metrics.probe import neighbors
from unlabeled.evaluation.stats.linear import fit_logistic
from unlabeled.evaluation.stats.moments import ClassSums, Moments
from unlabeled.evaluation.study import Study

DIM, CLASSES = 2048, 1008
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3)


def features(n: int, dim: int, seed: int) -> Tensor:
    """Correlated, unequal, at least 0: as those of Inception are."""
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(9)) / dim**0.5
    h = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return (h @ (mixing * torch.logspace(0, -2, dim)) + 0.4).relu()


def from_features(n: int, rounds: int) -> Iterator[Row]:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    sides = [(features(n, DIM, seed), features(n, CLASSES, seed + 2)) for seed in (1, 2)]

    def extraction(h: Tensor, logits: Tensor) -> Extraction:
        """As a pass over the images leaves it."""
        moments, classes = Moments(DIM), ClassSums(n, CLASSES)
        for index in torch.arange(n).split(100):
            moments.update(h[index])
            classes.update(index, logits[index])
        return Extraction(n, moments, classes, torch.arange(n), h, torch.zeros(0, dtype=torch.uint8))

    def ours() -> None:
        study: Any = SimpleNamespace(device=torch.device("cpu"), seed=0)
        generated, real = (extraction(*side) for side in sides)
        judge(study, {"generated": generated}, real, METRICS)

    def theirs() -> None:
        (a, logits), (b, _) = sides
        fid_statistics_to_metric(*(fid_features_to_statistics(side) for side in (a, b)), verbose=False)
        isc_features_to_metric(logits)
        kid_features_to_metric(a, b, verbose=False)
        prc_features_to_metric(a, b, verbose=False)

    pairs = turns(timed(ours), timed(theirs), rounds)
    what = f"FID, IS, KID, precision, recall, density, coverage, memorization share of {n:,} + {n:,} features"
    yield row("evaluation", what, "torch-fidelity, the first five", pairs, "cpu")


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


def from_folders(n: int, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, side in enumerate(("fake", "real")):
            (folder / side).mkdir()
            for i, levels in enumerate(pictures(n, seed)):
                Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(folder / side / f"{i:05d}.png")
        weights = Untrained(folder)
        others = {"torch-fidelity, Inception for all": False, "torch-fidelity as it comes": True}
        for other, as_it_comes in others.items():
            with contextlib.redirect_stderr(io.StringIO()):
                pairs = list(
                    turns(
                        timed(partial(ours, folder, weights)),
                        timed(partial(theirs, folder, weights, as_it_comes)),
                        rounds,
                    )
                )
            what = f"FID, IS, KID, precision, recall of two folders of {n} images"
            yield row("evaluation", what, other, pairs, "cpu")


def probes(n: int, rounds: int) -> Iterator[Row]:
    """Of features that tell the classes apart with some errors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    dim, classes = 256, 10
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, classes, (2 * n,), generator=generator)
    centres = torch.randn(classes, dim, generator=generator)
    h = features(2 * n, dim, 0) + 0.03 * centres[y]
    train, test = Features(h[:n], y[:n]), h[n:]

    def nearest() -> None:
        neighbors(train, test, [(20, 0.07), (200, 0.1)], classes)

    def nearest_by_hand() -> None:
        for k in (20, 200):
            model = KNeighborsClassifier(k, metric="cosine", weights=lambda d: torch.tensor(-d / 0.07).exp().numpy())
            model.fit(train.h.numpy(), train.y.numpy()).predict(test.numpy())

    def linear_by_hand() -> None:
        mean, spread = train.h.mean(0), train.h.std(0)
        x, label = ((train.h - mean) / spread).numpy(), train.y.numpy()
        part = n * 4 // 5

        def fitted(penalty: float, upto: int) -> Any:
            return LogisticRegression(C=1 / (penalty * upto), tol=1e-6, max_iter=2000).fit(x[:upto], label[:upto])

        best = max(PENALTIES, key=lambda penalty: fitted(penalty, part).score(x[part:], label[part:]))
        fitted(best, n).predict(((test - mean) / spread).numpy())

    def linear() -> None:
        fit_logistic(train, PENALTIES, 0.2, n, 0).predict(test)

    size = f"{n:,} + {n:,} features of {dim}"
    pairs = turns(timed(nearest), timed(nearest_by_hand), rounds)
    yield row("evaluation", f"nearest neighbors, k 20 and 200, {size}", "scikit-learn", pairs, "cpu")
    pairs = turns(timed(linear), timed(linear_by_hand), rounds)
    yield row("evaluation", f"linear probe, {len(PENALTIES)} penalties, {size}", "scikit-learn", pairs, "cpu")


def rows(rounds: int) -> Iterator[Row]:
    quick = rounds < 3
    yield from probes(1000 if quick else 4000, rounds)
    yield from from_features(1000 if quick else 5000, max(1, rounds // 3))
    yield from from_folders(4 if quick else 40, max(1, rounds // 3))
