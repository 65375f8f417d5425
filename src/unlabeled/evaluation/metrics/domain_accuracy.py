"""Share of translations that a classifier of the two domains takes for images of the other one."""

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from tqdm import tqdm

from unlabeled.batches import from_uint8
from unlabeled.capabilities import Translates, TranslatesBack
from unlabeled.errors import UserError
from unlabeled.evaluation.features.extraction import Stream, quantised
from unlabeled.evaluation.metric import Headline, Metric, error_of_share
from unlabeled.evaluation.metrics.distribution import LIMIT, changed, images
from unlabeled.evaluation.stats.linear import percent
from unlabeled.evaluation.study import Study
from unlabeled.nn.backbones.resnet import ResNet18
from unlabeled.seeding import mix, seed_noise


class DomainClassifier(nn.Module):
    """Logits (B, 2) of domain a and domain b for images (B, C, H, W) in [-1, 1]."""

    def __init__(self, shape: tuple[int, int, int], width: int, side: int):
        super().__init__()
        self.side = side
        self.backbone = ResNet18(shape, width)
        self.head = nn.Linear(self.backbone.dim, 2)

    def forward(self, x: Tensor) -> Tensor:
        longest = max(x.shape[2:])
        if longest > self.side:
            size = [max(1, round(self.side * s / longest)) for s in x.shape[2:]]
            x = interpolate(x, size, mode="bilinear", antialias=True)
        return self.head(self.backbone(x))


class DomainAccuracy:
    """`domain_accuracy`: % of the translations of a that a classifier of the two domains takes for b;
    `domain_accuracy_back` of those of b, for a.

    The classifier is a thin ResNet-18 (He et al. 2015, https://arxiv.org/abs/1512.03385), which learns on the training
    images of both domains, half of each batch from either, at random mirrored, by Adam on a half cosine. Baseline: the
    same images before translation. Facts: the classifier's accuracy on the scored split's real images.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "domain_accuracy": Headline(115, "translations that a classifier of the two domains takes for domain b"),
        "domain_accuracy_back": Headline(116, "translations that a classifier of the two domains takes for domain a"),
    }

    def __init__(
        self,
        batches: int = 200,
        batch_size: int = 32,
        lr: float = 2e-3,  # at the first step; falls to 0
        width: int = 12,  # channels of the ResNet's first stage
        side: int = 128,  # images with longer sides are scaled down to it, in pixels
    ):
        if min(batches, width, side) < 1 or batch_size < 2:
            raise UserError("domain_accuracy: batches, width and side must be at least 1, and batch_size at least 2")
        self.batches, self.batch_size, self.lr = batches, batch_size, lr
        self.width, self.side = width, side

    def applies(self, study: Study) -> bool:
        return isinstance(study.method, Translates) and study.kind.visual and not study.kind.single

    def measure(self, study: Study) -> list[Metric]:
        classifier = self.classifier(study)

        def named(stream: Stream, domain: int) -> Tensor:
            """Whether each image is taken for the domain: 0 is a, 1 is b."""

            def work(index: Tensor) -> tuple[Tensor, ...]:
                x = from_uint8(quantised(stream.images(index), stream.name, int(index[0])).to(study.device))
                return (classifier(x).argmax(1) == domain,)

            return study.rows(stream.n, work, f"naming {stream.name}")[0]

        limit = LIMIT if study.samples is None else study.samples
        real = [images(study, study.split, domain, limit) for domain in "ab"]
        right = torch.cat([named(stream, domain) for domain, stream in enumerate(real)])
        ways = [("domain_accuracy", real[0], 1, study.method.translate)]
        if isinstance(study.method, TranslatesBack):
            ways.append(("domain_accuracy_back", real[1], 0, study.method.translate_back))
        numbers = []
        for name, source, domain, translate in ways:
            found = named(changed(study, source, "translations", translate), domain)
            before = named(source, domain)
            facts = {
                "data": study.data.source.name,
                "split": study.split,
                "images": source.n,
                "classifier_accuracy": percent(right),  # on real images
                "classifier_images": len(right),
                "classifier": {name: getattr(self, name) for name in ("batches", "batch_size", "lr", "width", "side")},
                "seed": study.seed,
                "baseline": "left as it is",
                "baseline_value": percent(before),
                **error_of_share(percent(found), source.n),
            }
            numbers.append(Metric(name, percent(found), "%", "higher", facts))
        return numbers if study.is_main else []

    def classifier(self, study: Study) -> DomainClassifier:
        """The trained classifier, the same on every process; the main one trains it."""
        with torch.random.fork_rng([study.device] if study.device.type == "cuda" else []):
            seed_noise(study.seed, 11)
            network = DomainClassifier(study.data.shape, self.width, self.side).to(study.device)
            if study.is_main:
                self.train(study, network)
        state = {name: value.cpu() for name, value in network.state_dict().items()} if study.is_main else None
        network.load_state_dict(study.ranks.gather(state)[0])
        return network.eval().requires_grad_(False)

    @torch.enable_grad()
    def train(self, study: Study, network: DomainClassifier) -> None:
        network.train()
        optimizer = torch.optim.Adam(network.parameters(), self.lr)
        half = self.batch_size // 2
        y = torch.tensor([0, 1], device=study.device).repeat_interleave(half)
        domains = [images(study, "train", domain) for domain in "ab"]
        drawn = [self.order(stream.n, half, mix(study.seed, 12, i)) for i, stream in enumerate(domains)]
        steps = zip(*drawn, strict=True)
        bar = tqdm(steps, "learning the domains", self.batches, False, unit="batch", dynamic_ncols=True, disable=None)
        for i, rows in enumerate(bar):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * (1 + math.cos(math.pi * i / self.batches)) / 2
            x = torch.cat([stream.images(index) for stream, index in zip(domains, rows, strict=True)]).to(study.device)
            mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            optimizer.zero_grad()
            cross_entropy(network(torch.where(mirrored, x.flip(3), x)), y).backward()
            optimizer.step()

    def order(self, n: int, half: int, seed: int) -> Iterator[Tensor]:
        """Rows of each batch, in a new random order for each pass."""
        generator = torch.Generator().manual_seed(seed)
        rounds = math.ceil(self.batches * half / n)
        rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(rounds)])
        return iter(rows.split(half)[: self.batches])
