"""Construction of data, method, trainer and loggers from a resolved config."""

import logging
import random
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.optim import Optimizer

from unlabeled.app.run.acceleration import accelerate, fused
from unlabeled.app.run.lightning_overhead import NoProfiler, skip_idle
from unlabeled.app.run.precision import precision
from unlabeled.app.run.secrets import redact
from unlabeled.callbacks.checkpoints import AtomicIO, Checkpoints
from unlabeled.callbacks.measures import Measures
from unlabeled.callbacks.pace import Budget
from unlabeled.callbacks.rank_buffers import RankBuffers
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback, callbacks
from unlabeled.capabilities import SamplesClasses
from unlabeled.commands import without_places
from unlabeled.data.protocols import DataModule
from unlabeled.distributed.processes import environment
from unlabeled.errors import UserError
from unlabeled.loggers.actions import close, go_on
from unlabeled.loggers.csv import CSV
from unlabeled.seeding import mix


def build(config: dict[str, Any]) -> tuple[DataModule, Any]:
    """(data, method), the same initial weights on every rank."""
    data = instantiate(config["data"], _convert_="all")
    data.prepare_data()
    seed = mix(config["seed"], 0) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    method = instantiate(fused(config), _convert_="all")
    restrict_classes(method, data)
    check_optimizers(method)
    accelerate(method, config)
    return data, method


def restrict_classes(method: Any, data: Any) -> None:
    """Let a method that samples classes sample those of the training images only."""
    if isinstance(method, SamplesClasses) and (present := data.training_classes()) is not None:
        method.labels.restrict(present)


def check_optimizers(method: Any) -> None:
    """Raise UserError, by the key, for settings that an optimizer refuses: `model.optimizer.lr=-1`."""
    for name, part in vars(method).items():
        if isinstance(part, partial) and isinstance(part.func, type) and issubclass(part.func, Optimizer):
            try:
                part([torch.nn.Parameter(torch.zeros(1))])
            except (TypeError, ValueError) as error:
                raise UserError(f"model.{name}: {part.func.__name__} refuses its settings: {error}") from error


def make_trainer(config: dict[str, Any], method: Any, **settings: Any) -> Trainer:
    """The Trainer of a resolved config; `settings` replace the config's own."""
    given, plugins = precision(config["trainer"] | settings)
    trainer = instantiate(
        given,
        callbacks=[*instantiate(config["callbacks"], _convert_="all").values(), RankBuffers()],
        logger=loggers_of(config),
        profiler=given.get("profiler") or NoProfiler(),
        plugins=[AtomicIO(), environment(), *plugins],
        default_root_dir=config["run"],
        accumulate_grad_batches=config["accumulate"] if method.automatic_optimization else 1,
        _convert_="all",
    )
    skip_idle(trainer)
    for needed in (Budget, Records, Checkpoints):
        callback(trainer, needed)
    callback(trainer, Checkpoints).config = redact(config)
    if not method.automatic_optimization:
        method.accumulate = config["accumulate"]  # Lightning refuses to do it in manual optimization
    return trainer


def provide_extractors(trainer: Trainer, config: dict[str, Any], data: DataModule) -> None:
    """Give `Measures` a function that finds its extractor once all ranks have started."""
    from unlabeled.app.evaluate.extractors import choose  # it imports this module to train one

    cache, device = Path(data.packed) / "evaluation", str(trainer.strategy.root_device)
    key = "callbacks.measures.extractor"
    for measures in callbacks(trainer, Measures):
        measures.choose = lambda name, weights, ranks, notes: choose(
            name, weights, config, data, cache, device, (), notes, ranks, key
        )


def loggers_of(config: dict[str, Any]) -> list[Any]:
    """The loggers of a resolved config, with the run's name, group and tags where none are given."""
    named = run_identity(config)
    loggers = []
    for settings in (config.get("logger") or {}).values():
        own = {key: named[key] for key in ("name", "group") if key in settings and settings[key] is None}
        if "tags" in settings:
            own["tags"] = [*named["tags"], *settings["tags"]]
        loggers.append(instantiate(settings | own, _convert_="all"))
    return loggers


def run_identity(config: dict[str, Any]) -> dict[str, Any]:
    """Name, group and tags of a run: jobs of a sweep are named by number and overrides, in one group."""
    names, folder = config["names"], Path(config["run"])
    home = config["model"]["_target_"].split(".")
    family = [home[2]] if home[:2] == ["unlabeled", "methods"] else []
    words = without_places(names.get("overrides", []))
    sweep = names.get("sweep")
    return {
        "name": f"{folder.name.split('-')[0]} {' '.join(words)}"[:120] if sweep else folder.name,
        "group": sweep,
        "tags": list(dict.fromkeys([names["model"], names["data"], *family])),
    }


def rewind_loggers(loggers: list[Any], folder: Path, batches: int) -> None:
    """Set the loggers of a resumed run back to the batch that it continues from."""
    for logger in loggers:
        if isinstance(logger, CSV):
            logger.truncate(batches)
    rows = [row for row in CSV(folder).rows if int(row["batch"]) <= batches]
    for logger in loggers:
        go_on(logger, batches, rows)


def close_loggers(loggers: list[Any]) -> None:
    """Close the loggers, which a later job of this process would otherwise write to, and print their addresses."""
    failed = sys.exc_info()[0] is not None
    for logger in loggers:
        where = close(logger, failed)
        if where and not getattr(rank_zero_only, "rank", 0):
            print(f"dashboard    {where}")


def silence_lightning() -> None:
    """Silence Lightning's advertisements, and its advice against what is done here on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    for text in (".*num_workers.*", ".*does not have many workers.*", ".*TracerWarning.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", text)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
