"""The training step under the framework against a hand-written loop: same modules, same data, in turns in one run.

    python benchmarks/step.py

Ratio of wall time, framework / by hand, over the same batches at 32x32, batch 64: the framework as `python train.py`
runs it (progress, records, CSV, seeding by step), but for pictures and checkpoints, which come once an epoch. The two
sides take turns, and the median ratio stands, so that other work on the machine touches both alike.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unlabeled.app import cli
from unlabeled.app.build import build, make_trainer, quiet
from unlabeled.data.loader import ShuffledLoader
from unlabeled.data.tables import ImageTable

ROUNDS, BATCHES = 7, 60


class Noise(ImageTable):
    """Random RGB bytes at 32x32."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (64 * BATCHES, 3, 32, 32), dtype=torch.uint8, generator=generator)
        super().__init__(images, torch.zeros(len(images), dtype=torch.int64))


def config_of(model: str, folder: str) -> dict[str, Any]:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose(
            "train",
            [f"model={model}", "data.shape=[3,32,32]", f"run={folder}", f"data_packed={folder}", "budget.epochs=1"],
        )
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def framework(model: str) -> Callable[[], float]:
    """Seconds of one epoch of BATCHES batches, from the first batch to the last."""

    def measure() -> float:
        from lightning import Callback

        class Clock(Callback):
            began = ended = 0.0

            def on_train_epoch_start(self, *_: Any) -> None:
                self.began = time.perf_counter()

            def on_train_batch_end(self, *_: Any) -> None:
                self.ended = time.perf_counter()

        with tempfile.TemporaryDirectory() as folder:
            config = config_of(model, folder)
            data, method = build(config)
            data.train_dataloader = lambda: ShuffledLoader(Noise(), 64, seed=0)
            trainer = make_trainer(config, method, limit_val_batches=0)
            clock = Clock()
            trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            with contextlib.redirect_stderr(io.StringIO()):
                trainer.fit(method, datamodule=data)
            return clock.ended - clock.began

    return measure


def by_hand(model: str) -> Callable[[], float]:
    """The same epoch as one would write it without any framework."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            _, method = build(config_of(model, folder))
        loader = ShuffledLoader(Noise(), 64, seed=0)
        method.train()
        began = time.perf_counter()
        if model == "vae":
            optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
            for batch in loader:
                optimizer.zero_grad()
                log_px_z, kl = method.elbo_terms(batch.x)
                (kl - log_px_z).mean().backward()
                optimizer.step()
        else:
            generator, critic = method.generator, method.critic
            adam = lambda network: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            generator_optimizer, critic_optimizer = adam(generator), adam(critic)
            softplus = torch.nn.functional.softplus
            for batch in loader:
                critic_optimizer.zero_grad()
                with torch.no_grad():
                    fake = generator(torch.randn(64, generator.latent_dim))
                (softplus(-critic(batch.x)).mean() + softplus(critic(fake)).mean()).backward()
                critic_optimizer.step()
                generator_optimizer.zero_grad()
                critic.requires_grad_(False)
                softplus(-critic(generator(torch.randn(64, generator.latent_dim)))).mean().backward()
                critic.requires_grad_(True)
                generator_optimizer.step()
        return time.perf_counter() - began

    return measure


def main() -> None:
    torch.set_num_threads(1)
    quiet()
    print(f"torch {torch.__version__}, one thread, {BATCHES} batches of 64 at 32x32, {ROUNDS} rounds in turns")
    for model in sys.argv[1:] or ("vae", "dcgan"):
        ours, hand = framework(model), by_hand(model)
        ours(), hand()  # warm
        pairs = [(ours(), hand()) for _ in range(ROUNDS)]
        ratio = statistics.median(a / b for a, b in pairs)
        milliseconds = [1000 * min(side) / BATCHES for side in zip(*pairs, strict=True)]
        print(
            f"{model:<6} framework {milliseconds[0]:6.2f} ms a step, by hand {milliseconds[1]:6.2f}, ratio {ratio:.3f}"
        )


if __name__ == "__main__":
    main()
