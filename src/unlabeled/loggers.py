"""Where recorded quantities go."""

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


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
            with open(self.path, newline="") as file:
                self.rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
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
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        pass  # the run folder holds config.yaml

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        with open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(unfinished, self.path)


def wandb(**settings: Any) -> WandbLogger:
    """Weights & Biases: online where a key is at hand, else offline (`wandb sync` sends it later). Never asks."""
    if settings.get("offline") is None:
        settings["offline"] = not _wandb_key()
    Path(settings["save_dir"]).mkdir(parents=True, exist_ok=True)
    return WandbLogger(**settings)


def _wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    from requests.utils import get_netrc_auth

    return get_netrc_auth(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")) is not None
