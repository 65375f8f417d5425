"""Where recorded quantities, pictures and files go.

One interface for whatever shows them: `picture`, `table`, `summary`, `artifact`, `go_on`, `close`. Who calls them does
not know which logger it has; a kind that cannot show a thing does nothing.
"""

import csv
import io
import os
import re
import shutil
import struct
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import singledispatch
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unlabeled.commands import extra
from unlabeled.errors import UserError
from unlabeled.files import write


class CSV(Logger):
    """metrics.csv: one row a batch number, one column a quantity; written as it comes.

    A resumed run drops the rows after the batch that it goes on from, so that there is neither gap nor repetition.
    """

    def __init__(self, folder: str | Path):
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        self.columns = ["batch"]
        if self.path.is_file():
            self.rows = _rows(self.path)
            self.columns = list(dict.fromkeys(["batch", *(name for row in self.rows for name in row)]))

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def truncate(self, batches: int) -> None:
        """Forget what was written after `batches`."""
        self.rows = [row for row in self.rows if int(row["batch"]) <= batches]
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"batch": step, **metrics}
        new = [name for name in row if name not in self.columns]
        merged = bool(self.rows) and str(self.rows[-1]["batch"]) == str(step)
        if merged:
            self.rows[-1].update(row)
        else:
            self.rows.append(row)
        self.columns += new
        if new or merged or not self.path.exists():
            self._rewrite()
        else:
            try:
                with open(self.path, "a", newline="") as file:
                    csv.DictWriter(file, self.columns).writerow(row)
            except OSError as error:
                raise UserError(f"cannot write {self.path}: {error.strerror}") from error

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        pass  # the run folder holds config.yaml

    @rank_zero_only
    def save(self) -> None:
        """See that it lies on the disk: a checkpoint may not know more than it."""
        if self.path.is_file():
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write(self.path, text.getvalue())


def _rows(path: Path) -> list[dict[str, Any]]:
    """What is whole of a metrics.csv; says how much is not. Raises UserError where its columns have no names."""
    lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
    # a kill or a full disk may have torn the last
    header, *found = [_fields(line) for line in lines if line.endswith("\n")] or [["batch"]]
    longer = sum(len(fields) > len(header) for fields in found)
    rows = [dict(zip(header, fields, strict=True)) for fields in found if len(fields) == len(header)]
    if "batch" not in header or 2 * longer > len(found):
        raise UserError(f"{path} is damaged: mend its first line, which names the columns, or move the file away")
    rows = [row for row in rows if (row.get("batch") or "").isdecimal() and all(map(_number, row.values()))]
    if len(rows) < len(found):
        print(f"note: {path}: left out {len(found) - len(rows)} damaged of {len(found)} lines", file=sys.stderr)
    return [{name: value for name, value in row.items() if name and value} for row in rows]


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _number(text: str) -> bool:
    """Whether it is one, or nothing."""
    try:
        return text == "" or float(text) is not None
    except ValueError:
        return False


class TensorBoard(TensorBoardLogger):
    """TensorBoard's event files in the run folder, flushed at every write: a killed run keeps what it wrote."""

    def __init__(self, save_dir: str | Path):
        try:
            super().__init__(save_dir, name="tensorboard", version="")
        except ModuleNotFoundError as error:
            raise UserError(f"TensorBoard is not here: {extra('tensorboard')}") from error

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.experiment.flush()


class WandB(WandbLogger):
    """Weights & Biases: online where a key is at hand, else offline (`wandb sync` sends it later). Never asks.

    A row of metrics.csv is a row of W&B's history: the same columns, the batch's number its step. A run folder is one
    run of W&B, whoever goes on with it. Neither the command line, git, code nor what is printed is sent.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str = "unlabeled",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        offline: bool | None = None,  # None: where there is no key
        checkpoints: bool = True,  # whether the final checkpoint is sent
    ):
        mode = "offline" if offline or (offline is None and not wandb_key()) else "online"
        mode = os.environ.get("WANDB_MODE", mode) if offline is None else mode
        if mode == "online" and not wandb_key():
            raise UserError("W&B wants a key to be online: say wandb login, or logger.wandb.offline=true")
        self.before = sorted(Path(save_dir).glob("wandb/*run-*/*.wandb"))  # what was sent or kept in this folder
        super().__init__(
            save_dir=save_dir,
            project=project,
            id=self.before[-1].stem.removeprefix("run-") if self.before else None,
            name=name,
            entity=entity,
            group=group,
            tags=[tag[:64] for tag in tags],  # W&B takes no longer ones
            mode=mode,
        )
        self.checkpoints = checkpoints
        self.seen = -1  # the last batch that W&B has a row of

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
    """What W&B puts aside, to be sent later, lies with the run and not in the home of this machine."""
    given = "WANDB_DATA_DIR" in os.environ
    os.environ.setdefault("WANDB_DATA_DIR", folder)
    try:
        yield
    finally:
        if not given:
            del os.environ["WANDB_DATA_DIR"]


def wandb_records(file: Path) -> Iterator[Any]:
    """What a run of W&B keeps in its .wandb file: protocol buffers in LevelDB's log format, to the last whole one."""
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


class MLflow(MLFlowLogger):
    """MLflow: to the server that `tracking_uri` or MLFLOW_TRACKING_URI names, else to a database beside the runs."""

    def __init__(
        self,
        folder: str | Path,  # the run's
        store: str | Path,  # where the database lies, without a server
        experiment: str = "unlabeled",
        tracking_uri: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        checkpoints: bool = True,  # whether the final checkpoint is sent
    ):
        uri, place = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            Path(store).mkdir(parents=True, exist_ok=True)
            uri, place = f"sqlite:///{store}/mlflow.db", (Path(store) / "mlartifacts").resolve().as_uri()
        self.remembered = Path(folder) / "mlflow.run"  # holds the run's id there
        known = self.remembered.read_text() if self.remembered.is_file() else None
        labels = dict.fromkeys(tags, "") | ({"sweep": group} if group else {})
        try:
            super().__init__(experiment, name, uri, labels, artifact_location=place, run_id=known)
        except ModuleNotFoundError as error:
            raise UserError(f"MLflow is not here: {extra('mlflow')}") from error
        self.checkpoints = checkpoints
        self.seen = -1 if known is None else None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        if not self.remembered.is_file():  # MLflow refuses a value that is not what it was
            super().log_hyperparams(params)
            self.remembered.write_text(str(self.run_id))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.seen is None:
            self.seen = int(self.experiment.get_run(self.run_id).data.metrics.get("batch", -1))
        if step is None or step > self.seen:
            super().log_metrics({"batch": step or 0, **{_plain(name): value for name, value in metrics.items()}}, step)


def _plain(name: str) -> str:
    """A name in the letters that MLflow takes."""
    return re.sub(r"[^\w./ :-]+", " ", name).strip()


# What callbacks and entry points call, on the first rank


@singledispatch
def picture(logger: Any, name: str, image: Any, batches: int) -> None:
    """Show a PIL image that the method made after `batches` of the run."""


@picture.register
def _(logger: TensorBoardLogger, name: str, image: Any, batches: int) -> None:
    import numpy as np

    logger.experiment.add_image(f"pictures/{name}", np.asarray(image), batches, dataformats="HWC")
    logger.experiment.flush()


@picture.register
def _(logger: WandB, name: str, image: Any, batches: int) -> None:
    import wandb

    logger.log_metrics({f"pictures/{name}": wandb.Image(image, caption=f"batch {batches}")}, batches)


@picture.register
def _(logger: MLFlowLogger, name: str, image: Any, batches: int) -> None:
    logger.experiment.log_image(logger.run_id, image, key=f"pictures/{_plain(name)}", step=batches)


@singledispatch
def table(logger: Any, name: str, columns: list[str], rows: list[list[Any]], image: Any, batches: int) -> None:
    """Show rows of PIL images and numbers; where there are no tables, `image`, which says the same."""
    picture(logger, name, image, batches)


@table.register
def _(logger: WandB, name: str, columns: list[str], rows: list[list[Any]], image: Any, batches: int) -> None:
    import wandb

    cells = [[wandb.Image(cell) if hasattr(cell, "save") else cell for cell in row] for row in rows]
    with _kept_in(logger.experiment.settings.sync_dir):
        logger.log_metrics({f"tables/{name}": wandb.Table(columns=[*columns], data=cells)}, batches)


@singledispatch
def summary(logger: Any, values: Mapping[str, float]) -> None:
    """Numbers of the whole run."""


@summary.register
def _(logger: TensorBoardLogger, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        logger.experiment.add_scalar(name, value, 0)
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in values.items())
    logger.experiment.add_text("summary", f"| number | value |\n| --- | --- |\n{rows}", 0)
    logger.experiment.flush()


@summary.register
def _(logger: WandB, values: Mapping[str, float]) -> None:
    logger.experiment.summary.update(dict(values))


@summary.register
def _(logger: MLFlowLogger, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        logger.experiment.log_metric(logger.run_id, _plain(name), value)


@singledispatch
def artifact(logger: Any, file: Path, kind: str) -> None:
    """Keep a file with the run. `kind`: report or checkpoint."""


@artifact.register
def _(logger: WandB, file: Path, kind: str) -> None:
    import wandb

    run = logger.experiment
    if kind == "checkpoint" and not logger.checkpoints:
        return
    # W&B takes the file when it is sent, perhaps much later: a copy stays what it is. Checkpoints are renamed into
    # place, so that a link to one does.
    kept = Path(run.settings.sync_dir) / "artifacts" / file.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        (os.link if kind == "checkpoint" else shutil.copy2)(file, kept)
    except OSError:  # a file system without links
        shutil.copy2(file, kept)
    found = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    found.add_file(str(kept), skip_cache=True, policy="immutable")
    run.log_artifact(found)


@artifact.register
def _(logger: MLFlowLogger, file: Path, kind: str) -> None:
    if kind != "checkpoint" or getattr(logger, "checkpoints", True):
        logger.experiment.log_artifact(logger.run_id, str(file), kind)


@singledispatch
def go_on(logger: Any, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """A run goes on after `batches`. `rows`: of metrics.csv up to there, for a logger that lost some of them."""


@go_on.register
def _(logger: TensorBoardLogger, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    _forget(logger, batches + 1)


@rank_zero_only
def _forget(logger: TensorBoardLogger, first: int) -> None:
    """TensorBoard hides what earlier files hold from step `first` on, as its purge_step would."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer = logger.experiment._get_file_writer()
    writer.add_event(Event(step=first, file_version="brain.Event:2"))
    writer.add_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))


@go_on.register(WandB)
@go_on.register(MLflow)
def _(logger: Any, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:  # those that are there already are left out
        logger.log_metrics({name: float(value) for name, value in row.items() if name != "batch"}, int(row["batch"]))


@singledispatch
def close(logger: Any, failed: bool) -> str | None:
    """End what a later job of the same process would otherwise go on writing into; says where the run is seen."""
    return None


@close.register
def _(logger: TensorBoardLogger, failed: bool) -> str | None:
    return f"tensorboard --logdir {logger.log_dir}"


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


@close.register
def _(logger: MLflow, failed: bool) -> str | None:
    uri = logger._tracking_uri
    return f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else uri
