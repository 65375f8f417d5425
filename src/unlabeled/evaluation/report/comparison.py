"""Comparison of the evaluations of several runs. Imports nothing heavy."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from unlabeled.commands import key_of, without_places
from unlabeled.evaluation.report.verdicts import beside, short
from unlabeled.files import without_shared_folders

ALIKE = {"seed", "data.class_subset", "evaluation seed"}  # runs that differ only in these are averaged
USUAL = "as usual"
PLAIN = ("model", "data", "weights", "samples", "reference")  # whose values are shown without their key


def side_by_side(jobs: Sequence[Mapping[str, Any]], title: str = "") -> dict[str, Any]:
    """jobs: {"folder", "evaluation"} each, evaluation.json's content; with {"name", "error"} those that failed.

    runs: name, folder, and settings that differ between runs. numbers: those of all runs, and others: those of some;
    each with a value for each run, whether it is the best of those measured on the same images, and its baselines
    (`beside`: name, and value or range). repeated: the runs differ only in their seeds or training classes, so that
    they have a mean and a standard deviation (n - 1).
    """
    done = [job for job in jobs if "evaluation" in job]  # some of its numbers may have failed
    marks = [identity(job["evaluation"]) for job in done]
    keys = list(dict.fromkeys(key for mark in marks for key in mark))
    complete = [{key: mark.get(key, usual(job, key)) for key in keys} for mark, job in zip(marks, done, strict=True)]
    varied = [key for key in keys if len({mark[key] for mark in complete}) > 1]
    held = [{number["name"]: number for number in job["evaluation"]["numbers"]} for job in done]
    names = list(dict.fromkeys(name for numbers in held for name in numbers))
    repeated = bool(varied) and set(varied) <= ALIKE
    columns = [column(name, held, done, repeated) for name in names]
    notes = []
    if any(number["grounds"] > 1 for number in columns):
        notes.append("Runs were measured on different images: the best is marked among those of the same images only.")
    titles = labels(complete, varied, done)
    runs = zip(titles, done, strict=True)
    same = {key: complete[0][key] for key in PLAIN if complete and key in keys and key not in varied}
    return {
        "title": title or titled(titles, same),
        "runs": [
            {"name": name, "folder": job["folder"], "differs": {key: mark[key] for key in varied}}
            for (name, job), mark in zip(runs, complete, strict=True)
        ],
        "same": same,
        "numbers": [number for number in columns if None not in number["values"]],
        "others": [number for number in columns if None in number["values"]],
        "repeated": repeated,
        "notes": notes,
        "failed": [{"name": str(job["name"]), "error": str(job["error"])} for job in jobs if "error" in job],
    }


def titled(runs: Sequence[str], same: Mapping[str, str], most: int = 4) -> str:
    """A title: "vae on digits: seed=0, seed=1"."""
    shared = " on ".join(same[key] for key in ("model", "data") if key in same)
    which = ", ".join(runs) if len(runs) <= most else f"{len(runs)} evaluations"
    return f"{shared}: {which}" if shared else which


def identity(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """The settings that distinguish a run from others."""
    provenance = evaluation["provenance"]
    names = provenance.get("names") or {}
    mark = {key: str(names[key]) for key in ("model", "data") if key in names}
    mark |= {key: str(provenance[key]) for key in ("samples", "reference", "weights", "seed") if key in provenance}
    mark["evaluation seed"] = str(provenance.get("evaluation_seed", 0))
    given = {"weights", "seed", *mark}
    for word in without_places([*names.get("overrides", []), *(provenance.get("overrides") or [])]):
        if key_of(word) not in given:
            mark[key_of(word)] = word.partition("=")[2]
    return mark


def usual(job: Mapping[str, Any], key: str) -> str:
    """A run's value of a setting that another run's command line gave."""
    value: Any = job["evaluation"].get("config") or {}
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return USUAL
        value = value[part]
    return USUAL if isinstance(value, Mapping) else str(value)


def labels(marks: Sequence[Mapping[str, str]], varied: Sequence[str], jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of runs, by as few of their differences as distinguish them; else by checkpoint, and by number."""
    found = [""] * len(marks)
    for key in varied:
        if len(set(found)) < len(found) or key in PLAIN:
            values = without_shared_folders([mark[key] for mark in marks])
            words = [value if key in PLAIN else f"{key}={value}" for value in values]
            words = ["" if mark[key] == USUAL else word for mark, word in zip(marks, words, strict=True)]
            found = [f"{name} {word}".strip() for name, word in zip(found, words, strict=True)]
    places = without_shared_folders(
        [str(job["evaluation"]["provenance"].get("checkpoint") or job["folder"]) for job in jobs]
    )
    for more in (places, [f"({i + 1})" for i in range(len(jobs))]):
        twice = {name for name in found if found.count(name) > 1}
        found = [f"{name} {tell}".strip() if name in twice else name for name, tell in zip(found, more, strict=True)]
    titles = [str(job["evaluation"].get("title") or job["folder"]) for job in jobs]
    return [name or title for name, title in zip(found, titles, strict=True)]


def column(
    name: str, held: Sequence[Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]], repeated: bool
) -> dict[str, Any]:
    """One quantity of all runs."""
    values = [numeric(numbers[name]["value"]) if name in numbers else None for numbers in held]
    grounds = [ground(job["evaluation"], numbers.get(name)) for numbers, job in zip(held, jobs, strict=True)]
    first = next(numbers[name] for numbers in held if name in numbers)
    better = {number.get("better") for numbers in held if (number := numbers.get(name))}
    best = []
    for value, own in zip(values, grounds, strict=True):
        rivals = [v for v, g in zip(values, grounds, strict=True) if v is not None and g == own and math.isfinite(v)]
        champion = (max if first["better"] == "higher" else min)(rivals, default=None)
        distinct = len({short(v) for v in rivals}) > 1 and None not in better  # if all are equal, none is the best
        best.append(distinct and value is not None and short(value) == short(champion))
    known = [value for value in values if value is not None]
    averaged = repeated and len(known) == len(values)
    finite = all(map(math.isfinite, known))
    return {
        "name": name,
        "unit": first["unit"],
        "better": first["better"],
        "values": values,
        "best": best,
        "beside": held_against([numbers[name]["facts"] for numbers in held if name in numbers]),
        "grounds": len(set(grounds) - {None}),
        "mean": (statistics.fmean(known) if finite else math.nan) if averaged else None,
        "sd": (statistics.stdev(known) if finite else math.nan) if averaged else None,
    }


def numeric(value: Any) -> float:
    """A number's value; null stands for one that is not finite."""
    return math.nan if value is None else float(value)


def held_against(facts: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The baselines of a number in all runs, by name: the value, or the range of values."""
    found: dict[str, list[float]] = {}
    for each in facts:
        for name, value in beside(each):
            found.setdefault(name, []).append(value)
    ends = {name: list(dict.fromkeys((short(min(held)), short(max(held))))) for name, held in found.items()}
    return [(name, " to ".join(each)) for name, each in ends.items()]


def ground(evaluation: Mapping[str, Any], number: Mapping[str, Any] | None) -> str | None:
    """The data that a number was measured on: only numbers of the same data are compared."""
    if number is None:
        return None
    facts = number["facts"]
    return json.dumps([evaluation["provenance"].get("data"), facts.get("split"), facts.get("images")], default=str)
