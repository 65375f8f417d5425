"""Accuracy after training end to end with labels, from a checkpoint's weights and from scratch."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from unlabeled.capabilities import Encodes
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.metrics.probe import balanced, classified, named
from unlabeled.evaluation.stats.linear import percent
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix, seed_noise


class Tuned(NamedTuple):
    """A network after its best epoch."""

    accuracy: float  # % of the scored split
    best: float  # % of val
    epoch: int  # 1 is the first


class FineTune:
    """Accuracy in % of `encode` and a linear layer after it, trained with labels by AdamW on a half cosine.

    The epoch that is best on val is scored, once. Baseline: the same from untrained weights.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "finetune_accuracy": Headline(50, "classes predicted after training end to end with labels"),
    }

    def __init__(
        self,
        views: Callable[[Tensor], Tensor],  # an augmentation of training images
        labels: Sequence[float] = (1.0,),  # shares of the labels; numbers above 1 count images
        epochs: int = 20,
        batches: int = 50,  # of an epoch at least: few images are used several times
        batch_size: int = 128,
        lr: float = 1e-3,  # at the first step; falls to 0
        weight_decay: float = 0.01,
    ):
        self.labels = list(labels)
        self.epochs, self.batches, self.batch_size = epochs, batches, batch_size
        self.lr, self.weight_decay = lr, weight_decay
        self.views = views
        if not self.labels or min(self.labels) <= 0 or min(epochs, batches, batch_size) < 1:
            raise UserError("finetune: labels must be above 0, and epochs, batches and batch_size at least 1")

    def applies(self, study: Study) -> bool:
        return isinstance(study.method, Encodes) and classified(study.data)

    def measure(self, study: Study) -> list[Metric]:
        if study.split != "test":
            raise UserError(f"evaluation.split={study.split}: fine-tuning learns on train and val: say test")
        if not study.is_main:
            return []
        shares = {share: self.rows(study, share) for share in self.labels}
        held_out = known(study.table("val"))
        if not len(held_out):
            raise UserError("fine-tuning chooses its epoch on labelled val images, and there are none")
        probed = copy.deepcopy(study.method).requires_grad_(True)
        with torch.enable_grad():
            h = probed.encode(study.table("val").batch(held_out[:2]).x.to(study.device))
        if not h.requires_grad:
            study.notes.append(f"no fine-tuning: {type(study.method).__name__}'s encode has no weights to train")
            return []
        return [self.number(study, share, rows) for share, rows in shares.items() if len(rows)]

    def rows(self, study: Study, share: float) -> Tensor:
        """The training images to learn from; none, and a note, if they are fewer than the classes."""
        table, classes = study.table("train"), study.classes
        rows = known(table)
        if share == 1:
            return rows
        y = labels_of(table)[rows]
        part = rows[balanced(y, share if share < 1 else min(1.0, share / len(rows)), classes, study.seed)]
        if not len(part):
            study.notes.append(f"no {name_of(share)}: less than one image for each of the {classes} classes")
        return part

    def number(self, study: Study, share: float, rows: Tensor) -> Metric:
        title = f"{name_of(share)}, from"
        ours = self.tune(study, copy.deepcopy(study.method), rows, f"{title} the checkpoint")
        facts = {
            "split": study.split,
            "images": len(known(study.table(study.split))),
            "train_images": len(rows),
            "epoch": ours.epoch,
            "epoch_chosen_on": f"{len(known(study.table('val')))} val images",
            "val_accuracy": ours.best,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "views": type(self.views).__name__,
            "seed": study.seed,
        }
        if study.untrained:
            scratch = self.tune(study, study.untrained(), rows, f"{title} scratch")
            facts |= {"baseline": "from scratch", "baseline_value": scratch.accuracy, "baseline_epoch": scratch.epoch}
        return Metric(name_of(share), ours.accuracy, "%", "higher", facts)

    def tune(self, study: Study, method: Any, rows: Tensor, title: str) -> Tuned:
        """Train `method` in place."""
        table, device = study.table("train"), study.device
        seed_noise(study.seed, 8)
        with torch.enable_grad():
            dimension = method.encode(table.batch(rows[:1]).x.to(device)).shape[1]
            head = nn.Linear(dimension, study.classes, device=device)
            network = nn.ModuleDict({"method": method.requires_grad_(True), "head": head})
            optimizer = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=self.weight_decay)
            batches = max(self.batches, len(rows) // self.batch_size)
            best, kept = Tuned(0.0, -1.0, 0), {}
            with tqdm(desc=title, total=self.epochs * batches, unit="batch", leave=False, dynamic_ncols=True) as bar:
                for epoch in range(self.epochs):
                    network.train()
                    for i, index in enumerate(self.order(rows, batches, mix(study.seed, 9, epoch))):
                        done = (epoch + i / batches) / self.epochs
                        for group in optimizer.param_groups:
                            group["lr"] = self.lr * (1 + math.cos(math.pi * done)) / 2
                        seed_noise(study.seed, 10, epoch, i)
                        batch = table.batch(index)
                        logits = head(method.encode(self.views(batch.x.to(device))))
                        optimizer.zero_grad()
                        cross_entropy(logits, batch.y.to(device)).backward()
                        optimizer.step()
                        bar.update()
                    reached = accuracy(study, "val", network)
                    if reached > best.best:
                        best = Tuned(0.0, reached, epoch + 1)
                        kept = copy.deepcopy(network.state_dict())
        network.load_state_dict(kept)
        return best._replace(accuracy=accuracy(study, study.split, network))

    def order(self, rows: Tensor, batches: int, seed: int) -> tuple[Tensor, ...]:
        """`batches` full batches of `rows`, in a new random order for each pass."""
        generator = torch.Generator().manual_seed(seed)
        rounds = math.ceil(batches * self.batch_size / len(rows))
        index = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])
        return index[: batches * self.batch_size].split(self.batch_size)


@torch.no_grad()
def accuracy(study: Study, split: str, network: nn.ModuleDict) -> float:
    """% of a split's labelled images."""
    network.eval()
    table = study.table(split)
    right = []
    for index in known(table).split(study.block):
        batch = table.batch(index)
        logits = network["head"](network["method"].encode(batch.x.to(study.device)))  # type: ignore[operator]
        right.append(logits.argmax(1).cpu() == batch.y.cpu())
    return percent(torch.cat(right))


def labels_of(table: Any) -> Tensor:
    return table.labels.cpu()[table.rows]


def known(table: Any) -> Tensor:
    """The rows of a table whose class is known."""
    return (labels_of(table) >= 0).nonzero()[:, 0]


def name_of(share: float) -> str:
    return "finetune_accuracy" + (named(share) if share <= 1 else f"_{share:g}_labels")
