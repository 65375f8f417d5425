"""The table at the end of a sweep. Imports nothing heavy."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
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
