"""Results from the runs' own files, never typed: python -m unlabeled.app.results RUN [RUN ...] > RESULTS.md"""

import json
import sys
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError
from unlabeled.evaluation.report import headlines, line, training_command

HEAD = """# Results

Written by `python -m unlabeled.app.results RUN ...` from the runs' own evaluation.json and result.json.
First what says most about each run, then all of its numbers, each beside what it is to be held against."""

WHERE = ("run=", "output=", "resume=", "data_root=", "data_packed=")  # overrides that change no number


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """evaluation.json and result.json."""
    try:
        evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
        return evaluation, json.loads((folder / "result.json").read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no {Path(error.filename).name}; run python evaluate.py checkpoint={folder}"
        ) from error


def summary(name: str, evaluation: dict[str, Any], result: dict[str, Any]) -> str:
    """One run in a row: what it reached, and by what means."""
    provenance = evaluation["provenance"]
    size = evaluation["config"]["data"]["batch_size"]
    budget = f"{result['batches']:,} batches of {size}, {result['seconds'] / 60:.1f} min"
    reached = [line(number) for number in headlines(evaluation["numbers"])]
    told = "<br>".join(f"{number['name']} {_value(number)}" for number in reached) or "none applies"
    threads = provenance["threads"]
    where = f"{provenance['processor']}, {threads} thread{'s' * (threads > 1)}"
    return _row(name, told, budget, where, f"{provenance['weights']}, epoch {provenance['epoch']}")


def section(name: str, evaluation: dict[str, Any]) -> list[str]:
    """How a run was made, and every number of its evaluation."""
    lines = ["", f"## {name}", "", "```", training_command(evaluation["provenance"], WHERE), "```"]
    if evaluation["numbers"]:
        lines += ["", _row("number", "value", "better", "beside", "on"), "| --- | ---: | --- | --- | --- |"]
    for number in map(line, evaluation["numbers"]):
        beside = "; ".join(f"{what} {value}" for what, value, _ in number["beside"])
        lines.append(_row(f"`{number['name']}`", _value(number), number["better"], beside, number["on"]))
    return lines


def _value(number: dict[str, Any]) -> str:
    error = f" ± {number['error']}" if number["error"] else ""
    return f"{number['value']}{error} {number['unit']}".strip()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(folders: list[str]) -> None:
    runs = [read(Path(folder)) for folder in folders]
    names = [evaluation["provenance"]["names"] for evaluation, _ in runs]
    titles = [f"{i}. {name['model']} on {name['data']}" for i, name in enumerate(names, 1)]
    lines = [HEAD, "", _row("run", "reached", "budget, wall time", "hardware", "weights"), "| --- " * 5 + "|"]
    lines += [summary(title, *run) for title, run in zip(titles, runs, strict=True)]
    for title, (evaluation, _) in zip(titles, runs, strict=True):
        lines += section(title, evaluation)
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
