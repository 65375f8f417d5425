"""Disk cache of results that depend only on the data."""

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unlabeled.evaluation.study import Study
from unlabeled.files import atomic

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


def cached(study: Study, name: str, splits: Sequence[str], settings: dict[str, Any], work: Callable[[], Any]) -> Any:
    """The main process's result of `work`, plain values, on every process; from study.cache if it is there.

    work: called on every process or on none, so it may pass over the data. settings: everything it depends on besides
    the rows of the splits and the seed. The file is named by a hash of all of these.
    """
    data = study.data
    key = {
        "data": data.keys,
        "shape": data.shape,
        "classes": data.classes,
        "rows": {split: digest(study.table(split)) for split in splits},
        "codes": study.codes_limit,
        "seed": study.seed,
        "settings": settings,
        "versions": {library: version(library) for library in LIBRARIES},
    }
    key = json.loads(json.dumps(key))
    text = json.dumps(key, sort_keys=True)
    path = None
    if study.cache and data.keys:
        path = study.cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    found = study.ranks.gather(read(path, key) if path and study.is_main else None)[0]
    if found is None:
        found = work()
        if path and study.is_main:
            write(path, {"key": key, "value": found})
    return found


def digest(table: Any) -> str:
    """A hash of a table's rows."""
    return hashlib.sha256(table.rows.numpy().tobytes()).hexdigest()[:16]


def read(path: Path, key: dict[str, Any]) -> Any:
    """The cached value of this key; None if the file is missing or incomplete."""
    try:
        content = json.loads(path.read_text())
        return content["value"] if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, content: dict[str, Any]) -> None:
    """Write atomically, also from several runs at once. Nothing happens if the folder cannot be written."""
    try:
        text = json.dumps(content, allow_nan=False)
    except ValueError:  # a value that is not finite
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, shared=True) as file:
            file.write(text.encode())
    except OSError:
        return
