"""Opening a checkpoint: a resolved config and tensors, and never anybody's code."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate

from unlabeled.errors import UserError

TRUSTED = ("unlabeled", "torch.nn", "torch.optim")


def locate(path: str | Path) -> Path:
    """The checkpoint file meant by a run's folder (best, else last) or by a file's own path."""
    path = Path(path)
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        for candidate in (path / "checkpoints" / name, path / name):
            if candidate.is_file():
                return candidate
    if path.is_dir():
        raise UserError(f"no checkpoint in {path}: give a run's folder, or a .ckpt file")
    raise UserError(f"no such checkpoint: {path}: give a run's folder (outputs/...), or a .ckpt file")


def read(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """A checkpoint's content, by weights-only loading.

    Raises UserError where the file is truncated, is none of ours, or holds anything but plain values and tensors.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, and is not opened: it could run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged or not whole ({str(error).splitlines()[0]}): take another one") from error
    if not isinstance(content, dict) or not {"config", "state_dict"} <= set(content):
        raise UserError(f"{path} is not a checkpoint of Unlabeled: it carries no config")
    return content


def check_targets(node: Any, trust: tuple[str, ...]) -> None:
    """Refuse a config that would call anything but classes and functions of the trusted packages."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None:
            home = _home(target, trust)
            if not any(home == package or home.startswith(f"{package}.") for package in trust):
                raise UserError(
                    f"the checkpoint wants to call {target}: if you trust it, say trust=[{home.split('.')[0]}]"
                )
        for value in node.values():
            check_targets(value, trust)
    elif isinstance(node, list | tuple):
        for value in node:
            check_targets(value, trust)


def _home(target: Any, trust: tuple[str, ...]) -> str:
    """The module in which the named class or function is defined. Imports trusted modules only."""
    if not isinstance(target, str) or not any(target.startswith(f"{package}.") for package in trust):
        return str(target)
    try:
        found = get_object(target)
    except Exception as error:
        raise UserError(f"the checkpoint names {target}, which this version does not have") from error
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return f"({type(found).__name__}) {target}"
    return found.__module__


def load(path: str | Path, weights: str = "averaged", device: str = "cpu", trust: tuple[str, ...] = ()) -> tuple:
    """(method in evaluation mode, its run's config, facts about the checkpoint).

    `weights`: "averaged" takes moving averages where the run kept them, "live" the weights as trained.
    """
    file = locate(path)
    content = read(file)
    config = content["config"]
    check_targets(config["model"], (*TRUSTED, *trust))
    check_targets(config["data"], (*TRUSTED, *trust))
    method = instantiate(config["model"], _convert_="all")
    state = content["state_dict"]
    averages = [s["average"] for s in content.get("callbacks", {}).values() if isinstance(s, dict) and "average" in s]
    used = "live"
    if weights == "averaged" and averages:
        state, used = state | averages[0], "averaged"
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{file} does not fit its own config: {str(error).splitlines()[-1].strip()}") from error
    facts = {"checkpoint": str(file), "weights": used, "epoch": content["epoch"], "seed": config["seed"]}
    return method.to(device).eval().requires_grad_(False), config, facts
