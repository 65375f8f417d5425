"""What the rows share: stopwatch, turns, ratios, the table."""

import contextlib
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unlabeled.app.cli import main as cli
from unlabeled.data.kinds.images import ImageTable
from unlabeled.data.module import CPU

ROOT = cli.CONF.parent


class Seconds(NamedTuple):
    """By the wall's clock, and of processors: this process's, or its children's where they do the work.

    Where one thread works, the latter is the same on a busy machine and on a quiet one, but for caches.
    """

    wall: float
    cpu: float


class Stopwatch:
    """Seconds since it was made, or since the last lap; the device has finished what it was given.

    `children`: the processors' seconds of processes that were started and waited for.
    """

    def __init__(self, children: bool = False):
        self.children = children
        self.now = self._read()

    def lap(self) -> Seconds:
        before, self.now = self.now, self._read()
        return Seconds(*(b - a for a, b in zip(before, self.now, strict=True)))

    def _read(self) -> Seconds:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        if not self.children:
            return Seconds(time.perf_counter(), time.process_time())
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Seconds(time.perf_counter(), usage.ru_utime + usage.ru_stime)


def timed(work: Callable[[], Any], children: bool = False) -> Callable[[], Seconds]:
    """`work`, with the seconds that it takes as its result."""

    def measured() -> Seconds:
        watch = Stopwatch(children)
        work()
        return watch.lap()

    return measured


def turns(ours: Callable[[], Seconds], other: Callable[[], Seconds], rounds: int) -> Iterator[tuple[Seconds, Seconds]]:
    """Both once to warm up; then round by round, each going first in every other one."""
    ours(), other()
    for i in range(rounds):
        if i % 2:
            second = other()
            yield ours(), second
        else:
            yield ours(), other()


@dataclass
class Row:
    """One line of the table. Every ratio is time, ours / the other side: below 1 ours is faster."""

    subject: str
    what: str
    other: str  # what ours is held against
    ratio: float  # median over rounds
    low: float  # quartiles of the rounds
    high: float
    ours: float  # medians
    theirs: float
    unit: str  # of these two
    clock: str  # wall or cpu
    rounds: int
    aim: float | None = None  # the ratio should be at most this


@dataclass
class Skipped:
    """A line of the table without numbers."""

    subject: str
    what: str
    why: str


def row(
    subject: str,
    what: str,
    other: str,
    pairs: Iterable[tuple[Seconds, Seconds]],
    clock: str = "cpu",
    per: float = 1.0,  # what a round's seconds are divided by, in the unit's terms
    unit: str = "s",
    aim: float | None = None,
) -> Row:
    """The median of the rounds' ratios, with its quartiles."""
    seconds = [(getattr(a, clock) / per, getattr(b, clock) / per) for a, b in pairs]
    ratios = [a / b for a, b in seconds]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    ours, theirs = (statistics.median(side) for side in zip(*seconds, strict=True))
    return Row(subject, what, other, statistics.median(ratios), low, high, ours, theirs, unit, clock, len(ratios), aim)


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(_affinity()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "devices": torch.cuda.device_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _affinity() -> Sequence[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(rows: Sequence[Row | Skipped]) -> str:
    """Plain text, one line a row."""
    head = ("", "", "ratio", "quartiles", "aim", "ours", "other", "", "clock, rounds")
    lines: list[tuple[str, ...]] = [head]
    for found in rows:
        if isinstance(found, Skipped):
            lines.append((found.subject, f"{found.what}: {found.why}", *[""] * 7))
            continue
        aim = "" if found.aim is None else f"<= {found.aim:g}"
        spread = f"{found.low:.3g}-{found.high:.3g}"
        numbers = (f"{found.ratio:.3g}", spread, aim, f"{found.ours:.4g}", f"{found.theirs:.4g}", found.unit)
        how = f"{found.clock}, {found.rounds}"
        lines.append((found.subject, f"{found.what} / {found.other}", *numbers, how))
    widths = [max(len(line[i]) for line in lines if not (i == 1 and not line[2])) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            f"{cell:<{w}}" if i in (0, 1, 7) else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def config_of(words: Sequence[str], folder: str) -> dict[str, Any]:
    """The resolved config of `python train.py WORDS`, everything of it in `folder`."""
    words = [cli.shorthand(word) for word in words]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("train", [*words, f"run={folder}", f"data_packed={folder}"])
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    names = {"model": "vae", "data": "digits", "trainer": "cpu"} | dict(w.split("=", 1) for w in words)
    return {**plain, "names": {**{n: names[n] for n in ("model", "data", "trainer")}, "overrides": words}}


class NoiseImages(ImageTable):
    """`n` rows of random bytes, in memory: 4,096 images, again and again."""

    def __init__(self, n: int, shape: Sequence[int], classes: int = 10, device: torch.device = CPU):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (min(n, 4096), *shape), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, classes, (len(images),), generator=generator)
        super().__init__(images.to(device), labels, torch.arange(n) % len(images), device)


def tell(words: str) -> None:
    """What is going on, beside the table."""
    print(words, file=sys.stderr, flush=True)
