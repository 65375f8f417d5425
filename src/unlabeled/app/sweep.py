"""The tables at the end of a sweep. Imports nothing heavy."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from unlabeled.app.cli import Outcome


class Compare(Callback):
    """Prints one table of a sweep's runs: what was varied, and what each reached; of a broken-off sweep too."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Outcome.table = lambda: self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console
        from rich.table import Table

        Outcome.table = None
        sweep = Path(config.hydra.sweep.dir)
        folders = [path for path in sweep.glob("*-*") if path.name.split("-")[0].isdigit()]
        results = [(path, _result(path)) for path in sorted(folders, key=lambda path: int(path.name.split("-")[0]))]
        if not results:
            return
        words = [dict(word.partition("=")[::2] for word in result["names"]["overrides"]) for _, result in results]
        keys = list(dict.fromkeys(key for row in words for key in row))
        varied = [key for key in keys if len({row.get(key) for row in words}) > 1] or keys
        reached = [result.get("best") or result.get("last") or {} for _, result in results]
        states = ["failed" if "error" in result else "pruned" if "pruned" in result else "" for _, result in results]
        counts: dict[str, int] = {}
        for row in reached:
            for name in row:
                told = name != "train/lr" and "/gradient_norm" not in name
                counts[name] = counts.get(name, 0) + told
        shown = sorted(counts, key=lambda name: (-counts[name], not name.startswith("val/"), name))[:6]
        table = Table(title=f"{len(results)} runs in {sweep}")
        for key in varied:
            table.add_column(key)
        for name in shown:
            table.add_column(name, justify="right")
        table.add_column("s", justify="right")
        if any(states):
            table.add_column("")
        for chosen, values, entry, state in zip(words, reached, results, states, strict=True):
            cells = [f"{values[name]:.4g}" if name in values else "" for name in shown]
            cells += [f"{entry[1].get('seconds', '')}", *([state] if any(states) else [])]
            table.add_row(*(_short(chosen.get(key, "")) for key in varied), *cells)
        (sweep / "results.json").write_text(json.dumps({f.name: r for f, r in results}, indent=2))
        console = Console(highlight=False)
        console.print(table)
        for run, result in results:
            if "error" in result:
                Outcome.failed = Outcome.failed or 1  # it may have run in another process
                console.print(f"failed: {run.name}: {result['error']}", soft_wrap=True, markup=False)


def _result(run: Path) -> dict[str, Any]:
    """A run's result.json; of a run that was killed, what its config tells."""
    if (run / "result.json").is_file():
        return json.loads((run / "result.json").read_text())
    names: Any = {"overrides": []}
    if (run / "config.yaml").is_file():
        names = OmegaConf.to_container(OmegaConf.load(run / "config.yaml").names)
    return {"names": names, "error": "it ended without a word: killed, or out of memory?"}


def _short(value: str) -> str:
    """0.00015676677195 as 0.0001568; anything else as it is."""
    try:
        return value if len(value) < 10 else f"{float(value):.4g}"
    except ValueError:
        return value


class CompareEvaluations(Callback):
    """Prints one table of a multirun's evaluations and leaves comparison.html and comparison.json.

    Each job leaves NUMBER.json in the sweep's folder: {"folder": its own, "evaluation": evaluation.json's content}.
    """

    SIDE_BY_SIDE = (
        "samples",
        "density",
        "a_to_b",
        "b_to_a",
        "reconstructions",
        "traversals",
        "neighbours",
        "codes_map",
    )

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
