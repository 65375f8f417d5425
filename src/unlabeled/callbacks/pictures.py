"""Pictures in the run folder while training goes on, and in every logger that shows images."""

import sys
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.utilities import move_data_to_device

from unlabeled.capabilities import Samples
from unlabeled.evaluation.figures import captions
from unlabeled.evaluation.figures.drawing import FigureSet, grid, titled
from unlabeled.evaluation.figures.points import strip
from unlabeled.evaluation.kinds import kind_of
from unlabeled.loggers.actions import picture, table
from unlabeled.seeding import seed_noise


def told(figures: FigureSet, before: set[str]) -> set[str]:
    """Says which pictures could not be drawn, each line once in a run."""
    for note in figures.notes():
        if note not in before:
            print(f"note: {note}", file=sys.stderr, flush=True)
    return before | set(figures.notes())


class Pictures(Callback):
    """After validation, at most `count` times over the run: pictures of the method at work on validation images.

    FOLDER/samples.png, ... are the newest; FOLDER/history/samples/batch-000100.png, ... all. The same images and the
    same noise each time, so that pictures compare; the newest, and what loggers get, hold their title. Of data that
    are points, the density that the generator has come to, and FOLDER/density_over_time.png has ten of them side by
    side.
    """

    def __init__(self, folder: str, count: int = 10, images: int = 64):
        self.folder = Path(folder)
        self.count = count
        self.images = images
        self._drawn = 0
        self._told: set[str] = set()

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        done = trainer.fit_loop.total_batch_idx + 1
        share = int(method.progress * self.count)
        if share < self._drawn and not trainer.should_stop:
            return
        self._drawn = share + 1
        seed_noise(0)
        batch = next(iter(trainer.datamodule.loader("val", self.images)))  # type: ignore[attr-defined]
        batch = move_data_to_device(batch, method.device)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
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
        self._told = told(drawn, self._told)

    def state_dict(self) -> dict[str, int]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._drawn = state["drawn"]


class NearestImages(Callback):
    """At the end, of a method that samples: a table of its samples, the training images nearest to them, and how near.

    1: as near as validation images usually have their nearest. FOLDER/nearest_training_images.png shows some.
    """

    def __init__(self, folder: str, searched: int = 50_000):
        self.folder = Path(folder)
        self.searched = searched  # training images at most; 0: no table

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        over = trainer.should_stop and trainer.is_global_zero and not trainer.sanity_checking
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        kind = kind_of(data.batch)
        if not (over and self.searched and isinstance(method, Samples) and kind.single and kind.visual):
            return
        from unlabeled.evaluation.figures.evaluation import copies, nearest_training  # start-up need not wait for these
        from unlabeled.evaluation.study import Study

        figures, held = FigureSet(), []
        done = trainer.fit_loop.total_batch_idx + 1

        def make() -> Any:
            held.append(copies(Study(method, data, split="val", codes=self.searched)))
            title = f"nearest training images: {self.folder.parent.name}, batch {done:,}"
            return titled(nearest_training(held[0]), title)

        figures.draw("nearest_training_images", make)
        told(figures, set())
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
