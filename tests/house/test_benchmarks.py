"""Benchmarks run, and what they hold the framework against computes the same."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import steps, views
from benchmarks.common import Seconds, Skipped, config_of, row, table
from unlabeled.app.run.build import build, make_trainer
from unlabeled.app.run.lightning_overhead import HOOKS

SMALL = {
    "autoencoder": ["model.encoder.width=4", "model.decoder.width=4"],
    "cyclegan": [
        "model.to_b.width=4",
        "model.to_b.blocks=1",
        "model.discriminator_a.width=4",
        "model.schedule.start=0.99",
    ],
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", SMALL)
def test_a_loop_by_hand_reaches_the_weights_of_the_framework(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no noise is drawn: CycleGAN's pools draw none until they are full."""
    built: list[Any] = []
    began: list[dict[str, torch.Tensor]] = []

    def watched(config: dict[str, Any]) -> Any:
        data, method = build(config)
        built.append(method)
        began.append({key: value.detach().clone() for key, value in method.named_parameters()})
        return data, method

    monkeypatch.setattr(steps, "build", watched)
    case = next(case for case in steps.CASES if case.model == name)
    case = replace(case, words=SMALL[name], chunk=2, batch=2, shape=(3, 32, 32))
    pairs = steps.measure(case, 2, torch.device("cpu"))
    assert len(pairs) == 2 and all(min(*ours, *by_hand) > 0 for ours, by_hand in pairs)
    by_hand = dict(built[1].named_parameters())
    for key, value in built[0].named_parameters():
        far = 1e-2 * (value - began[0][key]).norm()
        assert far > 0 and (value - by_hand[key]).norm() < far, key


def test_a_row_is_the_median_of_the_rounds_ratios() -> None:
    pairs = [(Seconds(2, 9), Seconds(1, 1)), (Seconds(3, 9), Seconds(1, 1)), (Seconds(10, 9), Seconds(1, 1))]
    found = row("step", "this", "that", pairs, clock="wall", per=0.5, aim=1.05)
    assert (found.ratio, found.low, found.high, found.ours, found.theirs) == (3, 2.5, 6.5, 6, 2)
    _, first, second = table([found, Skipped("devices", "several", "one here")]).splitlines()
    assert first.split() == ["step", "this", "/", "that", "3", "2.5-6.5", "<=", "1.05", "6", "2", "s", "wall,", "3"]
    assert second.split() == ["devices", "several:", "one", "here"]


def test_the_program_prints_a_table_and_writes_it_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(views, "BATCH", 16)
    monkeypatch.setattr("sys.argv", ["benchmarks", "views", "--quick", f"--output={tmp_path}"])
    program.main()
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    assert content["machine"]["torch"] == torch.__version__ and content["machine"]["threads"] == 1
    assert [found["subject"] for found in content["rows"]] == ["views", "views"]
    assert all(found["rounds"] == 2 and 0 < found["ratio"] < 1 for found in content["rows"])
    out = capsys.readouterr().out
    assert "torchvision on PIL images" in out and str(file) in out


def test_only_hooks_that_do_nothing_are_skipped(tmp_path: Path) -> None:
    config = config_of(["model=autoencoder", "+trainer.profiler=simple"], str(tmp_path))
    trainer = make_trainer(config, build(config)[1])
    skipped = {(type(c).__name__, hook) for c in trainer.callbacks for hook in HOOKS if not callable(getattr(c, hook))}
    idle = {(type(c).__name__, hook) for c in trainer.callbacks for hook in HOOKS if hook not in defined(type(c))}
    assert skipped == idle
    assert ("Noise", "on_before_zero_grad") in idle and ("Noise", "on_train_batch_start") not in idle
    assert type(trainer.profiler).__name__ == "SimpleProfiler"  # the one that was asked for


def defined(kind: type) -> set[str]:
    """Names in a class of ours or Lightning's, above the base that does nothing."""
    return {name for c in kind.__mro__ if c.__name__ not in ("Callback", "object") for name in vars(c)}
