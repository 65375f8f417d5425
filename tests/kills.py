"""Runs that are killed: the real program in forks of one process that has imported everything, wherever death finds it.

`multiprocessing` keeps that process (forkserver); this module is what it imports first.
"""

import io
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot  # noqa: F401
import numpy
import PIL.Image
import PIL.PngImagePlugin
import torch
from lightning import Callback

import train as program
import unlabeled.evaluation.figures.evaluation  # noqa: F401
from tests.tiny import Tiny  # noqa: F401
from unlabeled.app.cli import main as cli
from unlabeled.app.run import train
from unlabeled.app.run.checkpoint import repair_last
from unlabeled.app.run.plan import has_checkpoint, result_of
from unlabeled.callbacks import checkpoints

torch.set_num_threads(1)

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.kills"])

HOOKS = [
    "on_fit_start", "on_train_start", "on_train_batch_start", "on_before_zero_grad", "on_before_optimizer_step",
    "on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end",
    "on_save_checkpoint", "on_load_checkpoint", "on_train_end",
]  # fmt: skip
CALLS: list[tuple[Any, str]] = [
    (os, "replace"), (os, "link"), (os, "fsync"), (torch, "save"), (PIL.Image.Image, "save"), (train, "report"),
    (numpy, "save"),
]  # fmt: skip


class Fate(NamedTuple):
    """What happens to a run when it comes to a place for the nth time."""

    place: str = ""
    n: int = 1
    signal: int = 0  # it is sent one
    sleep: float = 0  # seconds that it then stays there
    room: int | None = None  # bytes that a file may have from then on


NOTHING = Fate()


class Ranks:
    """Counts how often each place is passed."""

    passed: Counter[str] = Counter()
    fate = NOTHING

    @classmethod
    def enter(cls, name: str) -> None:
        cls.passed[name] += 1
        if (name, cls.passed[name]) == cls.fate[:2]:
            if cls.fate.room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (cls.fate.room, resource.RLIM_INFINITY))
            if cls.fate.signal:
                os.kill(os.getpid(), cls.fate.signal)
            time.sleep(cls.fate.sleep)


class Dies(Callback):
    """Passes the hooks."""

    def __init__(self) -> None:
        for name in HOOKS:
            setattr(self, name, lambda *_, name=name: Ranks.enter(name))


class Written(io.FileIO):
    """A checkpoint file that may break off at any of its writes."""

    def write(self, data: Any) -> int:
        Ranks.enter("write")
        return super().write(data) or 0


def passing(owner: Any, name: str) -> None:
    """Die before a call or after it."""
    call = getattr(owner, name)

    def passed(*words: Any, **named: Any) -> Any:
        Ranks.enter(f"before {owner.__name__}.{name}")
        answer = call(*words, **named)
        Ranks.enter(f"after {owner.__name__}.{name}")
        return answer

    setattr(owner, name, passed)


def run(folder: str, work: dict[str, Any] | list[str], fate: Fate, screen: Any) -> None:
    """A run in `folder`, new or gone on with, until it is over or dead: the program's words, or a resolved config.

    `screen` is a connection that gets what it prints; passed.txt tells how often places were passed.
    """
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(screen.fileno(), stream)
    Ranks.fate = fate
    Ranks.enter("start")
    for owner, name in CALLS:
        passing(owner, name)
    checkpoints.open = Written  # type: ignore[attr-defined]
    try:
        if isinstance(work, list):
            sys.argv = ["train.py", *work]
            sys.path.insert(0, str(Path(program.__file__).parent))
            cli.run(program.main)
        elif not result_of(Path(work["run"])):  # else it was over, and died on its way out
            train.curves = lambda *_: None  # most of the time of so short a run; the program draws them
            resume = has_checkpoint(Path(work["run"]))
            if resume:
                repair_last(Path(work["run"]))
            train.fit(work, resume)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path("passed.txt").write_text("\n".join(f"{number} {name}" for name, number in Ranks.passed.items()))
