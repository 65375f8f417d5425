"""RESULTS.md, written from the runs' own files.

    python -m unlabeled.app.tables.results RUN [RUN ...] > RESULTS.md
    python -m unlabeled.app.tables.results --headers RUN [RUN ...]        the results, into each
    experiment's first lines

RUN is a run's folder, or another folder in it that holds an evaluation. Runs that differ in their seed or in
data.class_subset alone are one result, their numbers the mean.
"""

import json
import re
import shlex
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.utils import get_class

from unlabeled.commands import command, quoted, without_places
from unlabeled.configs import CONF
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Headline
from unlabeled.evaluation.report.page import line, training_command
from unlabeled.evaluation.report.verdicts import headlines

HEAD = """# Results

Written by `python -m unlabeled.app.tables.results RUN ...` from the runs' own evaluation.json and result.json.
First the headline numbers of each run, beside published ones where there are any; then all of its numbers, each beside
its baseline. Several runs: the mean, and after ± the standard deviation over them; one run: after ± the standard error
over images, where there is one."""

UNSHOWN = ("data.", "~evaluation")  # words of evaluate.py that change none of the numbers shown
VARIED = ("seed=", "data.class_subset=")


class Run(NamedTuple):
    evaluation: dict[str, Any]
    result: dict[str, Any]

    @property
    def command(self) -> list[str]:
        return shlex.split(training_command(self.evaluation["provenance"]))

    @property
    def evaluated(self) -> list[str]:
        """The overrides of evaluate.py that matter."""
        words = self.evaluation["provenance"].get("overrides") or []
        return [word for word in without_places(words) if not word.startswith(UNSHOWN)]

    @property
    def checkpoint(self) -> str:
        """The checkpoint measured: RUN stands for its best one, else a file of the run."""
        words = self.evaluation["provenance"].get("overrides") or []
        said = [Path(word.partition("=")[2]) for word in words if word.startswith("checkpoint=")]
        return f"RUN/checkpoints/{said[-1].name}" if said and said[-1].suffix == ".ckpt" else "RUN"

    @property
    def experiment(self) -> Path | None:
        """The file of its experiment."""
        names = [word.partition("=")[2] for word in self.command if word.startswith("experiment=")]
        file = CONF / "experiment" / f"{names[-1]}.yaml" if names else None
        return file if file and file.exists() else None


def read_run(folder: Path) -> Run:
    """evaluation.json and result.json."""
    file = folder / "evaluation.json"
    inside = file.exists()
    try:
        evaluation = json.loads((file if inside else folder / "evaluation" / "evaluation.json").read_text())
        result = json.loads(((folder.parent if inside else folder) / "result.json").read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no {Path(error.filename).name}; run {command('evaluate', quoted('checkpoint', folder))}"
        ) from error
    if missing := [name for name in evaluation.get("unfinished", []) if name != "pictures"]:
        raise UserError(f"{folder}: its evaluation ended before {', '.join(missing)}: run evaluate.py again")
    return Run(evaluation, result)


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ only in VARIED, together."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        same = [word for word in run.command if not word.startswith(VARIED)]
        groups.setdefault((*same, run.checkpoint, *run.evaluated), []).append(run)
    return list(groups.values())


def distinct(groups: Sequence[list[Run]]) -> list[list[Run]]:
    """Those without the last checkpoints of runs that say what their best ones say: often they are the same."""
    kinds = [(varied(group), group[0].evaluated) for group in groups]
    values = [[(number["name"], number["value"]) for number in numbers(group)] for group in groups]
    best = [(*both, v) for group, both, v in zip(groups, kinds, values, strict=True) if group[0].checkpoint == "RUN"]
    triples = zip(groups, kinds, values, strict=True)
    return [group for group, both, v in triples if group[0].checkpoint == "RUN" or (*both, v) not in best]


def numbers(group: Sequence[Run]) -> list[dict[str, Any]]:
    """The numbers of a run; of several runs the means."""
    if len(group) == 1:
        return group[0].evaluation["numbers"]
    found: dict[str, list[dict[str, Any]]] = {}
    for run in group:
        for number in run.evaluation["numbers"]:
            found.setdefault(number["name"], []).append(number)
    return [mean(each) for each in found.values() if len(each) == len(group)]


def mean(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean of one number over several runs, and of its baselines; its error is the standard deviation over runs."""
    facts = dict(each[0]["facts"])
    for key, value in facts.items():
        values = [number["facts"].get(key) for number in each]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            facts[key] = statistics.mean(values)
    values = [number["value"] for number in each]
    if None in values:  # not a number in one of them
        return {**each[values.index(None)], "facts": facts}
    facts["standard_error"] = statistics.stdev(values)
    return {**each[0], "value": statistics.mean(values), "facts": facts}


def published(file: Path | None) -> str:
    """The published result in an experiment's first lines, after "Published:"."""
    if file is None:
        return ""
    said = " ".join(row.lstrip("# ") for row in comments(file) if not row.startswith("#  "))
    found = re.search(r"Published:? (.*?)(?= Reached|$)", said)
    return found[1].strip() if found else ""


def comments(file: Path) -> list[str]:
    """The comment lines at the beginning of a file."""
    rows = file.read_text().splitlines()
    return rows[: next(i for i, row in enumerate(rows) if not row.startswith("#"))]


def recipe(file: Path) -> str:
    """What a user types after `experiment=`."""
    return file.relative_to(CONF / "experiment").with_suffix("").as_posix()


def reached(group: Sequence[Run]) -> list[dict[str, Any]]:
    """The numbers that were published, by name; else the headline numbers."""
    return [line(number) for number in named(group) or headlines([with_headline(n) for n in numbers(group)])]


def with_headline(number: dict[str, Any]) -> dict[str, Any]:
    """The number with its evaluator's headline, which evaluations of before lack."""
    headline = evaluator_headlines().get(number["name"].partition("[")[0])
    return {"headline": headline._asdict()} | number if headline else number


@cache
def evaluator_headlines() -> dict[str, Headline]:
    """The headlines of all evaluators, by name."""
    evaluators = yaml.safe_load((CONF / "evaluation" / "default.yaml").read_text())["evaluators"].values()
    found = [get_class(evaluator["_target_"]).headlines for evaluator in evaluators]  # type: ignore[attr-defined]
    return {name: headline for headlines in found for name, headline in headlines.items()}


def named(group: Sequence[Run]) -> list[dict[str, Any]]:
    """The numbers named in the published result."""
    said = published(group[0].experiment)
    return [n for n in numbers(group) if re.search(rf"\b{re.escape(n['name'].split('[')[0])}\b", said)]


def means(group: Sequence[Run]) -> tuple[str, str]:
    """(budget and wall time, hardware)."""
    result, provenance = group[0].result, group[0].evaluation["provenance"]
    size, count = group[0].evaluation["config"]["data"]["batch_size"], len(group)
    minutes = statistics.mean(run.result["seconds"] for run in group) / 60
    each = f"{count} runs, each " if count > 1 else ""
    threads = provenance["threads"]
    return (
        f"{each}{result['batches']:,} batches of {size}, {minutes:.1f} min",
        f"{provenance['processor']}, {threads} thread{'s' * (threads > 1)}",
    )


def varied(group: Sequence[Run]) -> str:
    """The training command of a group, with VARIED values as a sweep's list."""
    words = group[0].command
    for i, word in enumerate(words):
        if word.startswith(VARIED):
            values = [run.command[i].partition("=")[2] for run in group]
            words[i] = f"{word.partition('=')[0]}={','.join(dict.fromkeys(values))}"
    return shlex.join(words[:2] + ["-m"] * (len(group) > 1) + words[2:])


def summary(title: str, group: Sequence[Run]) -> str:
    """A result as a row: its numbers and its cost."""
    provenance = group[0].evaluation["provenance"]
    told = "<br>".join(f"{number['name']} {_value(number)}" for number in reached(group)) or "none applies"
    weights = f"{provenance['weights']}, epoch {provenance['epoch']}"
    beside = published(group[0].experiment) if named(group) else ""
    return _row(title, told, beside, *means(group), weights)


def section(title: str, group: Sequence[Run]) -> list[str]:
    """The commands of a result, and every number of its evaluation."""
    lines = ["", f"## {title}", "", "```", varied(group)]
    first = group[0]
    if first.evaluated or first.checkpoint != "RUN":
        lines.append(command("evaluate", f"checkpoint={first.checkpoint}", *first.evaluated))
    lines.append("```")
    every = numbers(group)
    if every:
        lines += ["", _row("number", "value", "better", "beside", "on"), "| --- | ---: | --- | --- | --- |"]
    for number in map(line, every):
        beside = "; ".join(f"{what} {value}" for what, value, _ in number["beside"])
        lines.append(_row(f"`{number['name']}`", _value(number), number["better"], beside, number["on"]))
    return lines


def headers(groups: Sequence[Sequence[Run]]) -> None:
    """Replace "Reached" in each experiment's first lines by the results of these runs."""
    told: dict[Path, list[str]] = {}
    for group in groups:
        file = group[0].experiment
        if file is None:
            continue
        own = [f"experiment={recipe(file)}", *VARIED]
        first = group[0]
        others = [word for word in first.command[2:] if not word.startswith(tuple(own))] + first.evaluated
        others = [Path(first.checkpoint).name, *others] if first.checkpoint != "RUN" else others
        what = ", ".join(f"{number['name']} {_value(number)}" for number in reached(group))
        seeds = ", ".join(dict.fromkeys(str(run.evaluation["provenance"]["seed"]) for run in group))
        how = f"seed{'s' * (', ' in seeds)} {seeds}; {', '.join(means(group))}"
        said = f"Reached{' with ' + ' '.join(others) if others else ''}: {what} ({how})"
        told.setdefault(file, []).append(said)
    for file, sayings in told.items():
        old = comments(file)
        kept = [row for row in old if not row.startswith(("# Reached", "#  "))]
        new = [
            row
            for said in sayings
            for row in textwrap.wrap(said, 118, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
        ]
        rest = file.read_text().splitlines()[len(old) :]
        file.write_text("\n".join([*kept, *new, *rest]) + "\n")


def _value(number: Mapping[str, Any]) -> str:
    error = f" ± {number['error']}" if number["error"] else ""
    return f"{number['value']}{error} {number['unit']}".strip()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(words: Sequence[str]) -> None:
    groups = distinct(grouped([read_run(Path(folder)) for folder in words if folder != "--headers"]))
    if not groups:
        raise UserError("name the runs: python -m unlabeled.app.tables.results RUN [RUN ...]")
    if "--headers" in words:
        return headers(groups)
    titles = []
    for i, group in enumerate(groups, 1):
        names, file = group[0].evaluation["provenance"]["names"], group[0].experiment
        other = "" if group[0].checkpoint == "RUN" else f", {Path(group[0].checkpoint).stem}"
        name = recipe(file) if file else f"{names['model']} on {names['data']}"
        titles.append(f"{i}. {name}{other}")
    first = _row("result", "reached", "published", "budget, wall time", "hardware", "weights")
    lines = [HEAD, "", first, "| --- " * 6 + "|"]
    lines += [summary(*pair) for pair in zip(titles, groups, strict=True)]
    for title, group in zip(titles, groups, strict=True):
        lines += section(title, group)
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
