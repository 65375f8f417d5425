"""TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unlabeled.commands import extra
from unlabeled.errors import UserError
from unlabeled.loggers.actions import close, go_on, picture, summary


class TensorBoard(TensorBoardLogger):
    """TensorBoard's event files in the run folder, flushed at every write."""

    def __init__(self, save_dir: str | Path):
        try:
            super().__init__(save_dir, name="tensorboard", version="")
        except ModuleNotFoundError as error:
            raise UserError(f"TensorBoard is not here: {extra('tensorboard')}") from error

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.experiment.flush()


@picture.register
def _(logger: TensorBoardLogger, name: str, image: Any, batches: int) -> None:
    import numpy as np

    logger.experiment.add_image(f"pictures/{name}", np.asarray(image), batches, dataformats="HWC")
    logger.experiment.flush()


@summary.register
def _(logger: TensorBoardLogger, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        logger.experiment.add_scalar(name, value, 0)
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in values.items())
    logger.experiment.add_text("summary", f"| number | value |\n| --- | --- |\n{rows}", 0)
    logger.experiment.flush()


@go_on.register
def _(logger: TensorBoardLogger, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    _forget(logger, batches + 1)


@rank_zero_only
def _forget(logger: TensorBoardLogger, first: int) -> None:
    """Make TensorBoard hide the events of earlier files from step `first` on, like its purge_step."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer = logger.experiment._get_file_writer()
    writer.add_event(Event(step=first, file_version="brain.Event:2"))
    writer.add_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))


@close.register
def _(logger: TensorBoardLogger, failed: bool) -> str | None:
    return f"tensorboard --logdir {logger.log_dir}"
