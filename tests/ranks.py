"""One of two processes that go through a list of runs: python -m tests.ranks FOLDER RANK, each as train.py would it."""

import contextlib
import io
import json
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import distributed
from torch.distributed.tensor import DTensor

from unlabeled.app.run.build import build, make_trainer, silence_lightning
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback
from unlabeled.distributed.sharded import gather_shards
from unlabeled.errors import UserError


class Notes(Callback):
    """What a run did, as plain values and whole tensors."""

    def __init__(self) -> None:
        self.first: dict[int, list[torch.Tensor]] = {}  # player -> gradient of its first step
        self.clipped: list[torch.Tensor] = []  # norms of whole gradients after each step's clipping
        self.seeds: list[int] = []
        self.recorded: list[dict[str, float]] = []  # per batch, this rank's
        self.before: dict[str, torch.Tensor] = {}  # buffers at the start
        self.sharded = 0

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.sharded = sum(isinstance(p, DTensor) for p in method.parameters())
        self.before = {name: b.clone() for name, b in method.named_buffers()}
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(self.stepped)

    def stepped(self, optimizer: Any, *_: Any) -> None:
        gradients = self.of_player(optimizer)
        self.clipped.append(torch.cat([g.flatten() for g in gradients]).norm())

    def on_before_optimizer_step(self, trainer: Any, method: Any, optimizer: Any) -> None:
        player = trainer.optimizers.index(optimizer)
        if player not in self.first:
            self.first[player] = [g.clone() for g in self.of_player(optimizer)]

    def of_player(self, optimizer: Any) -> list[torch.Tensor]:
        """Of a player's parameters; 0 of those that this step has no use for."""
        every = [p for group in optimizer.param_groups for p in group["params"]]
        return [gather_shards(torch.zeros_like(p) if p.grad is None else p.grad) for p in every]

    def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
        self.seeds.append(torch.initial_seed())
        batch = {name: float(value) for values in method.recorded for name, value in values.items()}
        self.recorded.append(batch)


class Apart(Callback):
    """The second rank alone has rows to measure."""

    def on_train_batch_start(self, trainer: Any, method: Any, *_: Any) -> None:
        method.record(rows=trainer.global_rank, second=torch.tensor(2.0))


class StopSecond(Callback):
    """The second rank alone is asked to stop, at a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_rank == 1 and trainer.fit_loop.total_batch_idx + 1 == self.batch:
            signal.raise_signal(signal.SIGINT)


def fitted(config: dict[str, Any], resume: str | None, stop: int | None) -> dict[str, Any]:
    data, method = build(config)
    trainer = make_trainer(config, method, enable_progress_bar="progress" in config["callbacks"])
    notes = Notes()
    trainer.callbacks[:0] = [notes, *([StopSecond(stop)] if stop else [])]  # type: ignore[attr-defined]
    trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    assert trainer.state.fn == TrainerFn.FITTING
    state = {name: value.clone() for name, value in gather_shards(method.state_dict()).items()}
    kept = ("first", "clipped", "seeds", "recorded", "before", "sharded")
    found = {name: getattr(notes, name) for name in kept}
    return found | {"state": state, "latest": callback(trainer, Records).latest}


def main(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    silence_lightning()
    for job in json.loads((folder / "jobs.json").read_text().replace("@RANK@", str(rank))):
        out, err = io.StringIO(), io.StringIO()
        result: dict[str, Any] = {}
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                result = fitted(job["config"], job["resume"], job["stop"])
        except UserError as error:
            result = {"refused": str(error)}
        except Exception:
            result = {"broken": traceback.format_exc()}
        result["said"] = out.getvalue() + err.getvalue()
        torch.save(result, folder / f"{job['name']}-{rank}.pt")
        if "broken" in result:
            print(result["broken"], file=sys.stderr)
            sys.exit(1)  # the other rank may wait for this one: its end is the end of both
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
