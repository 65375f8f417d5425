"""Pictures during training, in the run folder and in loggers that show images."""

import sys
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.utilities import move_data_to_device
from PIL.Image import Image

from unlabeled.callbacks.trainer import data_of, is_ending
from unlabeled.capabilities import Samples
from unlabeled.evaluation.figures import captions
from unlabeled.evaluation.figures.drawing import FigureSet, grid, titled
from unlabeled.evaluation.figures.points import strip
from unlabeled.evaluation.kinds import kind_of
from unlabeled.loggers.actions import picture, table
from unlabeled.seeding import seed_noise


def print_notes(figures: FigureSet, before: set[str]) -> set[str]:
    """Print which pictures could not be drawn, each line once a run; returns the lines printed so far."""
    for note in figures.notes():
        if note not in before:
            print(f"note: {note}", file=sys.stderr, flush=True)
    return before | set(figures.notes())


class Pictures(Callback):
    """Draws pictures of the method on validation examples after validation, at most `count` times over the run.

    FOLDER/samples.png, ... are the latest; FOLDER/history/samples/batch-000100.png, ... all. Examples and noise are the
    same each time, so that pictures compare; the latest ones, and those for loggers, have a title. For points they show
    the generator's density, and FOLDER/density_over_time.png has ten of them side by side.
    """

    def __init__(self, folder: str, count: int = 10, images: int = 64):
        self.folder = Path(folder)
        self.count = count
        self.images = images
        self._drawn = 0
        self._printed: set[str] = set()

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        done = trainer.fit_loop.total_batch_idx + 1
        share = int(method.progress * self.count)
        if share < self._drawn and not is_ending(trainer):
            return
        self._drawn = share + 1
        seed_noise(0)
        data = data_of(trainer)
        batch = move_data_to_device(next(iter(data.loader("val", self.images))), method.device)
        drawn = kind_of(data.batch).figures(method, batch, data)
        for name, image in drawn.items():
            history = self.folder / "history" / name
            history.mkdir(parents=True, exist_ok=True)
            image.save(history / f"batch-{done:06d}.png")
            image = titled(image, f"{captions.title(name)}: {self.folder.parent.name}, batch {done:,}")
            image.save(self.folder / f"{name}.png")
            for logger in trainer.loggers:
                picture(logger, name, image, done)
        if "density" in drawn:
            frames = sorted((self.folder / "history" / "density").glob("batch-*.png"))
            drawn.draw("density_over_time", lambda: strip(frames))
        if "density_over_time" in drawn:
            drawn["density_over_time"].save(self.folder / "density_over_time.png")
        self._printed = print_notes(drawn, self._printed)

    def state_dict(self) -> dict[str, int]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._drawn = state["drawn"]


class NearestImages(Callback):
    """Logs, at the end, a table of samples, the training images nearest to them, and their relative distances.

    Distance 1 is the usual distance of a validation image to its nearest. FOLDER/nearest_training_images.png shows
    some.
    """

    def __init__(self, folder: str, searched: int = 50_000):
        self.folder = Path(folder)
        self.searched = searched  # training images at most; 0: no table

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        is_last = is_ending(trainer) and trainer.is_global_zero and not trainer.sanity_checking
        data = data_of(trainer)
        kind = kind_of(data.batch)
        if not (is_last and self.searched and isinstance(method, Samples) and kind.single and kind.visual):
            return
        from unlabeled.evaluation.figures.evaluation import copies, nearest_training  # not imported at start-up
        from unlabeled.evaluation.study import Study

        figures, held = FigureSet(), []
        done = trainer.fit_loop.total_batch_idx + 1

        def make() -> Image:
            held.append(copies(Study(method, data, split="val", codes=self.searched)))
            title = f"nearest training images: {self.folder.parent.name}, batch {done:,}"
            return titled(nearest_training(held[0]), title)

        figures.draw("nearest_training_images", make)
        print_notes(figures, set())
        if not figures:
            return
        (found,), (image,) = held, figures.values()
        self.folder.mkdir(parents=True, exist_ok=True)
        image.save(self.folder / "nearest_training_images.png")
        rows = [
            [grid(sample[None], 1), grid(near[:1], 1), round(float(ratio[0]), 4)]
            for sample, near, ratio in zip(found.samples, found.images, found.ratio, strict=True)
        ]
        for logger in trainer.loggers:
            table(logger, "nearest_training_images", ["sample", "nearest", "distance"], rows, image, done)
