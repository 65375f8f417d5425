"""Checkpoints, opened without running code from them: a resolved config and tensors."""

import inspect
import pickle
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate

from unlabeled.app.run.changes import with_other_data
from unlabeled.callbacks.checkpoints import keep
from unlabeled.data.protocols import DataModule
from unlabeled.errors import UserError
from unlabeled.files import FORMAT

TRUSTED = ("unlabeled", "torch.nn", "torch.optim")
DAMAGED = "damaged.ckpt"  # new name of a damaged last.ckpt


class Damaged(UserError):
    """A checkpoint file is missing, incomplete or damaged."""


def locate(path: str | Path) -> Path:
    """The checkpoint file of a run's folder (best, else last), or the file itself."""
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


def open_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """A checkpoint's content, by weights-only loading.

    Raises Damaged where the file is damaged, and UserError where it is no checkpoint of Unlabeled or holds anything but
    plain values and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()  # torch.load compares no checksums
        if torn:
            raise zipfile.BadZipFile(f"the checksum of {torn} is wrong")
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, and is not opened: it could run code"
        ) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError, NotImplementedError) as error:
        others = [other.name for other in sorted(path.parent.glob("*.ckpt")) if other.name not in (path.name, DAMAGED)]
        beside = f": beside it lies {' and '.join(others)}" if others else ""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Damaged(f"{path} is damaged or not whole ({reason}): take another one{beside}") from error
    if not isinstance(content, dict) or not {"config", "state_dict"} <= set(content):
        raise UserError(f"{path} is not a checkpoint of Unlabeled: it carries no config")
    if (found := content.get("format", 1)) != FORMAT:
        raise UserError(
            f"{path} is of another version of Unlabeled (format {found}, here {FORMAT}): open it with that version, or "
            "train anew"
        )
    return content


def check_targets(node: Any, trusted_packages: tuple[str, ...]) -> None:
    """Raise UserError for a config that would call classes or functions outside the trusted packages."""
    found = list(untrusted_targets(node, trusted_packages))
    if found:
        given = [package for package in trusted_packages if package not in TRUSTED]
        packages = dict.fromkeys([*given, *(home.split(".")[0] for _, home in found)])
        raise UserError(
            f"the checkpoint would call {found[0][0]}: if you trust it, say trusted_packages=[{','.join(packages)}]"
        )


def trust_overrides(config: dict[str, Any]) -> list[str]:
    """The override that evaluate.py needs to open a run's checkpoints, if any."""
    packages = packages_of(config)
    return [f"trusted_packages=[{','.join(packages)}]"] if packages else []


def packages_of(config: dict[str, Any]) -> list[str]:
    """The packages that a run's config calls beside the trusted ones."""
    found = untrusted_targets([config["model"], config["data"]], TRUSTED)
    return list(dict.fromkeys(home.split(".")[0] for _, home in found))


def untrusted_targets(node: Any, trusted_packages: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Classes and functions that a config names outside the trusted packages, with the modules that define them."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None:
            home = _home(target, trusted_packages)
            if not any(home == package or home.startswith(f"{package}.") for package in trusted_packages):
                yield str(target), home
        for value in node.values():
            yield from untrusted_targets(value, trusted_packages)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from untrusted_targets(value, trusted_packages)


def _home(target: Any, trusted_packages: tuple[str, ...]) -> str:
    """The module in which the named class or function is defined. Imports trusted modules only."""
    if not isinstance(target, str) or not any(target.startswith(f"{package}.") for package in trusted_packages):
        return str(target)
    package = target.partition(".")[0]
    if package not in sys.modules and find_spec(package) is None:
        raise UserError(
            f"the checkpoint names {target}, and there is no package {package} to import: install it, put the folder "
            "that it lies in on PYTHONPATH, or say --config-dir FOLDER where it lies beside your configs"
        )
    try:
        found = get_object(target)
    except Exception as error:
        raise UserError(f"the checkpoint names {target}, which this version does not have") from error
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return f"({type(found).__name__}) {target}"
    return found.__module__


def resumable(folder: Path) -> tuple[dict[str, Any], Damaged | None]:
    """What a run resumes from: last.ckpt, or previous.ckpt and the damage of last.ckpt. Changes nothing.

    Raises Damaged where both are damaged.
    """
    last, previous = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    try:
        return open_checkpoint(last), None
    except Damaged as error:
        if not previous.is_file():
            raise Damaged(f"{error}; there is no previous.ckpt to go on from: start the run anew elsewhere") from error
        try:
            return open_checkpoint(previous), error
        except Damaged:
            raise Damaged(f"{last} and {previous.name} are both damaged: start the run anew elsewhere") from error


def repair_last(folder: Path) -> dict[str, Any]:
    """The content that a run resumes from; previous.ckpt replaces a damaged or missing last.ckpt.

    The damaged file gets another name. Raises Damaged where both are damaged, and then changes nothing.
    """
    content, damage = resumable(folder)
    if damage:
        last, previous, spoilt = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt", DAMAGED))
        if last.exists():
            keep(last, spoilt)
        keep(previous, last)
        why = f"{last} is damaged (now {DAMAGED})" if spoilt.exists() else f"{last} is gone"
        where = f"going on from {previous.name}, after batch {batches_done(content)}"
        print(f"note: {why}: {where}", file=sys.stderr, flush=True)
    return content


def batches_done(content: dict[str, Any]) -> int:
    """The number of batches that a run had done."""
    return content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]


def check_weights(content: dict[str, Any], method: Any, file: Path) -> None:
    """Raise UserError for weights that do not fit the method as it is now."""
    states = content["state_dict"], method.state_dict()
    then, now = ({name: tuple(value.shape) for name, value in state.items()} for state in states)
    wrong = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if wrong:
        told = f"{wrong[0]}: {then.get(wrong[0], 'nothing')} there, {now.get(wrong[0], 'nothing')} here"
        more = f", and {len(wrong) - 1} more" * (len(wrong) > 1)
        raise UserError(
            f"{file} does not fit {type(method).__name__} as it is now ({told}{more}): go on with the code and config "
            "that wrote it, or start a run of its own"
        )


def check_content(content: dict[str, Any], data: DataModule) -> None:
    """Print a note where a run resumes with other data than it was trained on."""
    then = content.get("data") or {}
    wrong = [split for split in then if split in data.keys and data.keys[split] != then[split]]
    if wrong:
        print(
            f"note: the images of {' and '.join(wrong)} are not those that the run was trained on before: "
            "it goes on with these",
            file=sys.stderr,
        )


def load(
    path: str | Path,
    weights: str = "averaged",
    device: str = "cpu",
    trusted_packages: tuple[str, ...] = (),
    data: dict[str, Any] | None = None,
) -> tuple:
    """(method in evaluation mode, its run's config, facts about the checkpoint).

    `weights`: "averaged" takes moving averages where the run kept them, "live" the weights as trained.
    `data`: other values for keys of the run's data, which the method must fit.
    """
    file = locate(path)
    content = open_checkpoint(file)
    trained = content["config"]
    config = with_other_data(trained, data) if data else trained
    check_targets([config["model"], config["data"]], (*TRUSTED, *trusted_packages))
    method = instantiate(config["model"], _convert_="all")
    state = content["state_dict"]
    averages = [s["average"] for s in content.get("callbacks", {}).values() if isinstance(s, dict) and "average" in s]
    used = "live"
    if weights == "averaged" and averages:
        state, used = state | averages[0], "averaged"
    if config["model"] != trained["model"]:  # buffers of the images' size: positions, image pools
        parameters = dict(method.named_parameters())
        fresh = {name: value for name, value in method.state_dict().items() if name not in parameters}
        state = state | {name: value for name, value in fresh.items() if state[name].shape != value.shape}
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        if config["model"] != trained["model"]:
            shapes = ["x".join(map(str, one["data"].get("shape") or [])) for one in (trained, config)]
            told = f"images of {shapes[0]}, and would be others for {shapes[1]}"
            told = told if shapes[0] != shapes[1] else "its own data, and would be others for these"
            raise UserError(f"the networks of {file} were built for {told}") from error
        raise UserError(f"{file} does not fit its own config: {str(error).splitlines()[-1].strip()}") from error
    facts = {"checkpoint": str(file), "weights": used, "epoch": content["epoch"], "seed": config["seed"]}
    return method.to(device).eval().requires_grad_(False), trained, facts
