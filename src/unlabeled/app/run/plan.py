"""What a run is, before it starts: its folder, its resolved config, and whether it is new, resumed or over."""

import json
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from unlabeled import commands
from unlabeled.app.cli import log
from unlabeled.app.cli.main import explain
from unlabeled.app.cli.types import KEYS, check_values
from unlabeled.app.run.changes import ABOUT, approve, change, same_parts
from unlabeled.app.run.checkpoint import Damaged, batches, newest, read, whole
from unlabeled.app.run.checks import check, check_choice, check_devices
from unlabeled.app.run.class_names import name_classes
from unlabeled.app.run.folders import alone, kept, made, new_folder, slug, stamp
from unlabeled.app.run.secrets import MARK, redact, restore
from unlabeled.callbacks import pace
from unlabeled.callbacks.pace import check_left, counted
from unlabeled.distributed.processes import together
from unlabeled.errors import UserError
from unlabeled.files import FORMAT, write, write_json


def prepare(config: DictConfig, held: ExitStack) -> dict[str, Any]:
    """{"config": resolved, with the run's folder, "how": new, resumed or over}; `held` keeps others from the folder."""
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    choices = HydraConfig.get().runtime.choices
    given = [
        word for word in HydraConfig.get().overrides.task if not word.startswith(("resume=", "allow_config_change="))
    ]
    words = redact(list({word.partition("=")[0]: word for word in given}.values()))  # the last of a key counts
    if multirun and together() and choices["hydra/launcher"] == "basic":
        raise UserError("a sweep is started once, without srun or torchrun: say hydra/launcher=submitit_slurm")
    names = {group: choices[group] for group in ("model", "data", "trainer")} | {"overrides": words, "format": FORMAT}
    if multirun:
        names["sweep"] = Path(HydraConfig.get().sweep.dir).name
    telling = [word for word in words if not word.startswith(("output=", "data_root=", "data_packed="))]
    job = f"{HydraConfig.get().job.num}-{slug(telling)}" if multirun else ""
    try:
        check_choice("data", names["data"])
        check_values(config, given)
    except UserError as error:
        if multirun:  # so that the table tells of it
            failed(new_folder(HydraConfig.get().sweep.dir, job), names, error)
        raise
    if config.resume not in (None, "auto"):
        folder = Path(config.resume)
        if (folder / "config.yaml").is_file():
            held.enter_context(alone(folder))
        if not begun(folder):
            return {"config": again(config, folder, words), "how": "new"}
        return {"config": resumed(config, folder, words, held), "how": "resumed"}
    if not multirun:
        settle(config)
        check(config)  # a sweep's job has a folder first, so that its failure is in the table
        name_classes(config)
    if config.run is None and config.resume == "auto" and not multirun:
        raise UserError("resume=auto must know the run: say run=FOLDER")
    if config.run is not None or config.resume == "auto":
        folder = Path(config.run or Path(HydraConfig.get().sweep.dir) / job)
        made(folder)
        held.enter_context(alone(folder))
        if config.resume == "auto":
            if is_over(folder) and (folder / "config.yaml").is_file() and set(words) == set(words_of(folder)):
                return {"config": config_of(folder), "how": "over"}
            if begun(folder):
                return {"config": resumed(config, folder, words, held), "how": "resumed"}
        if name := worth(folder):
            say = (
                f"{commands.resume(folder)} goes on with it; or say another" if begun(folder) else "say another folder"
            )
            raise UserError(f"run={folder} holds a run already ({name}): {say}")
    else:
        name = f"{choices['model']}-{choices['data']}-{stamp()}"
        folder = new_folder(HydraConfig.get().sweep.dir, job) if multirun else new_folder(config.output, name)
        held.enter_context(alone(folder))
    config.run = str(folder)
    try:
        settle(config)
        check(config)
        name_classes(config)
        plain = resolve(config) | {"names": names}
        clear(folder)
        write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(redact(plain))))
    except Exception as error:
        log.into(folder)
        failed(folder, names, error)
        raise
    return {"config": plain, "how": "new"}


def resumed(config: DictConfig, folder: Path, words: list[str], held: ExitStack) -> dict[str, Any]:
    """The config of the run to go on with, with the few overrides that leave its past as it was.

    Where it is refused, or fails before it trains (`held` ends with an error), the folder is as it was.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"resume={folder}: no run there (no config.yaml): give a run's folder, as outputs/vae-digits-..."
        )
    content, damage = whole(folder)
    old = reworded(folder, words)
    same_parts(old["names"], words, folder, config.allow_config_change)
    told = approve(content["config"], old, config.allow_config_change)
    if told:
        line = f"after batch {batches(content)}: {', '.join(told)}"
        old["changes"] = [*(entry for entry in old.get("changes", []) if entry != line), line]
    settled = rechecked(old)
    if told_end(folder, batches(content)):
        check_left(limits(old), counted(content))
    if damage:
        newest(folder)
    held.push(kept(folder, batches(content)))
    write(file, OmegaConf.to_yaml(settled))
    if told:
        print(f"note: changed {line}", file=sys.stderr, flush=True)
    plain = restore(resolve(settled), resolve(config))
    pruning = plain["callbacks"].get("pruning")
    if pruning and MARK in str(pruning["storage"]):  # by hand, and so without the password of its study
        pruning["trial"] = None
    return plain


def again(config: DictConfig, folder: Path, words: list[str]) -> dict[str, Any]:
    """The config of a run that ended before its first checkpoint and starts anew, with any overrides."""
    file = folder / "config.yaml"
    if name := worth(folder):
        raise UserError(
            f"resume={folder}: it holds {name}, but no last.ckpt to go on from: start the run in another folder"
        )
    if not file.is_file():
        raise UserError(
            f"resume={folder}: no run there (no config.yaml): give a run's folder, as outputs/vae-digits-..."
        )
    old = reworded(folder, words)
    same_parts(old["names"], words, folder, config.allow_config_change)
    settled = rechecked(old)
    clear(folder)
    write(file, OmegaConf.to_yaml(settled))
    return restore(resolve(settled), resolve(config))


def reworded(folder: Path, words: list[str]) -> dict[str, Any]:
    """The config that a run left in this folder, with what other words make of it."""
    config, before = config_of(folder), words_of(folder)
    given = {word.partition("=")[0] for word in words}
    after = before if set(words) <= set(before) else [w for w in before if w.partition("=")[0] not in given] + words
    change(config, before, after, str(folder))
    config["names"]["overrides"] = after
    return config


def rechecked(config: dict[str, Any]) -> DictConfig:
    """A run's config, whose values and devices are what they may be."""
    taken = KEYS - set(ABOUT)  # what else there is was read by the interpolations of the run's beginning
    settled = OmegaConf.create({key: value for key, value in config.items() if key in taken})
    check_values(settled)
    settled.update({key: value for key, value in config.items() if key not in taken})
    settle(settled)
    check_devices(settled)
    return settled


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


def resolve(config: Any) -> dict[str, Any]:
    """A config as plain values: nothing else may go below this floor, or into a checkpoint."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def result_of(folder: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    file = folder / "result.json"
    if not file.is_file():
        return otherwise or {}
    try:
        result = json.loads(file.read_bytes())
        return result | {}
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): remove it, or say another folder") from error


def told_end(folder: Path, done: int) -> bool:
    """Whether result.json tells of the run's end after `done` batches: a run can be killed before it does."""
    result = result_of(folder, {"error": "none"})
    return "error" not in result and result.get("batches") == done


def is_over(folder: Path) -> bool:
    """Whether the newest training of a run came to its end; where nothing can be gone on from, what is told counts."""
    if "error" in result_of(folder, {"error": "none"}):
        return False
    with suppress(Damaged):
        return not begun(folder) or told_end(folder, batches(whole(folder)[0]))
    return True


def limits(config: dict[str, Any]) -> dict[str, int | None]:
    """Of a run's budget."""
    return pace.limits(**(config["callbacks"].get("budget") or {}))


def begun(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return any((folder / "checkpoints" / name).is_file() for name in ("last.ckpt", "previous.ckpt"))


def worth(folder: Path) -> str:
    """What a run that starts anew in this folder would overwrite: the file's name, "" where there is nothing.

    The best.ckpt of a first epoch alone is nothing: the run was killed before its last.ckpt, and makes both again.
    """
    kept = sorted((folder / "checkpoints").glob("*.ckpt"))
    if [path.name for path in kept] == ["best.ckpt"] and read(kept[0])["epoch"] == 0:
        kept = []
    if kept:
        return f"checkpoints/{kept[-1].name}"
    return "result.json" if "error" not in result_of(folder, {"error": "none"}) else ""


def clear(folder: Path) -> None:
    """Forget what a run left that ended before its first checkpoint."""
    if (folder / "config.yaml").is_file():
        print(f"note: the run in {folder} ended before its first checkpoint: it starts anew", file=sys.stderr)
        for name in ("metrics.csv", "result.json"):
            (folder / name).unlink(missing_ok=True)


def words_of(folder: Path) -> list[str]:
    return list(config_of(folder)["names"].get("overrides") or [])


def config_of(folder: Path) -> dict[str, Any]:
    """A run's config.yaml. Raises UserError where it is not what a run wrote."""
    file = folder / "config.yaml"
    try:
        config = resolve(OmegaConf.load(file))
        wrong = [key for key in ("model", "data", "trainer", "names") if not isinstance(config.get(key), dict)]
        reason = f"it has no {wrong[0]}" if wrong else "it has no run" if "run" not in config else ""
    except (YAMLError, OmegaConfBaseException, OSError, ValueError, AttributeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    if reason:
        raise UserError(f"{file} is not what a run writes ({reason}): put back what it was, or start the run anew")
    return config


def failed(folder: Path, names: dict[str, Any], error: Exception) -> None:
    """Leave word of it, unless the folder holds what was reached before."""
    if "error" in result_of(folder, {"error": "none"}):
        with suppress(UserError):  # the error at hand says more than a full disk
            write_json(folder / "result.json", {"names": names, "error": redact(explain(error))})
