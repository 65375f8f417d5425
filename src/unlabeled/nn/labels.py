"""The classes of images as conditional methods read them: one-hot, without a wait for the device."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.errors import UserError


class Labels(nn.Module):
    """Classes y (B,) -> one-hot (B, K), float32. Classes that are unknown, -1, are refused: see `refuse`."""

    unknown: Tensor

    def __init__(
        self,
        who: str,  # learns from them: the first words of a complaint
        classes: int | None,  # K
    ):
        super().__init__()
        if not classes:
            raise UserError(
                f"{who} learns from class labels, and this data has none: say data.classes=N where its folders are "
                "classes, or take data=digits or model=dcgan"
            )
        self.who = who
        self.classes = classes
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
                "and data.labels too"
            )

    def of(self, y: Tensor) -> Tensor:
        """Known classes (n,) -> (n, K)."""
        return one_hot(y, self.classes).float()

    def draw(self, n: int) -> Tensor:
        """n classes, each as likely as another: (n, K)."""
        return self.of(torch.randint(self.classes, (n,), device=self.unknown.device))
