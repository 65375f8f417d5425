"""One run: training and its report."""

import csv
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig
from rich.console import Console

from unlabeled import commands
from unlabeled.app.cli import log, signals
from unlabeled.app.cli.terminal import show, tables
from unlabeled.app.run.build import (
    build,
    close_loggers,
    make_trainer,
    provide_extractors,
    rewind_loggers,
    silence_lightning,
)
from unlabeled.app.run.checkpoint import batches_done, check_content, check_weights, open_checkpoint, trust_overrides
from unlabeled.app.run.checks import devices
from unlabeled.app.run.plan import end_is_recorded, has_checkpoint, prepare, record_failure, result_of
from unlabeled.app.run.secrets import pass_to_children
from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.callbacks.pace import Budget, BudgetSpent
from unlabeled.callbacks.pruning import Pruning
from unlabeled.callbacks.records import Diverged, Records
from unlabeled.callbacks.trainer import callback, callbacks, data_of
from unlabeled.capabilities import code_width, inverts
from unlabeled.commands import command, quoted
from unlabeled.distributed.processes import (
    broadcast_from_rank0,
    is_peer_failure,
    launch,
    process_group,
    save_before_requeue,
)
from unlabeled.errors import UserError, error_line
from unlabeled.evaluation.figures.drawing import curves
from unlabeled.evaluation.kinds import kind_of
from unlabeled.evaluation.report.order import ordered
from unlabeled.files import DISK_FULL, write_json

CURVES = Path("pictures") / "curves.png"


def train(config: DictConfig) -> float | None:
    """Train as the config says; returns the monitored quantity where there is one (for sweepers)."""
    signals.stop_cleanly()
    with ExitStack() as held:
        start = broadcast_from_rank0(lambda: prepare(config, held))
        return run(start["config"], start["how"])


def run(plain: dict[str, Any], how: str) -> float | None:
    """Train a resolved config in its folder: by one process, one a device, or the processes started together."""
    folder, group = Path(plain["run"]), process_group()
    if how == "over":
        print(f"over already: {folder}")
        result = result_of(folder)
        if (group is None or group.rank == 0) and not (folder / CURVES).is_file():
            draw_curves(folder, result.get("monitor"))  # it was killed after result.json was written
        return result.get("objective")
    if how == "new":
        log.write_to(folder, head=group is None or group.rank == 0)
    try:
        with save_before_requeue(), explain_full_disk(folder):
            if devices(plain) > 1 and group is None:
                instantiate(plain["data"], _convert_="all").prepare_data()  # once, not by every process
                return run_processes(plain, resume=how == "resumed")
            return fit(plain, resume=how == "resumed")
    except Exception as error:
        if group is None or group.rank == 0:
            record_failure(folder, plain["names"], error)
        raise


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        then = commands.resume(folder) if has_checkpoint(folder) else "start it again"
        raise UserError(f"cannot write into {folder}: {error.strerror}; make room, and {then}") from error


def run_processes(config: dict[str, Any], resume: bool = False) -> float | None:
    """`fit`, by one process a device."""
    run = config["run"]
    stopped = f"stopped; to go on: {commands.resume(run)}"
    flags = ["--resume"] if resume else []
    before = log.size(Path(run))
    try:
        with pass_to_children(config):
            launch(devices(config), "unlabeled.app.run.worker", run, *flags, what=run, stopped=stopped)
    finally:
        if log.size(Path(run)) > before:  # otherwise nothing was trained, and the folder stays unchanged
            log.write_to(Path(run), head=False)
    return result_of(Path(run)).get("objective")


class StartLog(Callback):
    """Starts the log of a resumed run at its first batch, since a refused resume must change nothing."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, method: Any, batch: Any, batch_idx: int) -> None:
        log.write_to(self.folder, head=trainer.is_global_zero)


def fit(config: dict[str, Any], resume: bool = False) -> float | None:
    """Run a resolved config in its folder, in this process."""
    silence_lightning()
    folder = Path(config["run"])
    data, method = build(config)
    trainer = make_trainer(config, method)
    trainer.callbacks.append(StartLog(folder))  # type: ignore[attr-defined]
    provide_extractors(trainer, config, data)
    checkpoints = callback(trainer, Checkpoints)
    loggers = trainer.loggers
    if resume:
        content = open_checkpoint(checkpoints.last)
        check_weights(content, method, checkpoints.last)
        if trainer.is_global_zero:
            check_content(content, data)
        rewind_loggers(loggers, folder, batches_done(content))
    try:
        ckpt_path = checkpoints.last if resume else None
        trainer.fit(method, datamodule=data, ckpt_path=ckpt_path, weights_only=True)  # type: ignore[arg-type]
    except BudgetSpent:
        if trainer.is_global_zero and end_is_recorded(folder, trainer.fit_loop.total_batch_idx + 1):
            raise  # otherwise it was killed before result.json
    except RuntimeError as error:
        if not is_peer_failure(error):
            raise
        say = f"process {trainer.global_rank} of {folder} has lost another one, or waited too long for it; "
        raise UserError(f"{say}to go on: {commands.resume(folder)}" if trainer.global_rank < 2 else "") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError("batch norm has no statistics of one image: say data.batch_size=2 or more") from error
    except Diverged as error:
        kept = checkpoints.last if checkpoints.last.exists() else None
        raise UserError(
            f"{error}: training stopped; "
            + (f"the last good checkpoint is {kept}; " if kept else "no checkpoint had been written yet; ")
            + "try a lower learning rate, or callbacks.clip.norm=1"
        ) from error
    finally:
        close_loggers(loggers)
    if not trainer.is_global_zero:
        return None
    return report(config, folder, trainer, method)


def draw_curves(folder: Path, monitor: str | None) -> None:
    """Draw metrics.csv. A failure is a note."""
    metrics = folder / "metrics.csv"
    try:
        if metrics.is_file():
            with open(metrics, newline="") as file:
                curves(list(csv.DictReader(file)), folder / CURVES, monitor)
    except Exception as error:
        print(f"note: the picture curves could not be drawn: {error_line(error)}", file=sys.stderr, flush=True)


def report(
    config: dict[str, Any],
    folder: Path,
    trainer: Trainer,
    method: Any,
) -> float | None:
    """Write result.json, draw the curves, and print the summary."""
    records, checkpoints = callback(trainer, Records), callback(trainer, Checkpoints)
    seconds = callback(trainer, Budget).seconds
    monitor, mode = checkpoints.choice(trainer)
    objective = records.best.get(monitor) if monitor else None
    result = {
        "names": config["names"],
        "seed": config["seed"],
        "batches": trainer.fit_loop.total_batch_idx + 1,
        "seconds": round(seconds, 1),
        "monitor": monitor,
        "objective": objective,
        "last": records.latest,
        "best": records.best,
    }
    pruned = next((found.pruned for found in callbacks(trainer, Pruning)), None)
    if pruned:
        result["pruned"] = pruned
    write_json(folder / "result.json", result)
    draw_curves(folder, monitor)
    console = Console(highlight=False)
    names = config["names"]
    title = f"{names['model']} on {names['data']}, {result['batches']} batches in {seconds:.0f} s"
    console.print(f"{title}, pruned {pruned}" if pruned else title, soft_wrap=True, markup=False)
    heads = ["quantity", "last", *([f"at the {mode} {monitor}"] if records.best else [])]
    rows = []
    for name in ordered(records.latest, monitor):
        if name != "train/lr":
            best = [f"{records.best[name]:.4g}" if name in records.best else ""] if records.best else []
            rows.append([name, f"{records.latest[name]:.4g}", *best])
    show(console, tables(heads, rows, console.width))
    if inverts(method) and trainer.world_size == 1:  # a sharded network needs all processes
        data, size = data_of(trainer), math.prod(config["data"]["shape"])
        width = code_width(method.eval(), data.table("train").batch(torch.arange(1)).x.to(method.device))
        noun = kind_of(data.batch).noun
        console.print(f"code         {width} numbers for an {noun}'s {size}: compression {size / width:.3g}")
    kept = " and ".join(path.name for path in (checkpoints.best, checkpoints.last) if path.exists())
    console.print(f"checkpoints  {checkpoints.folder} ({kept})", soft_wrap=True)
    console.print(f"pictures     {folder / 'pictures'}", soft_wrap=True)
    measure = command("evaluate", quoted("checkpoint", folder), *trust_overrides(config))
    console.print(f"next         {measure}", soft_wrap=True, markup=False)
    return objective if objective is None or math.isfinite(objective) else None
