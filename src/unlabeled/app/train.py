"""One run: check, build, fit, tell what was reached."""

import csv
import json
import logging
import math
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from unlabeled.app.checkpoint import read
from unlabeled.app.checks import check, check_devices, devices
from unlabeled.app.cli import explain
from unlabeled.app.folders import new_folder, slug, stamp
from unlabeled.callbacks.checkpoints import AtomicIO, Checkpoints
from unlabeled.callbacks.pace import Budget
from unlabeled.callbacks.records import Diverged, Records
from unlabeled.errors import UserError
from unlabeled.evaluation.pictures import curves
from unlabeled.loggers import CSV
from unlabeled.seeding import mix

CHANGEABLE = ("budget.", "trainer", "logger", "callbacks.", "resume", "run", "output")  # when a run is resumed


def train(config: DictConfig) -> float | None:
    """Train as the config says; returns the monitored quantity where there is one (for sweepers)."""
    if config.resume is not None:
        plain = resumed(config)
        if devices(plain) > 1 and "LOCAL_RANK" not in os.environ:
            return launch(Path(plain["run"]), devices(plain), "--resume")
        return fit(plain, resume=True)
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    choices, words = HydraConfig.get().runtime.choices, list(HydraConfig.get().overrides.task)
    names = {group: choices[group] for group in ("model", "data", "trainer")} | {"overrides": words}
    if not multirun:
        check(config)  # a sweep's job has a folder first, so that its failure is in the table
    if config.run is not None:
        folder = Path(config.run)
        if (folder / "config.yaml").exists():
            raise UserError(f"run={folder} holds a run already: say resume={folder}, or another folder")
        folder.mkdir(parents=True, exist_ok=True)
    elif multirun:
        job = HydraConfig.get().job
        folder = new_folder(HydraConfig.get().sweep.dir, f"{job.num}-{slug(words)}")
    else:
        folder = new_folder(config.output, f"{choices['model']}-{choices['data']}-{stamp()}")
    config.run = str(folder)
    try:
        check(config)
        plain = resolve(config)
        plain["names"] = names
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain)))
        if devices(plain) > 1 and "LOCAL_RANK" not in os.environ:
            instantiate(plain["data"], _convert_="all").prepare_data()  # once, not by every process
            return launch(folder, devices(plain))
        return fit(plain)
    except Exception as error:
        (folder / "result.json").write_text(json.dumps({"names": names, "error": explain(error)}))
        raise


def fit(config: dict[str, Any], resume: bool = False) -> float | None:
    """Run a resolved config in its folder, in this process."""
    quiet()
    folder = Path(config["run"])
    data, method = build(config)
    trainer = make_trainer(config, method)
    checkpoints = part(trainer, Checkpoints)
    loggers = trainer.loggers
    if resume:
        done = read(checkpoints.last)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
        for logger in loggers:
            if isinstance(logger, CSV):
                logger.truncate(done)
    try:
        trainer.fit(method, datamodule=data, ckpt_path=checkpoints.last if resume else None, weights_only=True)
    except Diverged as error:
        kept = checkpoints.last if checkpoints.last.exists() else None
        raise UserError(
            f"{error}: training stopped; "
            + (f"the last good checkpoint is {kept}; " if kept else "no checkpoint had been written yet; ")
            + "try a lower learning rate, or callbacks.clip.norm=1"
        ) from error
    finally:
        finish(loggers)
    if not trainer.is_global_zero:
        return None
    return report(config, folder, trainer, method)


def build(config: dict[str, Any]) -> tuple[Any, Any]:
    """(data, method), the same initial weights on every rank."""
    data = instantiate(config["data"], _convert_="all")
    data.prepare_data()
    seed = mix(config["seed"], 0) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    method = instantiate(config["model"], _convert_="all")
    return data, method


def resolve(config: Any) -> dict[str, Any]:
    """A config as plain values: nothing else may go below this floor, or into a checkpoint."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def make_trainer(config: dict[str, Any], method: Any, **settings: Any) -> Trainer:
    """The Trainer that a resolved config describes; `settings` go over the config's own."""
    trainer = instantiate(
        config["trainer"] | settings,
        callbacks=list(instantiate(config["callbacks"], _convert_="all").values()),
        logger=loggers_of(config),
        plugins=[AtomicIO()],
        default_root_dir=config["run"],
        accumulate_grad_batches=config["accumulate"] if method.automatic_optimization else 1,
        _convert_="all",
    )
    part(trainer, Checkpoints).config = config
    if not method.automatic_optimization:
        method.accumulate = config["accumulate"]  # Lightning refuses to do it in manual optimization
    return trainer


def part(trainer: Trainer, kind: type) -> Any:
    """The trainer's callback of a kind."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))  # type: ignore[attr-defined]


def loggers_of(config: dict[str, Any]) -> list[Any]:
    settings = config.get("logger") or {}
    folder = Path(config["run"])
    if "wandb" in settings:
        wandb = settings["wandb"]
        wandb["name"] = wandb["name"] or folder.name
        wandb["group"] = wandb["group"] or (folder.parent.name if folder.parent.parent.name == "sweeps" else None)
    loggers = [instantiate(logger, _convert_="all") for logger in settings.values()]
    for logger in loggers:
        logger.log_hyperparams(config)
    return loggers


def finish(loggers: list[Any]) -> None:
    """Close what a later job of the same process would otherwise go on writing into."""
    if any(type(logger).__name__ == "WandbLogger" for logger in loggers):
        import wandb

        wandb.finish()


def launch(folder: Path, processes: int, *flags: str) -> float | None:
    """One process a device, each from the run's resolved config: no rank can train another configuration."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, "-m", "unlabeled.app.worker", str(folder), *flags])
    if done.returncode:
        raise UserError(f"a process of {folder} failed (status {done.returncode}): its own message stands above")
    return json.loads((folder / "result.json").read_text()).get("objective")


def resumed(config: DictConfig) -> dict[str, Any]:
    """The config of the run to go on with, with the few overrides that leave its past as it was."""
    folder = Path(config.resume)
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"resume={folder}: no run there (no config.yaml): give a run's folder, as outputs/vae-digits-..."
        )
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(f"resume={folder}: it has no checkpoint yet; start it anew")
    old = OmegaConf.load(file)
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith("resume=")]
    for word in words:
        key = word.partition("=")[0]
        if not key.startswith(CHANGEABLE) or OmegaConf.select(old, key, default=...) is ...:
            raise UserError(
                f"{word}: a resumed run keeps its config; only budget.*, trainer.* and callbacks.* may change"
            )
        OmegaConf.update(old, key, OmegaConf.select(config, key))
        if key.startswith("budget."):
            OmegaConf.update(old, f"callbacks.{key}", OmegaConf.select(config, key))
    OmegaConf.update(old, "run", str(folder))
    check_devices(old)  # type: ignore[arg-type]
    file.write_text(OmegaConf.to_yaml(old))
    return resolve(old)


def report(
    config: dict[str, Any],
    folder: Path,
    trainer: Trainer,
    method: Any,
) -> float | None:
    """result.json, the curves, and the last lines on the screen."""
    records, checkpoints, seconds = part(trainer, Records), part(trainer, Checkpoints), part(trainer, Budget).seconds
    metrics = folder / "metrics.csv"
    if metrics.is_file():
        with open(metrics, newline="") as file:
            curves(list(csv.DictReader(file)), folder / "pictures" / "curves.png")
    objective = records.best.get(method.monitor) if method.monitor else None
    result = {
        "names": config["names"],
        "seed": config["seed"],
        "batches": trainer.fit_loop.total_batch_idx + 1,
        "seconds": round(seconds, 1),
        "objective": objective,
        "last": records.latest,
        "best": records.best,
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    console = Console(highlight=False)
    names = config["names"]
    table = Table(title=f"{names['model']} on {names['data']}, {result['batches']} batches in {seconds:.0f} s")
    table.add_column("quantity")
    table.add_column("last", justify="right")
    if records.best:
        table.add_column(f"at the lowest {method.monitor}", justify="right")
    for name, value in sorted(records.latest.items()):
        if name != "train/lr":
            best = [f"{records.best[name]:.4g}" if name in records.best else ""] if records.best else []
            table.add_row(name, f"{value:.4g}", *best)
    console.print(table)
    kept = " and ".join(path.name for path in (checkpoints.best, checkpoints.last) if path.exists())
    console.print(f"checkpoints  {checkpoints.folder} ({kept})", soft_wrap=True)
    console.print(f"pictures     {folder / 'pictures'}", soft_wrap=True)
    console.print(f"next         python evaluate.py checkpoint={folder}", soft_wrap=True)
    return objective if objective is None or math.isfinite(objective) else None


def quiet() -> None:
    """Lightning's advertisements and advice about what is done here on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    for text in (".*num_workers.*", ".*does not have many workers.*", ".*TracerWarning.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", text)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
