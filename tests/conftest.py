"""Build a row of cases.py exactly as train.py does: compose, resolve, instantiate."""

import copy
import functools
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start: workers share the cores already

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import evaluate as evaluate_program
import train as train_program
from tests.contract.cases import Case
from unlabeled.app.cli import main as cli
from unlabeled.app.run.build import build as built

ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)
gc.set_threshold(10_000, 50, 50)  # objects of torch are many, and a walk through them is long

TINY = [
    "data=digits",
    "~data.source",
    "+data.source={_target_: tests.tiny.Tiny, n: 8, unlabelled: 0}",
    "data.batch_size=8",
    "data.classes=2",
    "data_root=unused",
]
TINY_UNPAIRED = [
    "data=plain2striped",
    "~data.source",
    "+data.source={_target_: tests.tiny.Tiny, splits: [train_a, train_b, val_a, val_b, test_a, test_b]}",
    "data.size=32",
    "data.shape=[1,32,32]",
    "data.batch_size=2",
    "data_root=unused",
]


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@functools.cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose("train", [cli.shorthand(word) for word in overrides])


@pytest.fixture
def resolve(tmp_path: Path, packed: Path) -> Callable[..., dict[str, Any]]:
    """The resolved config of some overrides, with a run folder of its own."""

    def resolve(*overrides: str, run: str = "run") -> dict[str, Any]:
        config = copy.deepcopy(composed(overrides))
        config.run, config.data_packed = str(tmp_path / run), str(packed)
        (tmp_path / run).mkdir(exist_ok=True)
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        plain["names"] = {"model": "m", "data": "d", "trainer": "cpu", "overrides": list(overrides)}
        return plain  # type: ignore[return-value]

    return resolve


@pytest.fixture
def build(resolve: Callable[..., dict[str, Any]]) -> Callable[..., tuple[Any, Any, dict[str, Any]]]:
    """(method, data, config) of a row on a few images."""

    def build(case: Case, *overrides: str, run: str = "run") -> tuple[Any, Any, dict[str, Any]]:
        tiny = TINY_UNPAIRED if case.unpaired else TINY
        config = resolve(f"model={case.model}", *tiny, *case.overrides, *overrides, run=run)
        data, method = built(config)
        return method, data, config

    return build


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr beside progress and notes."""
        lines = [line for line in self.err.splitlines() if line and not line.startswith(("epoch=", "note: "))]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path) -> Callable[..., Result]:
    """Run train.py or evaluate.py in this process."""

    def program(name: str, *words: str) -> Result:
        folder = [f"output={tmp_path / 'outputs'}"] if name == "train" and "--help" not in words else []
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *folder, *words])
        monkeypatch.setattr(cli.JobStatus, "failed", 0)
        monkeypatch.setenv("COLUMNS", "200")
        GlobalHydra.instance().clear()
        capfd.readouterr()
        status = 0
        try:
            cli.run({"train": train_program, "evaluate": evaluate_program}[name].main)
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(status, *capfd.readouterr())

    return program


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few batches."""
    run = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "train.py", f"run={run}", "budget.epochs=2"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return run
