"""Weights & Biases."""

import os
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unlabeled.errors import UserError
from unlabeled.loggers.actions import artifact, close, go_on, log_missing_rows, picture, summary, table


class WandB(WandbLogger):
    """Weights & Biases: online if there is a key, else offline (`wandb sync` sends it later), without prompts.

    A row of metrics.csv is a row of W&B's history, with the same columns and the batch as its step. A run folder is one
    run of W&B, also when it is resumed. The command line, git, code and printed output are not sent.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str = "unlabeled",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        offline: bool | None = None,  # None: if there is no key
        checkpoints: bool = True,  # whether the final checkpoint is sent
    ):
        mode = "offline" if offline or (offline is None and not wandb_key()) else "online"
        mode = os.environ.get("WANDB_MODE", mode) if offline is None else mode
        if mode == "online" and not wandb_key():
            raise UserError("W&B needs a key to be online: say wandb login, or logger.wandb.offline=true")
        self.before = sorted(Path(save_dir).glob("wandb/*run-*/*.wandb"))  # earlier runs in this folder
        super().__init__(
            save_dir=save_dir,
            project=project,
            id=self.before[-1].stem.removeprefix("run-") if self.before else None,
            name=name,
            entity=entity,
            group=group,
            tags=[tag[:64] for tag in tags],  # W&B's limit
            mode=mode,
        )
        self.checkpoints = checkpoints
        self.seen = -1  # the last batch in W&B's history

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = run = _begin(self._wandb_init)
            self.seen = max(map(_newest_row, self.before), default=-1) if run.offline else run.step - 1
            run.define_metric("batch", hidden=True)
            run.define_metric("train/*", step_metric="batch")
            run.define_metric("val/*", step_metric="batch", summary="min,max,last")
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        run = self.experiment
        if step is None or step > self.seen:
            run.log({"batch": step, **metrics}, step=step)


def _begin(settings: dict[str, Any]) -> Any:
    """A run of W&B, new or gone on with."""
    import wandb

    Path(settings["dir"]).mkdir(parents=True, exist_ok=True)
    private: dict[str, Any] = {
        "x_disable_meta": True,  # the command line, host, user
        "host": "",
        "disable_git": True,  # the remote's address may hold a token
        "disable_code": True,
        "save_code": False,
        "console": "off",
        "silent": True,  # it would print a page at the end
        "reinit": "finish_previous",  # of a job of this process that broke off early
        "init_timeout": float(os.environ.get("WANDB_INIT_TIMEOUT", 30)),  # seconds; W&B itself has no limit at the end
        "finish_timeout": float(os.environ.get("WANDB_FINISH_TIMEOUT", 300)),
        "finish_timeout_raises": True,
    }
    known = {key: value for key, value in settings.items() if key != "anonymous"}  # Lightning's; W&B warns of it
    there = {*Path(settings["dir"]).glob("wandb/run-*")}
    try:
        return wandb.init(**known, settings=wandb.Settings(**private))
    except (wandb.errors.CommError, TimeoutError) as error:
        if isinstance(error, wandb.errors.AuthenticationError):
            raise UserError(f"W&B refuses the key ({error}): say wandb login, or logger.wandb.offline=true") from error
        for empty in {*Path(settings["dir"]).glob("wandb/run-*")} - there:
            shutil.rmtree(empty, ignore_errors=True)
        where = f"{settings['dir']}/wandb/offline-run-*"
        print(f"note: W&B cannot be reached; afterwards, wandb sync {where} sends what is kept", file=sys.stderr)
        return wandb.init(**known | {"mode": "offline"}, settings=wandb.Settings(**private))


def wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    from requests.utils import get_netrc_auth

    return get_netrc_auth(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")) is not None


@contextmanager
def _kept_in(folder: str) -> Iterator[None]:
    """W&B's files to be sent later are in the run's folder, and not in the home folder."""
    given = "WANDB_DATA_DIR" in os.environ
    os.environ.setdefault("WANDB_DATA_DIR", folder)
    try:
        yield
    finally:
        if not given:
            del os.environ["WANDB_DATA_DIR"]


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: protocol buffers in LevelDB's log format, up to the last complete one."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    block, header, data = 2**15, struct.Struct("<IHB"), file.read_bytes()
    at, part = 7, b""  # after W&B's own header
    while at + header.size <= len(data):
        if block - at % block < header.size:
            at += block - at % block
            continue
        _, size, kind = header.unpack_from(data, at)
        at += header.size
        if kind == 0 or at + size > len(data):
            return
        part += data[at : at + size]
        at += size
        if kind in (1, 4):  # whole, or the last of several
            record = Record()
            record.ParseFromString(part)
            part = b""
            yield record


def _newest_row(file: Path) -> int:
    return max((record.history.step.num for record in wandb_records(file) if record.HasField("history")), default=-1)


@picture.register
def _(logger: WandB, name: str, image: Any, batches: int) -> None:
    import wandb

    logger.log_metrics({f"pictures/{name}": wandb.Image(image, caption=f"batch {batches}")}, batches)


@table.register
def _(logger: WandB, name: str, columns: list[str], rows: list[list[Any]], image: Any, batches: int) -> None:
    import wandb

    cells = [[wandb.Image(cell) if hasattr(cell, "save") else cell for cell in row] for row in rows]
    with _kept_in(logger.experiment.settings.sync_dir):
        logger.log_metrics({f"tables/{name}": wandb.Table(columns=[*columns], data=cells)}, batches)


@summary.register
def _(logger: WandB, values: Mapping[str, float]) -> None:
    logger.experiment.summary.update(dict(values))


@artifact.register
def _(logger: WandB, file: Path, kind: str) -> None:
    import wandb

    run = logger.experiment
    if kind == "checkpoint" and not logger.checkpoints:
        return
    # W&B reads the file when it sends it, perhaps much later: a copy does not change. Checkpoints are replaced by
    # renaming, so that a link to one does not change either.
    kept = Path(run.settings.sync_dir) / "artifacts" / file.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        (os.link if kind == "checkpoint" else shutil.copy2)(file, kept)
    except OSError:  # a file system without links
        shutil.copy2(file, kept)
    found = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    found.add_file(str(kept), skip_cache=True, policy="immutable")
    run.log_artifact(found)


@close.register
def _(logger: WandB, failed: bool) -> str | None:
    import wandb

    run, logger._experiment = logger._experiment, None
    if run is None:
        return None
    try:
        run.finish(exit_code=int(failed))
    except TimeoutError:
        where = run.settings.sync_dir
        print(f"note: W&B did not take all in time: afterwards, wandb sync {where} sends it", file=sys.stderr)
    if not run.offline:
        return run.url
    wandb.teardown()  # another process writes the file: now it has
    return f"wandb sync {logger.save_dir}/wandb/offline-run-*"


go_on.register(WandB)(log_missing_rows)
