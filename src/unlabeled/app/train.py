"""One run: check, build, fit, tell what was reached."""

import csv
import json
import logging
import math
import random
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
from unlabeled.app.processes import agree, environment, launch, saved_first, together
from unlabeled.callbacks.checkpoints import AtomicIO, Checkpoints
from unlabeled.callbacks.measures import Measures
from unlabeled.callbacks.pace import Budget
from unlabeled.callbacks.pruning import Pruning
from unlabeled.callbacks.records import Diverged, Records
from unlabeled.errors import UserError
from unlabeled.evaluation.pictures import curves
from unlabeled.loggers import CSV
from unlabeled.seeding import mix

CHANGEABLE = ("budget.", "trainer", "logger", "callbacks.", "resume", "run", "output")  # when a run is resumed


def train(config: DictConfig) -> float | None:
    """Train as the config says; returns the monitored quantity where there is one (for sweepers)."""
    start = agree(lambda: prepare(config))
    plain, how, group = start["config"], start["how"], together()
    folder = Path(plain["run"])
    if how == "over":
        print(f"over already: {folder}")
        return _result(folder).get("objective")
    try:
        with saved_first():
            if devices(plain) > 1 and group is None:
                instantiate(plain["data"], _convert_="all").prepare_data()  # once, not by every process
                return launch(folder, devices(plain), *(["--resume"] if how == "resumed" else []))
            return fit(plain, resume=how == "resumed")
    except Exception as error:
        if group is None or group.rank == 0:
            _failed(folder, plain["names"], error)
        raise


def prepare(config: DictConfig) -> dict[str, Any]:
    """{"config": resolved, with the run's folder, "how": new, resumed or over}."""
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    choices = HydraConfig.get().runtime.choices
    given = [word for word in HydraConfig.get().overrides.task if not word.startswith("resume=")]
    words = list({word.partition("=")[0]: word for word in given}.values())  # the last of a key counts
    if multirun and together() and choices["hydra/launcher"] == "basic":
        raise UserError("a sweep is started once, without srun or torchrun: say hydra/launcher=submitit_slurm")
    if config.resume not in (None, "auto"):
        return {"config": resumed(config, Path(config.resume), words), "how": "resumed"}
    names = {group: choices[group] for group in ("model", "data", "trainer")} | {"overrides": words}
    if not multirun:
        settle(config)
        check(config)  # a sweep's job has a folder first, so that its failure is in the table
    telling = [word for word in words if not word.startswith(("output=", "data_root=", "data_packed="))]
    job = f"{HydraConfig.get().job.num}-{slug(telling)}" if multirun else ""
    if config.run is None and config.resume == "auto" and not multirun:
        raise UserError("resume=auto must know the run: say run=FOLDER")
    if config.run is not None or config.resume == "auto":
        folder = Path(config.run or Path(HydraConfig.get().sweep.dir) / job)
        if config.resume == "auto":
            if "error" not in _result(folder, {"error": "none"}) and set(words) == set(_words(folder)):
                return {"config": resolve(OmegaConf.load(folder / "config.yaml")), "how": "over"}
            if (folder / "checkpoints" / "last.ckpt").is_file():
                return {"config": resumed(config, folder, words), "how": "resumed"}
            (folder / "metrics.csv").unlink(missing_ok=True)  # of one that was stopped before its first checkpoint
        elif (folder / "config.yaml").exists():
            raise UserError(f"run={folder} holds a run already: say resume={folder}, or another folder")
        folder.mkdir(parents=True, exist_ok=True)
    elif multirun:
        folder = new_folder(HydraConfig.get().sweep.dir, job)
    else:
        folder = new_folder(config.output, f"{choices['model']}-{choices['data']}-{stamp()}")
    config.run = str(folder)
    try:
        settle(config)
        check(config)
        plain = resolve(config) | {"names": names}
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain)))
    except Exception as error:
        _failed(folder, names, error)
        raise
    return {"config": plain, "how": "new"}


def settle(config: Any) -> None:
    """Devices and nodes are those that srun or torchrun started processes for."""
    group = together()
    if group is None:
        if config.trainer.num_nodes != 1:
            raise UserError(
                "trainer=multinode takes its nodes and devices from srun or torchrun, and neither started this: "
                "put one of them before python, or say trainer=ddp"
            )
        return
    if group.world > 1 and config.trainer.strategy == "auto":
        raise UserError(f"{group.world} processes were started together, and this trainer wants one: trainer=multinode")
    config.trainer.devices, config.trainer.num_nodes = group.here, group.nodes


def _result(folder: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    file = folder / "result.json"
    return json.loads(file.read_text()) if file.is_file() else otherwise or {}


def _words(folder: Path) -> list[str]:
    return list(OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "names.overrides", default=[]))


def _failed(folder: Path, names: dict[str, Any], error: Exception) -> None:
    """Leave word of it, unless the folder holds what was reached before."""
    if "error" in _result(folder, {"error": "none"}):
        (folder / "result.json").write_text(json.dumps({"names": names, "error": explain(error)}))


def fit(config: dict[str, Any], resume: bool = False) -> float | None:
    """Run a resolved config in its folder, in this process."""
    quiet()
    folder = Path(config["run"])
    data, method = build(config)
    trainer = make_trainer(config, method)
    provide_extractors(trainer, config, data)
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
        plugins=[AtomicIO(), environment()],
        default_root_dir=config["run"],
        accumulate_grad_batches=config["accumulate"] if method.automatic_optimization else 1,
        _convert_="all",
    )
    part(trainer, Checkpoints).config = config
    if not method.automatic_optimization:
        method.accumulate = config["accumulate"]  # Lightning refuses to do it in manual optimization
    return trainer


def provide_extractors(trainer: Trainer, config: dict[str, Any], data: Any) -> None:
    """What is measured during training sees images through an extractor; it is found when all ranks are there."""
    from unlabeled.app.extractors import choose  # which trains one itself, by this module

    cache = Path(data.packed) / "evaluation"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Measures):
            callback.choose = lambda name, weights, place, notes: choose(
                name, weights, config, data, cache, str(trainer.strategy.root_device), (), notes, place
            )


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


def resumed(config: DictConfig, folder: Path, words: list[str]) -> dict[str, Any]:
    """The config of the run to go on with, with the few overrides that leave its past as it was."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"resume={folder}: no run there (no config.yaml): give a run's folder, as outputs/vae-digits-..."
        )
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(f"resume={folder}: it has no checkpoint yet; start it anew")
    old = OmegaConf.load(file)
    before = _words(folder)
    for word in words:
        key = word.partition("=")[0]
        if word in before:
            continue
        if not key.startswith(CHANGEABLE) or OmegaConf.select(old, key, default=...) is ...:
            raise UserError(
                f"{word}: a resumed run keeps its config; only budget.*, trainer.* and callbacks.* may change"
            )
        OmegaConf.update(old, key, OmegaConf.select(config, key))
        if key.startswith("budget."):
            OmegaConf.update(old, f"callbacks.{key}", OmegaConf.select(config, key))
        before = [other for other in before if other.partition("=")[0] != key] + [word]
    OmegaConf.update(old, "run", str(folder))
    OmegaConf.update(old, "names.overrides", before)
    settle(old)
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
    monitor, mode = checkpoints.choice(trainer)
    objective = records.best.get(monitor) if monitor else None
    result = {
        "names": config["names"],
        "seed": config["seed"],
        "batches": trainer.fit_loop.total_batch_idx + 1,
        "seconds": round(seconds, 1),
        "objective": objective,
        "last": records.latest,
        "best": records.best,
    }
    pruned = next((c.pruned for c in trainer.callbacks if isinstance(c, Pruning)), None)  # type: ignore[attr-defined]
    if pruned:
        result["pruned"] = pruned
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    console = Console(highlight=False)
    names = config["names"]
    title = f"{names['model']} on {names['data']}, {result['batches']} batches in {seconds:.0f} s"
    table = Table(title=f"{title}, pruned {pruned}" if pruned else title)
    table.add_column("quantity")
    table.add_column("last", justify="right")
    if records.best:
        table.add_column(f"at the {mode} {monitor}", justify="right")
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
