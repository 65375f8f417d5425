"""Build a row of cases.py exactly as train.py does: compose, resolve, instantiate."""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start: workers share the cores already

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

import evaluate as evaluate_program
import train as train_program
from tests import warm
from unlabeled.app.cli import main as cli
from unlabeled.app.run import train as training
from unlabeled.contract.bench import TINY as TINY
from unlabeled.contract.bench import TINY_UNPAIRED as TINY_UNPAIRED
from unlabeled.contract.bench import Bench

ROOT = Path(__file__).parents[1]
COST = "CPU seconds"
torch.set_num_threads(1)
gc.set_threshold(10_000, 50, 50)  # objects of torch are many, and a walk through them is long


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@pytest.fixture
def bench(tmp_path: Path, packed: Path) -> Bench:
    return Bench(tmp_path, packed)


@pytest.fixture
def resolve(bench: Bench) -> Callable[..., dict[str, Any]]:
    """The resolved config of some overrides, with a run folder of its own."""
    return bench.resolve


@pytest.fixture
def build(bench: Bench) -> Callable[..., tuple[Any, Any, dict[str, Any]]]:
    """(method, data, config) of a row on a few images."""
    return bench.build


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
    """Run train.py or evaluate.py in this process; no curves, which take most of the time of a short run."""
    monkeypatch.setattr(training, "curves", lambda *_: None)

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
    assert warm.Popen("train.py", f"run={run}", "budget.epochs=2").wait() == 0
    return run


# --most-expensive N


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended; forks of tests.warm are not among them."""
    return sum(os.times()[:4])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--most-expensive", type=int, default=0, metavar="N",
        help="list the N most expensive rows of the contract, and tests, by CPU seconds",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.began = cpu()  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report: Any = yield
    if call.when == "teardown":
        report.user_properties.append((COST, cpu() - item.began))  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    number = config.getoption("--most-expensive")
    if not number:
        return
    tests: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for report in terminalreporter.stats.get("", []):
        for seconds in (value for name, value in report.user_properties if name == COST):
            tests[report.nodeid] += seconds
            if "contract/test_contract.py" in report.nodeid and "[" in report.nodeid:
                rows[report.nodeid.rpartition("[")[2].partition("-")[0]] += seconds
    for title, costs in (("rows of the contract", rows), ("tests", tests)):
        terminalreporter.section(f"{title}, {COST}: {sum(costs.values()):.1f} in all")
        for name, seconds in costs.most_common(number):
            terminalreporter.line(f"{seconds:6.1f}  {name}")
