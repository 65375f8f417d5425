"""One table of ratios, each measured in one run on this machine, with the sides taking turns; and the same as JSON.

    python -m benchmarks step start         some subjects; none named: all
    python -m benchmarks --quick            few rounds and small ones, to see that everything runs

One thread. Where the clock is "cpu", seconds are of processors, which other programs on the machine change little.
"""

import argparse
import importlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.common import ROOT, machine, table, tell
from unlabeled.app.run.process import keep_freed_memory

SUBJECTS = {  # name -> module beside this one: its rows(rounds) are lines of the table
    "step": "steps",
    "rivals": "rivals",
    "start": "start",
    "data": "data_path",
    "views": "views",
    "evaluation": "evaluation",
    "checkpoints": "checkpoints",
    "switches": "switches",
    "devices": "devices",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each side; rows of minutes take a third")
    parser.add_argument("--output", default=str(ROOT / "outputs" / "benchmarks"), help="folder for the JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"no subject {', '.join(sorted(unknown))}: there are {', '.join(SUBJECTS)}")
    torch.set_num_threads(1)
    keep_freed_memory()  # as train.py does; it helps the other side here too
    found = []
    for subject in arguments.subjects or SUBJECTS:
        module = importlib.import_module(f"benchmarks.{SUBJECTS[subject]}")
        for line in module.rows(2 if arguments.quick else arguments.rounds):
            found.append(line)
            tell(table([line]).partition("\n")[2])
    facts = machine()
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value))
    print("ratio: time, ours / the other side's; below 1 ours is faster. Median of the rounds, and their quartiles.")
    print(table(found))
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    file.write_text(json.dumps({"machine": facts, "rows": [asdict(line) for line in found]}, indent=2))
    print(f"written to {file}")


if __name__ == "__main__":
    main()
