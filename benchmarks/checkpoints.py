"""What keeping last.ckpt costs, each epoch, for ten million parameters with Adam's state (120 MB)."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from benchmarks.common import NoiseImages, Row, Seconds, Stopwatch, config_of, row
from unlabeled.app.run.build import build, make_trainer, silence_lightning
from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.data.loader import ShuffledLoader

WORDS = [
    "model=vae",
    "network@model.encoder=autoencoders/fully_connected_encoder",
    "network@model.decoder=autoencoders/fully_connected_decoder",
]
SIZE = ["model.encoder.hidden=[1600,1600]", "model.decoder.hidden=[1600,1600]", "data.shape=[1,28,28]"]
BATCHES = 100


class Writes(Callback):
    """Times what comes between an epoch's last batch and its end, and torch.save of the same to the same folder."""

    def __init__(self, folder: Path):
        self.plain = folder / "plain.ckpt"
        self.pairs: list[tuple[Seconds, Seconds]] = []
        self.shares: list[tuple[Seconds, Seconds]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.watch = Stopwatch()

    def on_train_epoch_end(self, trainer: Any, method: Any) -> None:
        epoch = self.watch.lap()
        checkpoints = next(c for c in trainer.callbacks if isinstance(c, Checkpoints))
        self.watch.lap()
        checkpoints.on_train_epoch_end(trainer, method)
        ours = self.watch.lap()
        torch.save(trainer._checkpoint_connector.dump_checkpoint(), self.plain)
        self.pairs.append((ours, self.watch.lap()))
        self.shares.append((Seconds(*(a + b for a, b in zip(epoch, ours, strict=True))), epoch))


def rows(rounds: int) -> Iterator[Row]:
    silence_lightning()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        config = config_of([*WORDS, *SIZE, f"budget.epochs={rounds + 1}"], name)
        data, method = build(config)
        data.train_dataloader = lambda: ShuffledLoader(NoiseImages(64 * BATCHES, (1, 28, 28)), 64, seed=0)
        trainer = make_trainer(config, method, limit_val_batches=0)
        writes = Writes(Path(name))
        keeper = next(c for c in trainer.callbacks if isinstance(c, Checkpoints))
        trainer.callbacks.insert(trainer.callbacks.index(keeper), writes)
        trainer.fit(method, datamodule=data)
    millions = sum(p.numel() for p in method.parameters()) / 1e6
    what = f"last.ckpt of {millions:.1f} million parameters, checked, synced, renamed"
    yield row("checkpoints", what, "torch.save", writes.pairs[1:], "wall", 1e-3, "ms")
    epoch = f"an epoch of {BATCHES} batches and last.ckpt"
    yield row("checkpoints", epoch, "the epoch without", writes.shares[1:], "wall")
