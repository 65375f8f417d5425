"""One line of progress for the whole run; some twenty lines of KEY=VALUE where the output is no terminal."""

import os
import sys
import time
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.callbacks.pace import Budget
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback, callbacks, data_of


class Progress(ProgressBar):
    """Epoch, time left, examples per second, and the newest of the recorded quantities.

    The quantity that best.ckpt is chosen by comes first, then the others in the order in which the method records them,
    as many as a terminal is wide for.
    """

    def __init__(self, shown: int = 6):
        super().__init__()
        self.shown = shown  # at most so many quantities in a terminal
        self._bar: Any = None

    def disable(self) -> None:
        self.shown = 0

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        self._records = next(iter(callbacks(trainer, Records)), None)
        self._monitor = next((found.choice(trainer)[0] for found in callbacks(trainer, Checkpoints)), None)
        self._budget = callback(trainer, Budget)
        self._limit = self._budget.limit
        self._first, self._seen = self._budget.done.batches, self._budget.done.examples
        self._began = time.monotonic()
        self._printed = -1
        self._noun = data_of(trainer).noun
        if trainer.is_global_zero and sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns:
            self._bar = tqdm(
                total=self._limit, initial=self._first, unit="batch", dynamic_ncols=True, mininterval=0.2, leave=False
            )

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero:
            return
        done = trainer.fit_loop.total_batch_idx + 1
        if self._bar is not None:
            self._bar.update(1)
            if self._bar.n == self._bar.last_print_n:  # it has just been drawn
                self._bar.set_description_str(f"epoch {trainer.current_epoch + 1}", refresh=False)
                self._bar.set_postfix_str(self._line(), refresh=False)
        elif self._limit and done * 20 // self._limit > self._printed:
            self._printed = done * 20 // self._limit
            left = (time.monotonic() - self._began) / (done - self._first) * (self._limit - done)
            facts: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "batch": f"{done}/{self._limit}"}
            facts |= {"seconds_left": f"{left:.0f}", f"{self._noun}_per_second": f"{self._pace():.0f}"}
            facts |= {name: f"{value:.4g}" for name, value in self._quantities().items()}
            print(" ".join(f"{name}={value}" for name, value in facts.items()), file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, method: Any) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, method: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _pace(self) -> float:
        """Examples per second, over all devices."""
        return (self._budget.done.examples - self._seen) / (time.monotonic() - self._began)

    def _quantities(self) -> dict[str, float]:
        """The latest values, the monitored one first; without learning rates and gradients."""
        latest = self._records.latest if self._records else {}
        names = sorted(
            (n for n in latest if not n.endswith("/lr") and "/gradient_norm" not in n),
            key=lambda name: name != self._monitor,
        )
        return {name: latest[name] for name in names}

    def _line(self) -> str:
        """The line for a terminal, cut between quantities."""
        room = os.get_terminal_size(sys.stderr.fileno()).columns - 60  # epoch, bar, count and times
        line = f"{self._pace():.0f} {self._noun}/s"
        for name, value in list(self._quantities().items())[: self.shown]:
            more = f"{line}, {name.removeprefix('train/')} {value:.4g}"
            if len(more) > room:
                break
            line = more
        return line
