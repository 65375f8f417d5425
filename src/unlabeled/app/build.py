"""A resolved config made into objects: data, method, trainer, loggers."""

import logging
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from lightning import Trainer

from unlabeled.app.processes import environment
from unlabeled.callbacks.checkpoints import AtomicIO, Checkpoints
from unlabeled.callbacks.measures import Measures
from unlabeled.seeding import mix


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


def quiet() -> None:
    """Lightning's advertisements and advice about what is done here on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    for text in (".*num_workers.*", ".*does not have many workers.*", ".*TracerWarning.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", text)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
