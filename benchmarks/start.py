"""From `python train.py` to the first batch, against the imports that it cannot do without."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from lightning import Callback

from benchmarks.common import ROOT, Row, row, timed, turns

BARE = "import torch, lightning, hydra"
REACHED = 77  # the exit status that says so


class End(Callback):
    """Ends the process at once where the first batch would begin."""

    def on_train_batch_start(self, *_: Any) -> None:
        os._exit(REACHED)


def process(status: int, *words: str) -> Callable[[], None]:
    """A Python process with the environment of this one, from its start to its end with this status."""
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}

    def work() -> None:
        ended = subprocess.run([sys.executable, *words], cwd=ROOT, env=settings, capture_output=True, text=True)
        assert ended.returncode == status, ended.stderr

    return work


def rows(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        words = [f"output={folder}", f"data_packed={folder}", "+callbacks.end._target_=benchmarks.start.End"]
        train = process(REACHED, "train.py", *words)
        bare = process(0, "-c", f"{BARE}; import os; os._exit(0)")
        pairs = turns(timed(train, children=True), timed(bare, children=True), rounds)
        yield row("start", "train.py to its first batch, data packed", f"python -c '{BARE}'", pairs, "cpu", aim=1.3)
        told, bare = process(0, "train.py", "--help"), process(0, "-c", "import hydra")
        pairs = turns(timed(told, children=True), timed(bare, children=True), rounds)
        yield row("start", "train.py --help", "python -c 'import hydra'", pairs, "cpu")
