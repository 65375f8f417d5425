"""The classes of images as conditional methods read them: one-hot, without a wait for the device."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.errors import UserError


class Classes(nn.Module):
    """K classes, and which of them training images have: a method that draws a class never draws another."""

    present: Tensor  # (K,) bool

    def __init__(self, classes: int):  # K
        super().__init__()
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        self._seen = None
        state_dict.setdefault(f"{prefix}present", self.present)  # checkpoints of earlier versions have none
        super()._load_from_state_dict(state_dict, prefix, *others)


class Labels(Classes):
    """Classes y (B,) -> one-hot (B, K), float32. Classes that are unknown, -1, are refused: see `refuse`."""

    unknown: Tensor

    def __init__(
        self,
        who: str,  # learns from them: the first words of a complaint
        classes: int | None,  # K
    ):
        if not classes:
            raise UserError(
                f"{who} learns from class labels, and this data has none: put its images into "
                "a folder for each class, or take data=digits or model=dcgan"
            )
        super().__init__(classes)
        self.who = who
        self.first = True
        self.register_buffer("unknown", torch.zeros((), dtype=torch.int64), persistent=False)  # images, so far

    def forward(self, y: Tensor) -> Tensor:
        """Looks at once at the first batch only; after that who calls says when, `refuse`, may wait for the device."""
        if y.ndim != 1:
            raise UserError(f"{self.who} learns from one class an image, and this data has attributes")
        self.unknown += (y < 0).sum()
        if self.first:
            self.refuse()
        self.first = False
        return self.of(y.clamp(min=0))

    def refuse(self) -> None:
        if self.unknown:
            raise UserError(
                f"{self.who} learns from images that have one class each, and some here have none: leave them out, "
                "and data.num_labels too"
            )

    def of(self, y: Tensor) -> Tensor:
        """Known classes (n,) -> (n, K)."""
        return one_hot(y, self.classes).float()

    def draw(self, n: int) -> Tensor:
        """n classes that training images have, each as likely as another: (n, K)."""
        return self.of(self.pick(n))
