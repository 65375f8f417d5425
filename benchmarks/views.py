"""Two random views of each image of a batch: all at once, against torchvision's pipeline of one PIL image at a time."""

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.common import Row, row, timed, turns
from unlabeled.batches import from_uint8
from unlabeled.nn.augment.views import Views

SIDE, BATCH = 32, 256


def one_by_one(blur: float) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE, (0.08, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.GaussianBlur(5)], blur),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )


def rows(rounds: int) -> Iterator[Row]:
    levels = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in levels]
    for name, blur in (("crop, flip, jitter, grey", 0.0), ("the same, and blur", 0.5)):
        theirs, views = one_by_one(blur), Views(blur=blur)

        def pil(theirs: transforms.Compose = theirs) -> Tensor:
            return torch.stack([theirs(picture) for picture in pictures for _ in range(2)])

        def batched(views: Views = views) -> None:
            for _ in range(10):
                views(torch.cat([x := from_uint8(levels), x]))

        pairs = (
            (ours, type(ours)(*(10 * s for s in other))) for ours, other in turns(timed(batched), timed(pil), rounds)
        )
        yield row(
            "views", f"{name}, 32x32 RGB", "torchvision on PIL images", pairs, "cpu", BATCH * 2 * 10 / 1000, "ms a view"
        )
