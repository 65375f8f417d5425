"""Data that lie on the GPU against worker processes that load them; and several devices against one."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.common import ROOT, Row, Seconds, Skipped, row, timed, turns
from benchmarks.data_path import BATCH, IMAGES, PerImage, endless
from unlabeled.data.kinds.images import ImageTable
from unlabeled.data.loader import ShuffledLoader

WORKERS = 4


def loading(rounds: int) -> Iterator[Row]:
    """Both until the batch is on the GPU."""
    device = torch.device("cuda")
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, IMAGES)
    levels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    resident = endless(ShuffledLoader(ImageTable(levels, torch.from_numpy(labels), device=device), BATCH, seed=0))
    loader = DataLoader(
        PerImage(images, labels.tolist()),
        BATCH,
        shuffle=True,
        num_workers=WORKERS,
        pin_memory=True,
        persistent_workers=True,
    )
    loaded = endless(loader)

    def workers() -> None:
        for batch in islice(loaded, 60):
            for part in batch:  # type: ignore[attr-defined]
                part.to(device, non_blocking=True)

    pairs = turns(timed(lambda: [*islice(resident, 60)]), timed(workers), rounds)
    yield row("devices", "batches of 64 from the GPU", f"{WORKERS} workers", pairs, "wall", 0.06, "ms a batch")


def training(devices: int, accelerator: str, folder: str) -> Callable[[], Seconds]:
    """Seconds of training, without start and end, that the run itself tells."""
    words = ["model=vae", "data=digits", "budget.images=25600", "trainer=ddp", f"trainer.accelerator={accelerator}"]
    words += [f"trainer.devices={devices}", "trainer.precision=32", "trainer.limit_val_batches=0"]

    def measured() -> Seconds:
        run = tempfile.mkdtemp(dir=folder)
        everything = [*words, f"run={run}", f"data_packed={folder}"]
        settings = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "train.py", *everything], cwd=ROOT, env=settings, check=True, capture_output=True
        )
        seconds: Any = json.loads((Path(run) / "result.json").read_text())["seconds"]
        return Seconds(seconds, seconds)

    return measured


def rows(rounds: int) -> Iterator[Row | Skipped]:
    gpus = torch.cuda.device_count()
    if gpus:
        yield from loading(rounds)
    else:
        yield Skipped("devices", "data on the GPU / worker processes", "no GPU here")
    accelerator, there = ("gpu", gpus) if gpus else ("cpu", min(2, len(os.sched_getaffinity(0))))
    if there < 2:
        yield Skipped("devices", "several devices / one", f"one {accelerator} here")
    for devices in (2, 4, 8):
        if devices <= there:
            with tempfile.TemporaryDirectory() as folder:
                several, one = training(devices, accelerator, folder), training(1, accelerator, folder)
                pairs = turns(several, one, max(2, rounds // 3))
                what = f"vae on digits, as many images, {devices} {accelerator} processes"
                yield row("devices", what, "one", pairs, "wall")
