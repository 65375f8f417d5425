"""One evaluation: open a checkpoint, find out what it can do, measure that, and leave numbers and pictures."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from unlabeled.app.checkpoint import load, locate
from unlabeled.app.train import quiet, resolve
from unlabeled.errors import UserError
from unlabeled.evaluation.number import Number
from unlabeled.evaluation.pictures import draw
from unlabeled.evaluation.place import Place
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix, seed_noise

LIBRARIES = ("unlabeled", "torch", "torchvision", "torchmetrics", "torch-fidelity", "scikit-learn", "numpy", "scipy")


def evaluate(config: DictConfig) -> None:
    """Measure what the checkpoint's method can do; writes evaluation.json and pictures, prints a table."""
    if config.weights not in ("averaged", "live"):
        raise UserError(f"weights={config.weights}: there are averaged and live")
    folder = output_folder(config)
    if config.devices > 1:
        launch(config, folder)
    else:
        measure(resolve(config), folder, Place())


def launch(config: DictConfig, folder: Path) -> None:
    """One process a device, each with the same resolved config."""
    file = folder / "evaluate.yaml"
    file.write_text(OmegaConf.to_yaml(config, resolve=True))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.devices}"]
    done = subprocess.run([*command, "-m", "unlabeled.app.evaluation_worker", str(file), str(folder)])
    file.unlink()
    if done.returncode:
        raise UserError(f"a process of the evaluation failed (status {done.returncode}): its message stands above")


@torch.no_grad()
def measure(config: dict[str, Any], folder: Path, place: Place) -> None:
    """Measure, as one of `place.world` processes; the leader writes and prints."""
    quiet()
    device = choose_device(config["device"])
    method, run, facts = load(config["checkpoint"], config["weights"], device, tuple(config["trust"]))
    settings = run["data"] | {key: value for key, value in config["data"].items() if value is not None}
    data = instantiate(settings, _convert_="all")
    data.prepare_data()
    chosen = config["evaluation"]

    def untrained() -> Any:
        torch.manual_seed(mix(config["seed"], 7) % 2**32)
        return instantiate(run["model"], _convert_="all").to(method.device).eval().requires_grad_(False)

    study = Study(
        method,
        data,
        split=chosen["split"],
        seed=config["seed"],
        samples=chosen["samples"],
        codes=chosen["codes"],
        untrained=untrained,
        cache=Path(data.packed) / "evaluation",
        place=place,
    )
    numbers: list[Number] = []
    for settings in chosen["evaluators"].values():
        evaluator = instantiate(settings, _convert_="all")
        if evaluator.applies(study):
            seed_noise(config["seed"])
            numbers += evaluator.measure(study)
    if not place.leads:
        return

    seed_noise(config["seed"])
    batch = next(iter(data.loader(chosen["split"], chosen["pictures"])))
    batch = type(batch)(*(part.to(method.device) for part in batch))
    pictures = draw(method, batch)
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")

    provenance = facts | {
        "names": run.get("names"),
        "data": data.keys,
        "evaluation_seed": config["seed"],
        "versions": {name: version(name) for name in LIBRARIES},
        "device": method.device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "processes": place.world,
    }
    content = {
        "provenance": provenance,
        "numbers": [asdict(number) for number in numbers],
        "notes": study.notes,
        "config": run,
    }
    (folder / "evaluation.json").write_text(json.dumps(content, indent=2, default=str))
    console = Console(highlight=False)
    if numbers:
        show(console, run, facts, numbers)
    else:
        console.print("no number of this version applies to what this method can do")
    for note in study.notes:
        console.print(f"note      {note}", soft_wrap=True)
    console.print(f"numbers   {folder / 'evaluation.json'}", soft_wrap=True)
    if pictures:
        console.print(f"pictures  {folder} ({', '.join(pictures)})", soft_wrap=True)


def show(console: Console, run: dict[str, Any], facts: dict[str, Any], numbers: list[Number]) -> None:
    names = run.get("names") or {}
    table = Table(title=f"{names.get('model', '')} on {names.get('data', '')}, {facts['weights']} weights")
    table.add_column("number", no_wrap=True)
    table.add_column("value", justify="right")
    for column in ("unit", "better", "beside", "images"):
        table.add_column(column)
    for number in numbers:
        beside = number.facts.get("baseline_value")
        beside = "" if beside is None else f"{beside:.4g} {number.facts.get('baseline', '')}"
        images = f"{number.facts.get('images', '?')} {number.facts.get('split', '')}"
        better = "up" if number.better == "higher" else "down"
        table.add_row(number.name, f"{number.value:.4g}", number.unit, better, beside, images)
    console.print(table)


def processor() -> str:
    """The machine's processor or accelerator, by name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def choose_device(name: str) -> str:
    if name == "auto":
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: torch cannot use it here; say device=cpu") from error
    return name


def output_folder(config: DictConfig) -> Path:
    """Where numbers and pictures go: RUN/evaluation, or `output`."""
    if config.output is not None:
        folder = Path(config.output)
    else:
        file = locate(config.checkpoint)
        folder = (file.parent.parent if file.parent.name == "checkpoints" else file.parent) / "evaluation"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): say output=FOLDER") from error
    return folder
