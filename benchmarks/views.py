"""Random views per second: batched on the CPU against torchvision's pipeline of one PIL image at a time.

    OMP_NUM_THREADS=1 python benchmarks/views.py

Two views of each 32x32 colour image, SimCLR's augmentations for small images, then with blur; one thread, one
run. The aim is a ratio of at least 5.
"""

import time
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from unlabeled.batches import from_uint8
from unlabeled.nn.views import Views

SIDE, BATCH, SECONDS = 32, 256, 4.0


def torchvision_views(blur: float) -> Callable[[Image.Image], Tensor]:
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


def images_per_second(batch: Callable[[], object], images: int) -> float:
    """The best of several short rounds, so that a neighbour on the machine weighs little."""
    batch()
    best = 0.0
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        batch()
        best = max(best, images / (time.perf_counter() - start))
    return best


def main() -> None:
    torch.set_num_threads(1)
    levels = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in levels]
    for name, blur in (("crop, flip, jitter, grey", 0.0), ("the same, and blur", 0.5)):
        one_by_one = torchvision_views(blur)
        views = Views(blur=blur)

        def pil(transform: Callable = one_by_one) -> Tensor:
            return torch.stack([transform(picture) for picture in pictures for _ in range(2)])

        def batched(views: Views = views) -> Tensor:
            x = from_uint8(levels)
            return views(torch.cat([x, x]))

        slow, fast = images_per_second(pil, BATCH), images_per_second(batched, BATCH)
        print(f"{name}: torchvision {slow:,.0f} images/s, batched {fast:,.0f}, ratio {fast / slow:.1f}")


if __name__ == "__main__":
    main()
