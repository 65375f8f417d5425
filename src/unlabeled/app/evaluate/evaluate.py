"""One evaluation of a checkpoint: its numbers, pictures and report page."""

import csv
import json
import os
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from PIL.Image import Image
from rich.console import Console

from unlabeled.app.cli import log, signals
from unlabeled.app.cli.main import explain
from unlabeled.app.cli.terminal import show as show_tables
from unlabeled.app.cli.terminal import tables
from unlabeled.app.cli.types import check_values
from unlabeled.app.evaluate.provenance import describe
from unlabeled.app.evaluate.publish import publish
from unlabeled.app.evaluate.target import EvaluationTarget, checkpoint_target, folder_target
from unlabeled.app.run.build import silence_lightning
from unlabeled.app.run.checkpoint import locate
from unlabeled.app.run.folders import new_folder, timestamp
from unlabeled.app.run.plan import resolve, result_of
from unlabeled.app.run.secrets import redact
from unlabeled.distributed.processes import launch
from unlabeled.errors import UserError, error_line
from unlabeled.evaluation.figures import captions
from unlabeled.evaluation.figures.drawing import FigureSet, curves_svg, titled
from unlabeled.evaluation.figures.evaluation import draw_figures
from unlabeled.evaluation.metric import Evaluator, Metric
from unlabeled.evaluation.ranks import Elsewhere, Ranks
from unlabeled.evaluation.report.page import render
from unlabeled.evaluation.report.verdicts import ARROWS
from unlabeled.evaluation.study import Study
from unlabeled.files import finite_json, write, write_json
from unlabeled.seeding import seed_noise


def evaluate(config: DictConfig) -> None:
    """Measure a checkpoint, or a folder of samples; writes evaluation.json and pictures, prints a table."""
    signals.stop_cleanly()
    hydra = HydraConfig.get()
    given = list(hydra.overrides.task)
    job: dict[str, Any] = {"name": " ".join(given)}
    try:
        check_values(config, given)
        if (config.samples is None) == (config.checkpoint is None):
            raise UserError("say checkpoint=RUN (see --help), or samples=FOLDER reference=FOLDER")
        if config.samples is not None and config.reference is None:
            raise UserError("say reference=FOLDER too: the real images that the samples are held against")
        check_unused_keys(given, "checkpoint" if config.samples is None else "samples")
        folder = output_folder(config)
        log.write_to(folder, anew=True)
        plain = resolve(config) | {"overrides": given}
        if config.devices > 1:
            run_processes(plain, folder)
        else:
            measure(plain, folder, Ranks())
        content = json.loads((folder / "evaluation.json").read_text())
        job |= {"folder": str(folder), "evaluation": content}
        if failed := content.get("failed"):
            raise UserError(f"{failure_line(failed)} (the other numbers are written)")
    except Exception as error:
        job["error"] = explain(error)
        raise
    finally:
        if hydra.mode == RunMode.MULTIRUN:  # for the table at its end
            Path(hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
            write_json(Path(hydra.sweep.dir) / f"{hydra.job.num}.json", job)


UNUSED = {"checkpoint": ("size", "channels", "reference", "data.batch_size"), "samples": ("weights",)}
FOLDER_KEYS = {
    "data": ("root", "packed"),
    "evaluation": ("extractor", "extractor_weights"),
}  # keys that apply to folders of samples


def check_unused_keys(words: list[str], mode: str) -> None:
    """Refuse keys without effect: those of the other mode, and those of metrics that folders do not have."""
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        group, _, below = key.partition(".")
        used = FOLDER_KEYS.get(group.partition("@")[0], (below,)) if mode == "samples" else (below,)
        if value != "null" and (key in UNUSED[mode] or below not in used):
            rest = f"; of {group} it takes {' and '.join(used)} alone" if below not in used else ""
            raise UserError(f"{word}: {key} has no effect with {mode}=...{rest}: leave it out")


def run_processes(config: dict[str, Any], folder: Path) -> None:
    """`measure`, by several processes."""
    file = folder / "evaluate.yaml"
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    module = "unlabeled.app.evaluate.worker"
    try:
        launch(config["devices"], module, str(file), str(folder), what="the evaluation", stopped="stopped")
    finally:
        file.unlink()


@torch.no_grad()
def measure(config: dict[str, Any], folder: Path, ranks: Ranks) -> None:
    """Measure, as one of `ranks.world` processes; the main one writes and prints.

    evaluation.json is written after each evaluator, before anything is drawn. An evaluator that fails is named there,
    and the others go on.
    """
    silence_lightning()
    device = choose_device(config["device"])
    subject = (checkpoint_target if config["checkpoint"] else folder_target)(config, device, ranks)
    study = subject.study
    found: dict[str, list[Metric]] = {}
    failed: dict[str, str] = {}
    due = {name: evaluator for name, evaluator in subject.evaluators.items() if evaluator.applies(study)}
    for i, (name, evaluator) in enumerate(due.items(), 1):
        seed_noise(config["seed"])
        numbers, problem = ranks.together(partial(measure_one, evaluator, study))
        if problem:
            failed[name] = problem
        else:
            found[name] = numbers or []
        if ranks.is_main and found:
            save(folder, config, subject, found, failed, [*list(due)[i:], "pictures"])
    if failed and not found:
        raise UserError(failure_line(failed))
    pictures = draw_figures(study, config["evaluation"]["pictures"])
    if ranks.is_main:
        curves = save_pictures(folder, subject, pictures)
        content = save(folder, config, subject, found, failed)
        write(folder / "report.html", render(content, pictures, curves))
        publish(subject.home, content, folder / "report.html")
        show(folder, subject, [number for several in found.values() for number in several], list(pictures))


def failure_line(failed: dict[str, str]) -> str:
    """Which evaluators failed, and why, in one line."""
    names: dict[str, list[str]] = {}
    for name, why in failed.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(each)} failed: {why}" for why, each in names.items())


def measure_one(evaluator: Evaluator, study: Study) -> list[Metric]:
    """An evaluator's numbers. A bug prints its traceback."""
    try:
        return evaluator.measure(study)
    except (UserError, Elsewhere):
        raise
    except Exception:
        traceback.print_exc()
        raise


def save(
    folder: Path,
    config: dict[str, Any],
    subject: EvaluationTarget,
    found: dict[str, list[Metric]],
    failed: dict[str, str],  # evaluator -> why
    unfinished: Sequence[str] = (),  # evaluators and pictures that are still to come
) -> dict[str, Any]:
    """evaluation.json, and its content."""
    content: dict[str, Any] = redact(describe(config, subject, found))
    content |= {"failed": failed} if failed else {}
    content |= {"unfinished": list(unfinished)} if unfinished else {}
    write_json(folder / "evaluation.json", content)
    return finite_json(content)


def save_pictures(folder: Path, subject: EvaluationTarget, pictures: FigureSet) -> str:
    """Write the pictures, and return the run's curves as an <svg>. A failure is a note."""
    metrics, drawn = subject.home / "metrics.csv", list(pictures.items())
    for name, picture in drawn:
        title = f"{captions.title(name)}: {subject.title}"
        pictures.draw(name, partial(save_titled, picture, title, folder / f"{name}.png"))
    for name in pictures.failed:
        (folder / f"{name}.png").unlink(missing_ok=True)  # an earlier evaluation's
    curves = ""
    try:
        if metrics.is_file():
            with open(metrics, newline="") as file:
                curves = curves_svg(list(csv.DictReader(file)), result_of(subject.home).get("monitor"))
    except Exception as error:
        pictures.failed["curves"] = error_line(error)
    subject.study.notes.extend(pictures.notes())
    return curves


def save_titled(picture: Image, title: str, file: Path) -> Image:
    """The picture with its title on top, also as a file."""
    page = titled(picture, title)
    page.save(file)
    return page


def show(folder: Path, subject: EvaluationTarget, numbers: list[Metric], pictures: list[str]) -> None:
    """Print the table, the notes, and the paths of the results."""
    console = Console(highlight=False)
    if numbers:
        console.print(subject.title, soft_wrap=True, markup=False)
        show_tables(console, tables(*number_table(numbers), console.width, wraps=(2,), left=(0, 1, 2)))
    else:
        console.print("no number of this version applies to what this method can do")
    eyes = subject.study.extractor
    if eyes is not None and "accuracy" in eyes.facts and any(eyes.name in number.name for number in numbers):
        right, common = (f"{eyes.facts[key]:.1f} %" for key in ("accuracy", "accuracy_of_the_most_frequent_class"))
        line = f"{eyes.name} is right on {right} of {eyes.facts['accuracy_on']} (the most frequent class has {common})"
        console.print(f"extractor {line}", soft_wrap=True, markup=False)
    for note in subject.study.notes:
        console.print(f"note      {note}", soft_wrap=True, markup=False)
    console.print(f"numbers   {folder / 'evaluation.json'}", soft_wrap=True)
    if pictures:
        console.print(f"pictures  {folder} ({', '.join(pictures)})", soft_wrap=True)
    console.print(f"page      {folder / 'report.html'}", soft_wrap=True)


def number_table(numbers: list[Metric]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of the table: a number's value, an arrow in the better direction, and its baseline."""
    rows = []
    for number in numbers:
        beside = number.facts.get("baseline_value")
        beside = "" if beside is None else f"{beside:.4g} {number.facts.get('baseline', '')}"
        value = f"{ARROWS[number.better]} {number.value:.4g} {number.unit}".strip()
        rows.append([number.name, value, beside, str(number.facts.get("images", ""))])
    return ["number", "value", "beside", "of"], rows


def choose_device(name: str) -> str:
    if name == "auto":
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: torch cannot use it here; say device=cpu") from error
    return name


def output_folder(config: DictConfig) -> Path:
    """The folder of numbers and pictures: RUN/evaluation, or `output`; for folders of samples a new one in outputs/."""
    if config.output is not None:
        folder = Path(config.output)
    elif config.checkpoint is None:
        return new_folder(Path("outputs") / "evaluations", f"{Path(config.samples).name}-{timestamp()}")
    else:
        file = locate(config.checkpoint)
        folder = (file.parent.parent if file.parent.name == "checkpoints" else file.parent) / "evaluation"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): say output=FOLDER") from error
    return folder
