"""Class labels of images, and checks of them that do not wait for the device in every batch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.errors import UserError
from unlabeled.nn.layers.ranks import sum_over_ranks


class Classes(nn.Module):
    """K classes, and which of them training images have: a method that draws a class never draws another."""

    present: Tensor  # (K,) bool

    def __init__(
        self,
        model: str,  # for error messages
        classes: int | None,  # K
    ):
        super().__init__()
        if not classes:
            raise UserError(
                f"{model} learns from class labels, and this data has none: put its images into a folder for each "
                "class, or take data=digits"
            )
        self.model = model
        self.classes = classes
        self.register_buffer("present", torch.ones(classes, dtype=torch.bool))
        self._seen: Tensor | None = None

    def restrict(self, classes: Tensor) -> None:
        """Training images have these classes (k,) and no others."""
        self.present.fill_(False)
        self.present[classes.to(self.present.device)] = True
        self._seen = None

    @property
    def seen(self) -> Tensor:
        """The classes that training images have: int64 (k,), ascending."""
        if self._seen is None or self._seen.device != self.present.device:
            self._seen = self.present.nonzero()[:, 0]  # waits for the device, once
        return self._seen

    def pick(self, n: int) -> Tensor:
        """n of these classes, each as likely as another: (n,)."""
        seen = self.seen
        return seen[torch.randint(len(seen), (n,), device=seen.device)]

    def one_hot(self, y: Tensor) -> Tensor:
        """Known classes (n,) -> (n, K), float32."""
        return one_hot(y, self.classes).float()

    def check_single(self, y: Tensor) -> None:
        """Refuse attributes, of which an image has several."""
        if y.ndim != 1:
            raise UserError(f"{self.model} learns from one class an image, and this data has attributes")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        self._seen = None
        state_dict.setdefault(f"{prefix}present", self.present)  # checkpoints of earlier versions have none
        super()._load_from_state_dict(state_dict, prefix, *others)


class Labels(Classes):
    """Classes y (B,) of images that all have one -> the same; -1, unknown, is refused in time: see `check`."""

    unknown: Tensor  # (), images without a class, so far

    def __init__(self, model: str, classes: int | None):
        super().__init__(model, classes)
        self.first = True
        self.register_buffer("unknown", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """Checks the first batch at once. Later ones are checked when `check` is called, since that waits."""
        self.check_single(y)
        self.unknown += (y < 0).sum()
        if self.first:
            self.check()
        self.first = False
        return y.clamp(min=0)

    def check(self) -> None:
        """Raise UserError, on all processes together, if an image had no class. Waits for the device."""
        if sum_over_ranks(self.unknown):
            raise UserError(
                f"{self.model} learns from images that have one class each, and some here have none: leave them out, "
                "and data.num_labels too"
            )


class PartialLabels(Classes):
    """Classes of images of which some have none, -1."""

    labelled: Tensor  # (), training images with a class, so far

    def __init__(self, model: str, classes: int | None):
        super().__init__(model, classes)
        self.register_buffer("labelled", torch.zeros((), dtype=torch.int64))

    def known(self, y: Tensor) -> Tensor:
        """Which of the classes y (B,) are known, (B,) bool; counts them in training."""
        self.check_single(y)
        known = y >= 0
        if self.training:
            self.labelled += known.sum()
        return known

    def check(self) -> None:
        """Raise UserError, on all processes together, if no training image had a class. Waits for the device."""
        if not sum_over_ranks(self.labelled):
            raise UserError(
                f"{self.model} learns from class labels, and no training image has one: put images into a folder for "
                "each class"
            )
