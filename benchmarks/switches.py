"""A training step with one switch for speed, against the same step without: both under the framework, in one process.

Each side is a fit of its own, in a thread that waits for its turn; compiling falls into the warm-up.
"""

import contextlib
import io
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning import Callback

from benchmarks.common import NoiseImages, Row, Seconds, Stopwatch, config_of, row, turns
from unlabeled.app.run.build import build, make_trainer, silence_lightning
from unlabeled.data.loader import ShuffledLoader

SHAPE, BATCH, CHUNK = (3, 32, 32), 64, 5
SWITCHES = {
    "compiled": "compile=true",
    "channels last": "channels_last=true",
    "fused optimizers": "fused=true",
    "bf16-mixed": "trainer.precision=bf16-mixed",
}


class Turn(Callback):
    """A fit that does CHUNK batches whenever it is told to."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.seconds: queue.SimpleQueue[Seconds | BaseException] = queue.SimpleQueue()

    def on_train_batch_start(self, trainer: Any, method: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % CHUNK == 0:
            self.told.get()
            self.watch = Stopwatch()

    def on_train_batch_end(self, trainer: Any, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % CHUNK == 0:
            self.seconds.put(self.watch.lap())

    def __call__(self) -> Seconds:
        self.told.put(None)
        found = self.seconds.get()
        if isinstance(found, BaseException):
            raise found
        return found


@contextlib.contextmanager
def fitting(words: list[str], batches: int) -> Iterator[Callable[[], Seconds]]:
    """A fit that waits in a thread: each call is a chunk of it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    shape = f"data.shape=[{','.join(map(str, SHAPE))}]"
    common = [shape, f"data.batch_size={BATCH}", f"trainer.accelerator={accelerator}", "budget.epochs=1"]
    turn = Turn()
    with tempfile.TemporaryDirectory() as folder:
        config = config_of([*common, *words], folder)
        data, method = build(config)
        table = NoiseImages(BATCH * batches, SHAPE, device=device)
        data.train_dataloader = lambda: ShuffledLoader(table, BATCH, seed=0)
        trainer = make_trainer(config, method, limit_val_batches=0)
        trainer.callbacks.append(turn)  # type: ignore[attr-defined]

        def work() -> None:
            torch.set_num_threads(1)  # each thread has its own number
            try:
                trainer.fit(method, datamodule=data)
            except BaseException as error:
                turn.seconds.put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield turn
        finally:
            for _ in range(batches // CHUNK):  # whatever of it is left
                turn.told.put(None)
            thread.join()


def rows(rounds: int) -> Iterator[Row]:
    silence_lightning()
    torch.set_num_threads(1)
    clock = "wall" if torch.cuda.is_available() else "cpu"
    _, h, w = SHAPE
    for model in ("vae", "dcgan"):
        for name, word in SWITCHES.items():
            batches = CHUNK * (rounds + 1)
            with (
                contextlib.redirect_stderr(io.StringIO()),
                fitting([f"model={model}", word], batches) as ours,
                fitting([f"model={model}"], batches) as other,
            ):
                pairs = list(turns(ours, other, rounds))
            yield row("switches", f"{model} {name}, {h}x{w}", "as it is", pairs, clock, CHUNK / 1000, "ms")
