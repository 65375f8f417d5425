"""The tables at the end of a sweep. Imports nothing heavy."""

import json
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from unlabeled.app.cli.main import JobStatus
from unlabeled.app.cli.terminal import show, tables
from unlabeled.evaluation.report.order import ordered
from unlabeled.files import without_shared_folders, write_json


class Compare(Callback):
    """Prints one table of a sweep's runs, varied settings and results, also after an interrupted sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        JobStatus.table = lambda: self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console

        JobStatus.table = None
        sweep = Path(config.hydra.sweep.dir)
        folders = [path for path in sweep.glob("*-*") if path.name.split("-")[0].isdigit()]
        results = {path.name: _result(path) for path in sorted(folders, key=lambda path: int(path.name.split("-")[0]))}
        if not results:
            return
        write_json(sweep / "results.json", results)
        console = Console(highlight=False)
        console.print(f"{len(results)} runs in {sweep}", soft_wrap=True, markup=False)
        show(console, tables(*summary(results), console.width, turns=True))
        for run, result in results.items():
            if "error" in result:
                JobStatus.failed = JobStatus.failed or 1  # it may have run in another process
                console.print(f"failed: {run}: {result['error']}", soft_wrap=True, markup=False)


def summary(results: dict[str, dict[str, Any]], most: int = 6) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of a sweep's table: varied settings, then results, the monitored one first."""
    words = [dict(word.partition("=")[::2] for word in result["names"]["overrides"]) for result in results.values()]
    keys = list(dict.fromkeys(key for row in words for key in row))
    varied = [key for key in keys if len({row.get(key) for row in words}) > 1] or keys
    reached = [_numbers(result.get("best") or result.get("last") or {}) for result in results.values()]
    counts: dict[str, int] = {}
    for row in reached:
        for name in row:
            counts[name] = counts.get(name, 0) + 1
    monitored = [result.get("monitor") for result in results.values()]
    shown = [name for name in ordered(counts, *monitored) if name != "train/lr" and "/gradient_norm" not in name]
    shown.sort(key=lambda name: (name not in monitored, -counts[name]))  # then those that most runs have
    states = ["failed" if "error" in r else "pruned" if "pruned" in r else "" for r in results.values()]
    columns = {"run": [name.partition("-")[0] for name in results]}
    columns |= {key: _short([row.get(key, "") for row in words]) for key in varied}
    columns |= {name: [f"{row[name]:.4g}" if name in row else "" for row in reached] for name in shown[:most]}
    columns["s"] = [f"{result.get('seconds', '')}" for result in results.values()]
    if any(states):
        columns["state"] = states
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _result(run: Path) -> dict[str, Any]:
    """A run's result.json; for a run that was killed, a substitute from its config."""
    if (run / "result.json").is_file():
        return json.loads((run / "result.json").read_text())
    names: Any = {"overrides": []}
    if (run / "config.yaml").is_file():
        names = OmegaConf.to_container(OmegaConf.load(run / "config.yaml").names)
    return {"names": names, "error": "it ended without a word: killed, or out of memory?"}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """The finite values; others are null with a reason."""
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _short(values: list[str]) -> list[str]:
    """0.00015676677195 as 0.0001568, unless two values become the same; paths without shared folders."""

    def rounded(value: str) -> str:
        try:
            return value if len(value) < 10 else f"{float(value):.4g}"
        except ValueError:
            return value

    short = [rounded(value) for value in values]
    return without_shared_folders(short if len(set(short)) == len(set(values)) else values)


class CompareEvaluations(Callback):
    """Prints one table of a multirun's evaluations and leaves comparison.html and comparison.json.

    Each job leaves NUMBER.json in the sweep's folder: {"folder": its own, "evaluation": evaluation.json's content}.
    """

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        hydra = config.hydra
        if hydra.mode != RunMode.MULTIRUN:
            return
        file = Path(hydra.sweep.dir) / f"{hydra.job.num}.json"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            name = " ".join(hydra.overrides.task)
            write_json(file, {"name": name, "error": "left nothing; its message was on the screen"})

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console

        from unlabeled.evaluation.figures.captions import CAPTIONS
        from unlabeled.evaluation.report.comparison import side_by_side
        from unlabeled.evaluation.report.page import render_comparison

        sweep = Path(config.hydra.sweep.dir)
        files = sorted((path for path in sweep.glob("*.json") if path.stem.isdigit()), key=lambda path: int(path.stem))
        if not files:
            return
        jobs = [json.loads(file.read_text()) for file in files]
        failed = [job for job in jobs if "error" in job]
        if failed:
            JobStatus.failed = JobStatus.failed or 1  # it may have run in another process
        if len(failed) == len(jobs):
            for name in ("comparison.html", "comparison.json"):
                (sweep / name).unlink(missing_ok=True)  # of evaluations before, in the same folder
            what = f"all {len(jobs)} evaluations failed" if len(jobs) > 1 else "the evaluation failed"
            print(f"error: {what}: there is nothing to compare", file=sys.stderr)
            return
        comparison = side_by_side(jobs)
        folders = [run["folder"] for run in comparison["runs"]]
        if len(set(folders)) < len(folders):
            comparison["notes"].append(
                "Some evaluations wrote to one folder: its pictures are those of the last. Say output=FOLDER."
            )
        last = {run["folder"]: run["name"] for run in comparison["runs"]}
        pictures = {}
        for name in (name for name, caption in CAPTIONS.items() if caption.compared):
            found = {run: Path(folder) / f"{name}.png" for folder, run in last.items()}
            found = {run: path for run, path in found.items() if path.is_file()}
            if len(found) > 1:
                pictures[name] = found
        write_json(sweep / "comparison.json", comparison)
        (sweep / "comparison.html").write_text(render_comparison(comparison, pictures), encoding="utf-8")
        console = Console(highlight=False)
        console.print(comparison["title"], soft_wrap=True, markup=False)
        heads, rows = compared(comparison)
        if rows:
            show(console, tables(heads, rows, console.width, turns=True, wraps=range(1, len(heads))))
        if any(any(number["best"]) for number in comparison["numbers"]):
            console.print("* the best of those measured on the same images", soft_wrap=True)
        for note in comparison["notes"]:
            console.print(f"note      {note}", soft_wrap=True, markup=False)
        for job in comparison["failed"]:
            console.print(f"failed    {job['name']}: {job['error']}", soft_wrap=True, markup=False)
        console.print(f"page      {sweep / 'comparison.html'}", soft_wrap=True, markup=False)


def compared(comparison: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of a comparison for the screen: a row a number, a column a run, and the baselines."""
    from unlabeled.evaluation.report.verdicts import ARROWS, short

    heads = ["number", *(run["name"] for run in comparison["runs"])]
    heads += [word for word, there in (("mean ± sd", comparison["repeated"]), ("beside", True)) if there]
    rows = []
    for number in comparison["numbers"]:
        marked = [
            f"*{short(v)}" if best else short(v) for v, best in zip(number["values"], number["best"], strict=True)
        ]
        mean = [f"{short(number['mean'])} ± {number['sd']:.2g}"] if comparison["repeated"] else []
        beside = ", ".join(f"{name} {value}" for name, value in number["beside"])
        rows.append([f"{ARROWS[number['better']]} {number['name']}".strip(), *marked, *mean, beside])
    return heads, rows
