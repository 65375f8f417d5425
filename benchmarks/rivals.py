"""A training step under the framework against the training loops of mimicry and of PyTorch-GAN, as they ship them.

Rows are skipped where a rival is not there. mimicry is a package (`pip install --no-deps torch-mimicry`, then
`pip install scikit-image tensorboard`; what needs TensorFlow is not imported). PyTorch-GAN is a folder of scripts:
UNLABELED_PYTORCH_GAN names a clone of it.

- mimicry: its trainer, its networks and losses, against model=dcgan, wgan_gp and sngan with residual networks of the
  same layers and width; both get the same batches.
- PyTorch-GAN: its script from its first line to its last, its own data path (PIL images, one by one) and progress
  lines, on images of noise in MNIST's place; here the script's own networks are trained by model=dcgan and wgan_gp.

A rival's loop runs in a thread of its own, and only in its turns: one batch from asking for it to asking for the next.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import runpy
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import nn

from benchmarks.common import Row, Skipped, row
from benchmarks.steps import Case, Steps, adam, measure
from unlabeled.app.run.build import silence_lightning

SCRIPTS = "UNLABELED_PYTORCH_GAN"


class Over(Exception):
    """Ends a rival's loop."""


class Loop:
    """`run`, which is given a pace, in a thread; next() lets it work until it asks for the batch after.

    The pace is a function of batches, and yields them: run must take its batches from there.
    """

    def __init__(self, run: Callable[[Callable[[Iterable[Any]], Iterator[Any]]], None]):
        self.go, self.asked = threading.Semaphore(0), threading.Semaphore(0)
        self.over = False
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.work, args=(run,), daemon=True)
        self.thread.start()
        self.wait()

    def work(self, run: Callable[..., None]) -> None:
        torch.set_num_threads(1)  # holds for a thread
        try:
            run(self.pace)
        except BaseException as failure:
            self.failure = failure
        finally:
            self.over = True
            self.asked.release()

    def pace(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self.asked.release()
            self.go.acquire()
            if self.over:
                raise Over
            yield batch

    def __iter__(self) -> "Loop":
        return self

    def __next__(self) -> None:
        self.go.release()
        self.wait()

    def wait(self) -> None:
        """Until it asks for a batch."""
        self.asked.acquire()
        if self.over:
            raise self.failure or RuntimeError("the rival's loop has ended before its time")

    def close(self) -> None:
        self.over = True
        self.go.release()
        self.thread.join()


# mimicry


def mimicry(name: str) -> Any:
    """A module of torch_mimicry, whose own __init__ would import TensorFlow."""
    if "torch_mimicry" not in sys.modules:
        spec = importlib.util.find_spec("torch_mimicry")
        assert spec is not None
        sys.modules["torch_mimicry"] = package = ModuleType("torch_mimicry")
        package.__path__ = list(spec.submodule_search_locations or [])
    return importlib.import_module(f"torch_mimicry.{name}")


class Batches:
    """What its trainer asks of a data loader."""

    def __init__(self, batches: Any, pace: Callable[[Iterable[Any]], Iterator[Any]], size: int):
        self.batches, self.pace, self.batch_size = batches, pace, size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return self.pace(self.batches)


def trainer_of(
    networks: str, names: str, size: int, widths: tuple[int, int], batch_size: int
) -> Callable[[Any, Any], Steps]:
    def start(m: Any, batches: Any) -> Steps:
        module = mimicry(f"nets.{networks}.{networks}_{size}")
        generator = getattr(module, f"{names}Generator{size}")(ngf=widths[0])
        discriminator = getattr(module, f"{names}Discriminator{size}")(ndf=widths[1])
        for ours, theirs in ((m.generator, generator), (m.discriminator, discriminator)):
            counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
            if abs(counts[0] - counts[1]) > 0.01 * counts[1]:
                raise RuntimeError(f"{networks}, {size}: {counts[0]:,} weights here, {counts[1]:,} there")
        device = next(m.parameters()).device
        never = sys.maxsize

        def run(pace: Any) -> None:
            with tempfile.TemporaryDirectory() as folder:
                trainer = mimicry("training.trainer").Trainer(
                    netD=discriminator, netG=generator,
                    optD=adam(discriminator, beta=0.0), optG=adam(generator, beta=0.0),
                    dataloader=Batches(batches, pace, batch_size), num_steps=never, n_dis=5, lr_decay="None",
                    log_dir=folder, device=device, print_steps=never, vis_steps=never, save_steps=never,
                )  # fmt: skip
                trainer.train()

        return Loop(run)

    return start


RESIDUAL = [
    "network@model.generator=gan/sngan_generator",
    "network@model.discriminator=gan/sngan_discriminator",
    "model.latent_dim=128",
]


def of_mimicry() -> Iterator[tuple[Case, None]]:
    for networks, names, words in (
        ("dcgan", "DCGAN", [*RESIDUAL, "model.discriminator.spectral_norm=false", "model.discriminator_steps=5"]),
        ("wgan_gp", "WGANGP", [*RESIDUAL, "model.discriminator.spectral_norm=false"]),
        ("sngan", "SNGAN", []),
    ):
        # the width of 32 pixels is theirs over 4 and over 2; of 64, of the layers nearest the image, over 16
        for size, width, widths, batch in ((32, 16, (64, 32), 64), (64, 8, (128, 128), 16)):
            said = [*words, f"model.generator.width={width}", f"model.discriminator.width={width}"]
            start = trainer_of(networks, names, size, widths, batch)
            what = f"{networks}, residual, width {width}"
            yield Case(what, networks, start, said, (3, size, size), batch=batch), None


# PyTorch-GAN


class NoiseMNIST(torch.utils.data.Dataset):
    """What torchvision's MNIST gives, of random bytes."""

    def __init__(self, *place: Any, transform: Callable[[Any], Any], **named: Any):
        self.transform = transform
        levels = torch.randint(0, 256, (4096, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        self.images = levels.numpy()

    def __len__(self) -> int:
        return 60_000

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[i % len(self.images)])), 0


def script(name: str, *words: str) -> dict[str, Any]:
    """Run it in an empty folder, and give what it has defined."""
    file = Path(os.environ[SCRIPTS]) / "implementations" / name / f"{name}.py"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        inside = Path(folder) / "implementations" / name
        inside.mkdir(parents=True)
        stack.callback(os.chdir, os.getcwd())
        os.chdir(inside)
        stack.enter_context(mock.patch.object(sys, "argv", [str(file), *words]))
        stack.enter_context(mock.patch("torchvision.datasets.MNIST", NoiseMNIST))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        return runpy.run_path(str(file), run_name="__main__")


def loop_of(name: str, *words: str) -> Callable[[Any, Any], Steps]:
    def start(m: Any, batches: Any) -> Steps:
        def run(pace: Any) -> None:
            class Paced(torch.utils.data.DataLoader):
                def __iter__(self) -> Any:
                    return pace(super().__iter__())

            with mock.patch("torch.utils.data.DataLoader", Paced):
                script(name, *words)

        return Loop(run)

    return start


def adopt(name: str, *words: str) -> Callable[[Any], None]:
    """Their networks into a method of ours: their discriminator ends in a sigmoid, which our objective has in it."""

    def put(method: Any) -> None:
        found = script(name, *words, "--n_epochs", "0")
        discriminator = found["discriminator"]
        if name == "dcgan":
            discriminator.adv_layer = discriminator.adv_layer[0]
        method.generator = found["generator"]
        method.discriminator = nn.Sequential(discriminator, nn.Flatten(0))

    return put


def of_pytorch_gan() -> Iterator[tuple[Case, Callable[[Any], None]]]:
    for size in (32, 64):
        words = ("--img_size", str(size), "--sample_interval", str(sys.maxsize))
        for name in ("dcgan", "wgan_gp"):
            what = f"{name}, its networks"
            yield Case(what, name, loop_of(name, *words), [], (1, size, size), chunk=10), adopt(name, *words)


def rows(rounds: int) -> Iterator[Row | Skipped]:
    silence_lightning()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = "wall" if device.type == "cuda" else "cpu"
    there = importlib.util.find_spec("torch_mimicry") is not None, bool(os.environ.get(SCRIPTS))
    for rival, found, cases, missing in (
        ("mimicry", there[0], of_mimicry, "pip install --no-deps torch-mimicry"),
        ("PyTorch-GAN", there[1], of_pytorch_gan, f"{SCRIPTS}=CLONE says where it is"),
    ):
        if not found:
            yield Skipped("rivals", rival, missing)
            continue
        for case, prepare in cases():
            pairs = measure(case, 2 * rounds, device, prepare)
            _, h, w = case.shape
            yield row("rivals", f"{case.what}, {h}x{w}", rival, pairs, clock, case.chunk / 1000, "ms", 1.0)
