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


class End(Callback):
    """Ends the process where the first batch would begin."""

    def on_train_batch_start(self, *_: Any) -> None:
        os._exit(0)


def process(*words: str) -> Callable[[], None]:
    """A Python process with the environment of this one, from its start to its end."""
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    return lambda: (  # type: ignore[return-value]
        subprocess.run([sys.executable, *words], cwd=ROOT, env=settings, check=True, capture_output=True) and None
    )


def rows(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        words = ["train.py", f"output={folder}", f"data_packed={folder}", "callbacks.end._target_=benchmarks.start.End"]
        train = process(*words[:-1], f"+{words[-1]}")
        pairs = turns(timed(train, children=True), timed(process("-c", BARE), children=True), rounds)
        yield row("start", "train.py to its first batch, data packed", f"python -c '{BARE}'", pairs, "cpu", aim=1.3)
        told = turns(timed(process("train.py", "--help"), True), timed(process("-c", "import hydra"), True), rounds)
        yield row("start", "train.py --help", "python -c 'import hydra'", told, "cpu")
