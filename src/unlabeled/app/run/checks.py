"""Checks of a config before anything is fetched or built."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from hydra._internal.utils import _locate
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from unlabeled import configs
from unlabeled.app.cli.main import options
from unlabeled.callbacks.pace import limits
from unlabeled.errors import UserError
from unlabeled.evaluation.kinds import Kind, kind_of


def check(config: DictConfig) -> None:
    """Raise UserError where the model does not fit the data, or the devices are not there."""
    limits(**config.budget)
    check_fit(config)
    kind = kind_of(located(config.data._target_).batch)
    check_networks(config, kind)
    check_code(config.model, config.data.get("shape"), kind)
    check_devices(config)


def check_choice(group: str, name: str) -> None:
    """Refuse base/NAME, which is only a part of other configs."""
    if name.startswith("base/"):
        raise UserError(f"{group}={name} is no {group} of its own, but what others share: take {group}=NAME of --help")


def check_fit(config: DictConfig) -> None:
    """Refuse a model that cannot learn from this kind of data, before anything is fetched or built."""
    takes, gives = located(config.model._target_).batch, located(config.data._target_).batch
    takes = takes if isinstance(takes, tuple) else (takes,)
    if gives in takes:
        return
    fitting = []
    for name in options("data"):
        target = _target(configs.file("data", name))
        if target and located(target).batch in takes:
            fitting.append(name)
    choices = HydraConfig.get().runtime.choices
    kinds = " or ".join(kind.__name__ for kind in takes)
    raise UserError(
        f"model={choices['model']} learns from {kinds} and data={choices['data']} gives {gives.__name__}: "
        f"take data={' or '.join(fitting)}"
    )


def located(target: str) -> Any:
    """The class that a config names. Raises UserError where there is none; a module that fails is its author's bug."""
    try:
        return _locate(target)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None)
        if not isinstance(error.__cause__, ModuleNotFoundError) or not f"{target}.".startswith(f"{missing}."):
            raise
        package = target.partition(".")[0]
        raise UserError(
            f"there is no {missing}, which the config names as {target}: "
            + (
                "see its spelling"
                if missing != package
                else f"install {package}, put the folder that it lies in on PYTHONPATH, or lay it beside your configs "
                "(--config-dir)"
            )
        ) from error


def check_networks(config: DictConfig, kind: Kind) -> None:
    """Refuse networks for images where data are none: those that say `any_shape = True` take both."""
    if kind.visual:
        return
    for path, target in _shaped(config.model, "model"):
        if not getattr(located(target), "any_shape", False):
            choices = HydraConfig.get().runtime.choices
            parts = ("generator", "discriminator")
            instead = " ".join(f"network@model.{part}=gan/mlp_{part}" for part in parts if part in config.model)
            raise UserError(
                f"{path} of model={choices['model']} is a network of images ({target.rpartition('.')[2]}) and "
                f"data={choices['data']} gives {kind.noun}s: take model=gan"
                + (f", or say {instead}" if instead else "")
            )


def _shaped(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Path and class of every part of a config that is given the data's shape."""
    if isinstance(node, DictConfig):
        if "_target_" in node and "shape" in node:
            yield path, node._target_
        for key in node:
            yield from _shaped(node[key], f"{path}.{key!s}")


def check_code(model: DictConfig, shape: Any, kind: Kind) -> None:
    """Refuse a code with more numbers than the image where nothing keeps it from being a copy."""
    if not kind.visual:
        return
    numbers, width = prod(shape or [0]), model.get("latent_dim")
    if not isinstance(width, int) or not {"encoder", "decoder"} <= set(model) or width <= numbers or not numbers:
        return
    holds = {"bottleneck": "torch.nn.Identity", "regularizer": "unlabeled.losses.regularizer.NoRegularizer"}
    chosen = {part: OmegaConf.select(model, f"{part}._target_") for part in holds}
    if "corruption" in model or any(chosen[part] not in (None, none) for part, none in holds.items()):
        return
    raise UserError(
        f"model.latent_dim={width}: an {kind.noun} has {numbers} numbers ({'x'.join(map(str, shape))}), and nothing "
        "keeps a wider code from being a copy of it: take a smaller one"
        + (", or say bottleneck=..., regularizer=... or model=denoising_autoencoder" if "bottleneck" in model else "")
    )


def _target(path: Path) -> str | None:
    node = OmegaConf.load(path)
    assert isinstance(node, DictConfig)
    if "_target_" in node:
        return node._target_
    parents = [entry for entry in node.get("defaults", []) if isinstance(entry, str) and entry.endswith("@_here_")]
    inherited = (_target(configs.file("data", name.removesuffix("@_here_"))) for name in reversed(parents))
    return next(filter(None, inherited), None)


def check_devices(config: DictConfig) -> None:
    """Refuse more devices than there are."""
    accelerator, wanted = config.trainer.accelerator, config.trainer.devices
    which = list(wanted) if OmegaConf.is_list(wanted) else None
    if wanted in (0, []) or (
        min(which) < 0 or len({*which}) < len(which) if which else wanted != "auto" and wanted < -1
    ):
        raise UserError(f"trainer.devices={wanted}: say how many, 1 or more; or auto; or which, as [0,1]")
    if which and accelerator == "cpu":
        raise UserError(f"trainer.devices={wanted}: CPUs are only counted; say trainer.devices={len(which)}")
    have = {
        "gpu": torch.cuda.device_count(),
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    there = have.get(accelerator)
    if there == 0:
        raise UserError(
            f"trainer.accelerator={accelerator}: this machine has none that torch can use; take trainer=cpu"
        )
    count = max(which) + 1 if which else wanted
    if there is not None and isinstance(count, int) and count > there:
        raise UserError(f"trainer.devices={wanted}: this machine has {there}; say trainer.devices={there}")


def devices(config: dict[str, Any]) -> int:
    """Processes on this node."""
    wanted = config["trainer"]["devices"]
    if isinstance(wanted, list):
        return len(wanted)
    if wanted in ("auto", -1, "-1"):
        return max(1, torch.cuda.device_count()) if config["trainer"]["accelerator"] in ("gpu", "cuda") else 1
    return int(wanted)
