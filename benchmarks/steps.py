"""A training step under the framework against a loop by hand: the same modules, data and optimizers.

The framework is as `python train.py` runs it: noise seeded by step, budget, schedule, records (CSV every 50 batches),
clipping, progress, and the callbacks of pictures and checkpoints, which have nothing to do within an epoch: what comes
once an epoch has rows of its own (checkpoints.py). The loop by hand is what the algorithm needs and nothing else: it
logs nothing, and where the framework takes care (penalties, float32 under autocast, labels unknown) it does not.

Both are in one process and take turns, a chunk of batches each, within one epoch of one fit.
"""

import contextlib
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import Callback
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss, normalize, relu, softplus

from benchmarks.common import NoiseImages, Row, Seconds, Stopwatch, config_of, row
from unlabeled.app.run.build import build, make_trainer, silence_lightning
from unlabeled.data.kinds.pairs import UnpairedTable
from unlabeled.data.loader import ShuffledLoader

Steps = Any  # an iterator of a batch each, which can be closed


def adam(*parts: Any, lr: float = 2e-4, beta: float = 0.5) -> torch.optim.Adam:
    return torch.optim.Adam([p for part in parts for p in part.parameters()], lr=lr, betas=(beta, 0.999))


def autoencoder(m: Any, batches: Any) -> Steps:
    optimizer = adam(m, lr=1e-3, beta=0.9)
    for x, _ in batches:
        optimizer.zero_grad()
        loss = (x - m.decoder(m.encoder(x))).square().sum((1, 2, 3)).mean()
        loss.backward()
        optimizer.step()
        yield


def vae(m: Any, batches: Any) -> Steps:
    optimizer = adam(m, lr=1e-3, beta=0.9)
    for x, _ in batches:
        optimizer.zero_grad()
        mu, log_var = m.encoder(x).chunk(2, 1)
        z = mu + (log_var / 2).exp() * torch.randn_like(mu)
        nll = binary_cross_entropy_with_logits(m.decoder(z), (x + 1) / 2, reduction="sum")
        kl = (mu.square() + log_var.exp() - 1 - log_var).sum() / 2
        ((nll + kl) / len(x)).backward()
        optimizer.step()
        yield


def noise(m: Any, x: Tensor) -> Tensor:
    return torch.randn(len(x), m.latent_dim, device=x.device)


def dcgan(m: Any, batches: Any) -> Steps:
    generator, discriminator = m.generator, m.discriminator
    generator_optimizer, discriminator_optimizer = adam(generator), adam(discriminator)
    for x, _ in batches:
        fake = generator(noise(m, x))
        discriminator_optimizer.zero_grad()
        (softplus(-discriminator(x)).mean() + softplus(discriminator(fake.detach())).mean()).backward()
        discriminator_optimizer.step()
        generator_optimizer.zero_grad()
        discriminator.requires_grad_(False)
        softplus(-discriminator(fake)).mean().backward()
        discriminator.requires_grad_(True)
        generator_optimizer.step()
        yield


def five_to_one(m: Any, batches: Any, loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Steps:
    """Five steps of the discriminator, one of the generator, against scores of which it wants higher ones."""
    generator, discriminator = m.generator, m.discriminator
    generator_optimizer, discriminator_optimizer = (adam(part, beta=0.0) for part in (generator, discriminator))
    for i, (x, _) in enumerate(batches, 1):
        last = i % 5 == 0
        with torch.set_grad_enabled(last):
            fake = generator(noise(m, x))
        discriminator_optimizer.zero_grad()
        score_real, score_fake = discriminator(torch.cat([x, fake.detach()])).chunk(2)
        loss(score_real, score_fake, x, fake.detach()).backward()
        discriminator_optimizer.step()
        if last:
            generator_optimizer.zero_grad()
            discriminator.requires_grad_(False)
            (-discriminator(fake).mean()).backward()
            discriminator.requires_grad_(True)
            generator_optimizer.step()
        yield


def wgan_gp(m: Any, batches: Any) -> Steps:
    def loss(score_real: Tensor, score_fake: Tensor, x: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(x), 1, 1, 1, device=x.device)
        between = (share * x + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(m.discriminator(between).sum(), between, create_graph=True)
        return score_fake.mean() - score_real.mean() + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()

    return five_to_one(m, batches, loss)


def sngan(m: Any, batches: Any) -> Steps:
    return five_to_one(m, batches, lambda real, fake, *_: relu(1 - real).mean() + relu(1 + fake).mean())


def cyclegan(m: Any, batches: Any) -> Steps:
    to_a, to_b, discriminator_a, discriminator_b = m.to_a, m.to_b, m.discriminator_a, m.discriminator_b
    translators, discriminators = adam(to_a, to_b), adam(discriminator_a, discriminator_b)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1.0) for o in (translators, discriminators)]
    pools: tuple[list[Tensor], list[Tensor]] = ([], [])

    def pooled(pool: list[Tensor], images: Tensor) -> Tensor:
        given = []
        for image in images.detach().split(1):
            if len(pool) < 50:
                pool.append(image)
            elif random.random() < 0.5:
                slot = random.randrange(50)
                pool[slot], image = image, pool[slot]
            given.append(image)
        return torch.cat(given)

    for a, b in batches:
        for discriminator in (discriminator_a, discriminator_b):
            discriminator.requires_grad_(False)
        translators.zero_grad()
        fake_b, same_b = to_b(torch.cat([a, b])).chunk(2)
        fake_a, same_a = to_a(torch.cat([b, a])).chunk(2)
        game = (discriminator_a(fake_a) - 1).square().mean() + (discriminator_b(fake_b) - 1).square().mean()
        cycle = l1_loss(to_a(fake_b), a) + l1_loss(to_b(fake_a), b)
        (game + 10 * cycle + 5 * (l1_loss(same_a, a) + l1_loss(same_b, b))).backward()
        translators.step()
        for discriminator in (discriminator_a, discriminator_b):
            discriminator.requires_grad_(True)
        discriminators.zero_grad()
        for discriminator, real, fake, pool in (
            (discriminator_a, a, fake_a, pools[0]),
            (discriminator_b, b, fake_b, pools[1]),
        ):
            loss = (discriminator(real) - 1).square().mean() + discriminator(pooled(pool, fake)).square().mean()
            (loss / 2).backward()
        discriminators.step()
        for schedule in schedules:
            schedule.step()
        yield


def rotation(m: Any, batches: Any) -> Steps:
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for x, _ in batches:
        optimizer.zero_grad()
        x = m.views(x)
        turned = torch.cat([x.rot90(k, (2, 3)) for k in range(4)])
        truth = torch.arange(4, device=x.device).repeat_interleave(len(x))
        cross_entropy(m.classifier(m.encoder(turned)), truth).backward()
        optimizer.step()
        yield


def simclr(m: Any, batches: Any) -> Steps:
    decay: list[Any] = [p for p in m.parameters() if p.ndim > 1]
    rest: list[Any] = [p for p in m.parameters() if p.ndim <= 1]
    optimizer = torch.optim.Adam([{"params": decay, "weight_decay": 1e-6}, {"params": rest}], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)
    for x, _ in batches:
        optimizer.zero_grad()
        z = normalize(m.projector(m.encoder(m.views(torch.cat([x, x])))), dim=1)
        logits = z @ z.T / 0.5
        logits.fill_diagonal_(float("-inf"))
        other = torch.arange(len(z), device=z.device).roll(len(x))
        cross_entropy(logits, other).backward()
        optimizer.step()
        schedule.step()
        yield


def classifier(m: Any, batches: Any) -> Steps:
    optimizer = torch.optim.AdamW(m.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)
    for x, y in batches:
        optimizer.zero_grad()
        cross_entropy(m.head(m.encoder(x)), y).backward()
        optimizer.step()
        schedule.step()
        yield


@dataclass
class Case:
    what: str
    model: str
    by_hand: Callable[[Any, Any], Steps]
    words: list[str] = field(default_factory=list)
    shape: tuple[int, int, int] = (3, 32, 32)
    batch: int = 64
    chunk: int = 5  # batches a turn
    aim: float = 1.05


NARROW = ["model.generator.width=16", "model.discriminator.width=16"]
SMALL = ["model.generator.width=8", "model.discriminator.width=8"]
THIN = ["network@model.encoder=backbones/resnet18_thin"]
CASES = [
    Case("autoencoder", "autoencoder", autoencoder),
    Case("vae", "vae", vae, chunk=10),
    Case("dcgan", "dcgan", dcgan, chunk=3, aim=1.1),
    Case("dcgan, width 16", "dcgan", dcgan, NARROW, (3, 64, 64), chunk=3, aim=1.1),
    Case("wgan_gp, width 16", "wgan_gp", wgan_gp, NARROW, aim=1.1),
    Case("wgan_gp, width 16", "wgan_gp", wgan_gp, NARROW, (3, 64, 64), batch=32, aim=1.1),
    Case("sngan, width 16", "sngan", sngan, NARROW, aim=1.1),
    Case("sngan, width 8", "sngan", sngan, SMALL, (3, 64, 64), batch=32, aim=1.1),
    Case("cyclegan, width 16, 3 blocks, batch 4", "cyclegan", cyclegan,
         ["model.to_b.width=16", "model.to_b.blocks=3", "model.discriminator_a.width=16"], batch=4),
    Case("rotation, thin ResNet-18", "rotation", rotation, THIN, chunk=3),
    Case("simclr, thin ResNet-18", "simclr", simclr, THIN, chunk=3),
    Case("classifier", "classifier", classifier),
    Case("autoencoder, width 4, 8x8 grey", "autoencoder", autoencoder,
         ["model.encoder.width=4", "model.decoder.width=4"], (1, 8, 8), chunk=50, aim=1.15),
    Case("dcgan, width 8, 8x8 grey, batch 16", "dcgan", dcgan,
         SMALL, (1, 8, 8), batch=16, chunk=50, aim=1.15),
]  # fmt: skip


def table_of(case: Case, n: int, device: torch.device) -> Any:
    images = NoiseImages(n, case.shape, device=device)
    if case.model != "cyclegan":
        return images
    return UnpairedTable(images.images, images.images.flip(0), images.rows, images.rows, device)


class Turns(Callback):
    """Between the framework's chunks of batches, as many by hand; `pairs` are their seconds."""

    def __init__(self, by_hand: Steps, chunk: int):
        self.by_hand, self.chunk = by_hand, chunk
        self.pairs: list[tuple[Seconds, Seconds]] = []

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.watch = Stopwatch()

    def on_train_batch_end(self, trainer: Any, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.chunk == 0:
            ours = self.watch.lap()
            for _ in range(self.chunk):
                next(self.by_hand)
            self.pairs.append((ours, self.watch.lap()))


def measure(
    case: Case, rounds: int, device: torch.device, prepare: Callable[[Any], None] | None = None
) -> list[tuple[Seconds, Seconds]]:
    """Seconds of each chunk, framework and by hand, without the first. `prepare` changes the framework's method."""
    n = case.batch * case.chunk * (rounds + 1)
    shape = f"data.shape=[{','.join(map(str, case.shape))}]"
    source = ["data=digits"]  # of which nothing is trained on
    if case.model == "cyclegan":
        source = ["data=plain2striped", *(f"data.source.{split}=1" for split in ("train", "val", "test"))]
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        words = [f"model={case.model}", *source, shape, *case.words, f"data.batch_size={case.batch}"]
        config = config_of([*words, "budget.epochs=1", f"trainer.accelerator={accelerator}"], folder)
        data, method = build(config)
        _, copy = build(config)
        data.train_dataloader = lambda: ShuffledLoader(table_of(case, n, device), case.batch, seed=0)
        if prepare is not None:
            prepare(method)
        by_hand = case.by_hand(copy.to(device).train(), ShuffledLoader(table_of(case, n, device), case.batch, seed=0))
        trainer = make_trainer(config, method, limit_val_batches=0)
        turns = Turns(by_hand, case.chunk)
        trainer.callbacks.append(turns)
        trainer.fit(method, datamodule=data)
        by_hand.close()
    return turns.pairs[1:]


def rows(rounds: int) -> Iterator[Row]:
    silence_lightning()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = "wall" if device.type == "cuda" else "cpu"
    for case in CASES:
        pairs = measure(case, 2 * rounds, device)
        _, h, w = case.shape
        what = case.what if "8x8" in case.what else f"{case.what}, {h}x{w}"
        yield row("step", what, "by hand", pairs, clock, case.chunk / 1000, "ms", case.aim)
