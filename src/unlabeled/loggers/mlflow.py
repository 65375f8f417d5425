"""MLflow."""

import os
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unlabeled.commands import extra
from unlabeled.errors import UserError
from unlabeled.loggers.actions import artifact, close, go_on, log_missing_rows, picture, summary


class MLflow(MLFlowLogger):
    """MLflow, on the server of `tracking_uri` or MLFLOW_TRACKING_URI, or with a database beside the runs."""

    def __init__(
        self,
        folder: str | Path,  # the run's
        store: str | Path,  # folder of the database, without a server
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
        self.id_file = Path(folder) / "mlflow.run"  # holds the run's id on the server
        known = self.id_file.read_text() if self.id_file.is_file() else None
        labels = dict.fromkeys(tags, "") | ({"sweep": group} if group else {})
        try:
            super().__init__(experiment, name, uri, labels, artifact_location=place, run_id=known)
        except ModuleNotFoundError as error:
            raise UserError(f"MLflow is not here: {extra('mlflow')}") from error
        self.checkpoints = checkpoints
        self.seen = -1 if known is None else None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        if not self.id_file.is_file():  # MLflow refuses values that have changed
            super().log_hyperparams(params)
            self.id_file.write_text(str(self.run_id))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.seen is None:
            self.seen = int(self.experiment.get_run(self.run_id).data.metrics.get("batch", -1))
        if step is None or step > self.seen:
            super().log_metrics({"batch": step or 0, **{_plain(name): value for name, value in metrics.items()}}, step)


def _plain(name: str) -> str:
    """A name in the letters that MLflow allows."""
    return re.sub(r"[^\w./ :-]+", " ", name).strip()


@picture.register
def _(logger: MLFlowLogger, name: str, image: Any, batches: int) -> None:
    logger.experiment.log_image(logger.run_id, image, key=f"pictures/{_plain(name)}", step=batches)


@summary.register
def _(logger: MLFlowLogger, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        logger.experiment.log_metric(logger.run_id, _plain(name), value)


@artifact.register
def _(logger: MLFlowLogger, file: Path, kind: str) -> None:
    if kind != "checkpoint" or getattr(logger, "checkpoints", True):
        logger.experiment.log_artifact(logger.run_id, str(file), kind)


@close.register
def _(logger: MLflow, failed: bool) -> str | None:
    uri = logger._tracking_uri
    return f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else uri


go_on.register(MLflow)(log_missing_rows)
