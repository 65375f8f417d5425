"""Preparation of a run: its folder, its resolved config, and whether it is new, resumed or finished."""

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
from unlabeled.app.run.changes import OF_COMMAND, apply_changes, check_changes, check_same_parts
from unlabeled.app.run.checkpoint import Damaged, batches_done, open_checkpoint, repair_last, resumable
from unlabeled.app.run.checks import check, check_choice, check_devices
from unlabeled.app.run.class_names import name_classes
from unlabeled.app.run.folders import lock_folder, make_folder, new_folder, restore_on_failure, slug, timestamp
from unlabeled.app.run.secrets import MARK, redact, restore
from unlabeled.callbacks import pace
from unlabeled.callbacks.pace import check_budget_left, read_counts
from unlabeled.distributed.processes import process_group
from unlabeled.errors import UserError
from unlabeled.files import FORMAT, write, write_json


def prepare(config: DictConfig, held: ExitStack) -> dict[str, Any]:
    """{"config": resolved, with the run's folder, "how": new, resumed or over}; `held` keeps the folder locked."""
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    choices = HydraConfig.get().runtime.choices
    given = [
        word for word in HydraConfig.get().overrides.task if not word.startswith(("resume=", "allow_config_change="))
    ]
    words = redact(list({word.partition("=")[0]: word for word in given}.values()))  # the last of a key counts
    if multirun and process_group() and choices["hydra/launcher"] == "basic":
        raise UserError("a sweep is started once, without srun or torchrun: say hydra/launcher=submitit_slurm")
    names = {group: choices[group] for group in ("model", "data", "trainer")} | {"overrides": words, "format": FORMAT}
    if multirun:
        names["sweep"] = Path(HydraConfig.get().sweep.dir).name
    job = f"{HydraConfig.get().job.num}-{slug(commands.without_places(words))}" if multirun else ""
    try:
        check_choice("data", names["data"])
        check_values(config, given)
    except UserError as error:
        if multirun:  # so that the sweep's table lists it
            record_failure(new_folder(HydraConfig.get().sweep.dir, job), names, error)
        raise
    if config.resume not in (None, "auto"):
        folder = Path(config.resume)
        if (folder / "config.yaml").is_file():
            held.enter_context(lock_folder(folder))
        if not has_checkpoint(folder):
            return {"config": restarted(config, folder, words), "how": "new"}
        return {"config": resumed(config, folder, words, held), "how": "resumed"}
    if not multirun:
        set_devices(config)
        check(config)  # a job of a sweep gets its folder first, so that its failure is in the table
        name_classes(config)
    if config.run is None and config.resume == "auto" and not multirun:
        raise UserError("resume=auto must know the run: say run=FOLDER")
    if config.run is not None or config.resume == "auto":
        folder = Path(config.run or Path(HydraConfig.get().sweep.dir) / job)
        make_folder(folder)
        held.enter_context(lock_folder(folder))
        if config.resume == "auto":
            if is_finished(folder) and (folder / "config.yaml").is_file() and set(words) == set(overrides_of(folder)):
                return {"config": config_of(folder), "how": "over"}
            if has_checkpoint(folder):
                return {"config": resumed(config, folder, words, held), "how": "resumed"}
        if name := would_overwrite(folder):
            say = (
                f"{commands.resume(folder)} goes on with it; or say another"
                if has_checkpoint(folder)
                else "say another folder"
            )
            raise UserError(f"run={folder} holds a run already ({name}): {say}")
    else:
        name = f"{choices['model']}-{choices['data']}-{timestamp()}"
        folder = new_folder(HydraConfig.get().sweep.dir, job) if multirun else new_folder(config.output, name)
        held.enter_context(lock_folder(folder))
    config.run = str(folder)
    try:
        set_devices(config)
        check(config)
        name_classes(config)
        plain = resolve(config) | {"names": names}
        clear(folder)
        write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(redact(plain))))
    except Exception as error:
        log.write_to(folder)
        record_failure(folder, names, error)
        raise
    return {"config": plain, "how": "new"}


def resumed(config: DictConfig, folder: Path, words: list[str], held: ExitStack) -> dict[str, Any]:
    """The config of the run to resume, with the overrides that a resumed run may have.

    Where it is refused, or fails before it trains (`held` ends with an error), the folder stays as it was.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"resume={folder}: no run there (no config.yaml): give a run's folder, as outputs/vae-digits-..."
        )
    content, damage = resumable(folder)
    old = with_overrides(folder, words)
    check_same_parts(old["names"], words, folder, config.allow_config_change)
    told = check_changes(content["config"], old, config.allow_config_change)
    if told:
        line = f"after batch {batches_done(content)}: {', '.join(told)}"
        old["changes"] = [*(entry for entry in old.get("changes", []) if entry != line), line]
    settled = revalidated(old)
    if end_is_recorded(folder, batches_done(content)):
        check_budget_left(limits(old), read_counts(content))
    if damage:
        repair_last(folder)
    held.push(restore_on_failure(folder, batches_done(content)))
    write(file, OmegaConf.to_yaml(settled))
    if told:
        print(f"note: changed {line}", file=sys.stderr, flush=True)
    plain = restore(resolve(settled), resolve(config))
    pruning = plain["callbacks"].get("pruning")
    if pruning and MARK in str(pruning["storage"]):  # resumed by hand, without its study's password
        pruning["trial"] = None
    return plain


def restarted(config: DictConfig, folder: Path, words: list[str]) -> dict[str, Any]:
    """The config of a run that ended before its first checkpoint and starts again, with any overrides."""
    file = folder / "config.yaml"
    if name := would_overwrite(folder):
        raise UserError(
            f"resume={folder}: it holds {name}, but no last.ckpt to go on from: start the run in another folder"
        )
    if not file.is_file():
        raise UserError(
            f"resume={folder}: no run there (no config.yaml): give a run's folder, as outputs/vae-digits-..."
        )
    old = with_overrides(folder, words)
    check_same_parts(old["names"], words, folder, config.allow_config_change)
    settled = revalidated(old)
    clear(folder)
    write(file, OmegaConf.to_yaml(settled))
    return restore(resolve(settled), resolve(config))


def with_overrides(folder: Path, words: list[str]) -> dict[str, Any]:
    """The config of the run in this folder, changed by these overrides."""
    config, before = config_of(folder), overrides_of(folder)
    given = {word.partition("=")[0] for word in words}
    after = before if set(words) <= set(before) else [w for w in before if w.partition("=")[0] not in given] + words
    apply_changes(config, before, after, str(folder))
    config["names"]["overrides"] = after
    return config


def revalidated(config: dict[str, Any]) -> DictConfig:
    """A run's config, its values and devices checked."""
    taken = KEYS - set(OF_COMMAND)  # the other keys were read by interpolations when the run began
    settled = OmegaConf.create({key: value for key, value in config.items() if key in taken})
    check_values(settled)
    settled.update({key: value for key, value in config.items() if key not in taken})
    set_devices(settled)
    check_devices(settled)
    return settled


def set_devices(config: Any) -> None:
    """Set devices and nodes to those that srun or torchrun started processes for."""
    group = process_group()
    if group is None:
        if config.trainer.num_nodes != 1:
            raise UserError(
                "trainer=multinode takes its nodes and devices from srun or torchrun, and neither started this: "
                "put one of them before python, or say trainer=ddp"
            )
        return
    if group.world > 1 and config.trainer.strategy == "auto":
        raise UserError(f"{group.world} processes were started together, and this trainer takes one: trainer=multinode")
    config.trainer.devices, config.trainer.num_nodes = group.local, group.nodes


def resolve(config: Any) -> dict[str, Any]:
    """A config as plain values, as constructors and checkpoints take it."""
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


def end_is_recorded(folder: Path, done: int) -> bool:
    """Whether result.json holds the run's end after `done` batches: a run can be killed before it is written."""
    result = result_of(folder, {"error": "none"})
    return "error" not in result and result.get("batches") == done


def is_finished(folder: Path) -> bool:
    """Whether the newest training of a run ended; without a checkpoint to resume from, as result.json says."""
    if "error" in result_of(folder, {"error": "none"}):
        return False
    with suppress(Damaged):
        return not has_checkpoint(folder) or end_is_recorded(folder, batches_done(resumable(folder)[0]))
    return True


def limits(config: dict[str, Any]) -> dict[str, int | None]:
    """The limits of a run's budget."""
    return pace.limits(**(config["callbacks"].get("budget") or {}))


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed."""
    return any((folder / "checkpoints" / name).is_file() for name in ("last.ckpt", "previous.ckpt"))


def would_overwrite(folder: Path) -> str:
    """The name of a file that a new run in this folder would overwrite, "" where there is none.

    The best.ckpt of a first epoch alone does not count: the run was killed before last.ckpt, and makes both again.
    """
    found = sorted((folder / "checkpoints").glob("*.ckpt"))
    if [path.name for path in found] == ["best.ckpt"] and open_checkpoint(found[0])["epoch"] == 0:
        found = []
    if found:
        return f"checkpoints/{found[-1].name}"
    return "result.json" if "error" not in result_of(folder, {"error": "none"}) else ""


def clear(folder: Path) -> None:
    """Remove the results of a run that ended before its first checkpoint."""
    if (folder / "config.yaml").is_file():
        print(f"note: the run in {folder} ended before its first checkpoint: it starts anew", file=sys.stderr)
        for name in ("metrics.csv", "result.json"):
            (folder / name).unlink(missing_ok=True)


def overrides_of(folder: Path) -> list[str]:
    return list(config_of(folder)["names"].get("overrides") or [])


def config_of(folder: Path) -> dict[str, Any]:
    """A run's config.yaml. Raises UserError where it is damaged."""
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


def record_failure(folder: Path, names: dict[str, Any], error: Exception) -> None:
    """Write the error to result.json, unless that holds earlier results."""
    if "error" in result_of(folder, {"error": "none"}):
        with suppress(UserError):  # the first error says more than a full disk
            write_json(folder / "result.json", {"names": names, "error": redact(explain(error))})
