"""The tables at the end of a sweep. Imports nothing heavy."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig


class Compare(Callback):
    """Prints one table of a sweep's runs: what was varied, and what each reached."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console
        from rich.table import Table

        sweep = Path(config.hydra.sweep.dir)
        runs = sorted(sweep.glob("*/result.json"), key=lambda path: int(path.parent.name.split("-")[0]))
        results = [(path.parent, json.loads(path.read_text())) for path in runs]
        if not results:
            return
        words = [dict(word.partition("=")[::2] for word in result["names"]["overrides"]) for _, result in results]
        varied = [key for key in words[0] if len({row.get(key) for row in words}) > 1] or list(words[0])
        reached = [result.get("best") or result.get("last") or {} for _, result in results]
        counts: dict[str, int] = {}
        for row in reached:
            for name in row:
                counts[name] = counts.get(name, 0) + (name != "train/lr")
        shown = sorted(counts, key=lambda name: (-counts[name], name))[:6]
        table = Table(title=f"{len(results)} runs in {sweep}")
        for key in varied:
            table.add_column(key)
        for name in shown:
            table.add_column(name, justify="right")
        table.add_column("s", justify="right")
        for chosen, values, entry in zip(words, reached, results, strict=True):
            result = entry[1]
            cells = [f"{values[name]:.4g}" if name in values else "" for name in shown]
            if "error" in result:
                cells = ["failed", *[""] * len(shown)][: len(shown)]
            table.add_row(*(chosen.get(key, "") for key in varied), *cells, f"{result.get('seconds', ''):}")
        (sweep / "results.json").write_text(json.dumps({f.name: r for f, r in results}, indent=2))
        console = Console(highlight=False)
        console.print(table)
        for run, result in results:
            if "error" in result:
                console.print(f"failed: {run.name}: {result['error']}", soft_wrap=True)


class CompareEvaluations(Callback):
    """Prints one table of a multirun's evaluations and leaves comparison.html and comparison.json.

    Each job leaves NUMBER.json in the sweep's folder: {"folder": its own, "evaluation": evaluation.json's content}.
    """

    SIDE_BY_SIDE = ("samples", "a_to_b", "b_to_a", "reconstructions", "traversals", "neighbours", "codes_map")

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        hydra = config.hydra
        if hydra.mode != RunMode.MULTIRUN:
            return
        file = Path(hydra.sweep.dir) / f"{hydra.job.num}.json"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            name = " ".join(hydra.overrides.task)
            file.write_text(json.dumps({"name": name, "error": "left nothing; its message was on the screen"}))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console

        from unlabeled.evaluation.report import render_comparison
        from unlabeled.evaluation.side_by_side import side_by_side

        sweep = Path(config.hydra.sweep.dir)
        files = sorted((path for path in sweep.glob("*.json") if path.stem.isdigit()), key=lambda path: int(path.stem))
        if not files:
            return
        jobs = [json.loads(file.read_text()) for file in files]
        comparison = side_by_side(jobs, f"{len(jobs)} evaluations")
        folders = [run["folder"] for run in comparison["runs"]]
        if len(set(folders)) < len(folders):
            comparison["notes"].append(
                "Some evaluations wrote to one folder: its pictures are those of the last. Say output=FOLDER."
            )
        last = {run["folder"]: run["name"] for run in comparison["runs"]}
        pictures = {}
        for name in self.SIDE_BY_SIDE:
            found = {run: Path(folder) / f"{name}.png" for folder, run in last.items()}
            found = {run: path for run, path in found.items() if path.is_file()}
            if len(found) > 1:
                pictures[name] = found
        (sweep / "comparison.json").write_text(json.dumps(comparison, indent=2))
        (sweep / "comparison.html").write_text(render_comparison(comparison, pictures), encoding="utf-8")
        console = Console(highlight=False)
        for table in tables(comparison, console.width):
            console.print(table)
        for note in comparison["notes"]:
            console.print(f"note      {note}", soft_wrap=True)
        for job in comparison["failed"]:
            console.print(f"failed    {job['name']}: {job['error']}", soft_wrap=True, markup=False)
        console.print(f"page      {sweep / 'comparison.html'}", soft_wrap=True)


def tables(comparison: dict[str, Any], width: int) -> list[Any]:
    """A comparison for the screen: the longer of runs and numbers goes down; columns that do not fit go below."""
    from rich.markup import escape
    from rich.table import Table

    from unlabeled.evaluation.report import short

    runs, numbers = [run["name"] for run in comparison["runs"]], comparison["numbers"]
    if not runs or not numbers:
        return []
    titles = [f"{'↑' if n['better'] == 'higher' else '↓'} {n['name']}" for n in numbers]
    cells = [  # (numbers, runs)
        [f"[bold]{short(v)}[/bold]" if best else short(v) for v, best in zip(n["values"], n["best"], strict=True)]
        for n in numbers
    ]
    if comparison["repeated"]:
        runs = [*runs, "mean ± sd"]
        for row, n in zip(cells, numbers, strict=True):
            row.append(f"{short(n['mean'])} ± {n['sd']:.2g}")
    down, across = titles, runs
    if len(titles) <= len(runs):
        down, across, cells = runs, titles, [list(column) for column in zip(*cells, strict=True)]
    first = max(map(len, down)) + 3
    found: list[Any] = []
    room = 0
    for column, name in enumerate(across):
        words = [
            *name.replace("[", " [").split(),
            *(row[column].replace("[bold]", "").replace("[/bold]", "") for row in cells),
        ]
        need = max(map(len, words)) + 3
        if not found or need > room:
            table = Table(title=comparison["title"] if not found else None)
            table.add_column("number" if down is titles else "run", no_wrap=True)
            found.append((table, []))
            room = width - first - 1
        found[-1][1].append(column)
        room -= need
    for table, columns in found:
        for column in columns:
            table.add_column(escape(across[column].replace("[", " [")), justify="right")
        for i, name in enumerate(down):
            table.add_row(escape(name), *(cells[i][column] for column in columns))
    return [table for table, _ in found]
