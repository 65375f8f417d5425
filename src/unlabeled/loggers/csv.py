"""metrics.csv, the record of every run."""

import csv
import io
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unlabeled.errors import UserError
from unlabeled.files import write


class CSV(Logger):
    """metrics.csv: a row for each batch number, a column for each quantity, written immediately.

    A resumed run drops the rows after its first batch, so that none is missing or repeated.
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
        """Drop the rows after `batches`."""
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
        """Sync to disk, so that no checkpoint is newer than the file."""
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
    """The undamaged rows of a metrics.csv; prints how many are damaged. Raises UserError if its header is."""
    lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
    # a kill or a full disk may have torn the last
    header, *found = [_fields(line) for line in lines if line.endswith("\n")] or [["batch"]]
    longer = sum(len(fields) > len(header) for fields in found)
    rows = [dict(zip(header, fields, strict=True)) for fields in found if len(fields) == len(header)]
    if "batch" not in header or 2 * longer > len(found):
        raise UserError(f"{path} is damaged: repair its first line, the names of the columns, or move the file away")
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
    """Whether the text is a number, or empty."""
    try:
        return text == "" or float(text) is not None
    except ValueError:
        return False
