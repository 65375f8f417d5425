"""Pictures in the run folder while training goes on, and in every logger that shows images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.pytorch.utilities import move_data_to_device

from unlabeled.evaluation.pictures import draw
from unlabeled.seeding import seed_noise


class Pictures(Callback):
    """After validation, at most `count` times over the run: pictures of the method at work on validation images.

    FOLDER/samples.png, ... are the newest; FOLDER/history/samples/batch-000100.png, ... all. The same images and the
    same noise each time, so that pictures compare.
    """

    def __init__(self, folder: str, count: int = 10, images: int = 64):
        self.folder = Path(folder)
        self.count = count
        self.images = images
        self._drawn = 0

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
        for name, picture in draw(method, batch).items():
            history = self.folder / "history" / name
            history.mkdir(parents=True, exist_ok=True)
            picture.save(history / f"batch-{done:06d}.png")
            picture.save(self.folder / f"{name}.png")
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):  # wandb
                    logger.log_image(name, [picture], step=None)
                elif hasattr(getattr(logger, "experiment", None), "add_image"):  # tensorboard
                    image = torch.from_numpy(np.asarray(picture).copy())
                    logger.experiment.add_image(name, image, done, dataformats="HWC")  # type: ignore[attr-defined]
