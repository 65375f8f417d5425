"""Results from the runs' own files, never typed: python -m unlabeled.app.results RUN [RUN ...] > RESULTS.md"""

import json
import sys
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError

HEAD = """# Results

Written by `python -m unlabeled.app.results RUN ...` from the runs' own evaluation.json and result.json.
Each number is followed, in brackets, by its baseline where it has one."""


def row(folder: Path) -> str:
    """One run: how it was made, and every number of its evaluation."""
    try:
        evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
        result = json.loads((folder / "result.json").read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no {Path(error.filename).name}; run python evaluate.py checkpoint={folder}"
        ) from error
    provenance = evaluation["provenance"]
    kept = ("run=", "output=", "data_root=", "data_packed=", "seed=")
    words = [word for word in provenance["names"]["overrides"] if not word.startswith(kept)]
    command = " ".join(["python train.py", *words, f"seed={provenance['seed']}"])
    size = evaluation["config"]["data"]["batch_size"]
    budget = f"{result['batches']:,} batches of {size}, {result['seconds'] / 60:.1f} min"
    numbers = "; ".join(map(_number, evaluation["numbers"])) or "none applies"
    threads = provenance["threads"]
    where = f"{provenance['processor']}, {threads} thread{'s' * (threads > 1)}"
    return f"| `{command}` | {budget} | {where} | {provenance['weights']}, epoch {provenance['epoch']} | {numbers} |"


def _number(number: dict[str, Any]) -> str:
    facts = number["facts"]
    unit = f" {number['unit']}" if number["unit"] else ""
    beside = f" [{facts['baseline']}: {facts['baseline_value']:.4g}]" if "baseline_value" in facts else ""
    return f"{number['name']} {number['value']:.4g}{unit} on {facts['images']:,} {facts['split']}{beside}"


def main(folders: list[str]) -> None:
    lines = [
        HEAD,
        "",
        "| command | budget, wall time | hardware | weights | reached |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join([*lines, *(row(Path(folder)) for folder in folders)]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
