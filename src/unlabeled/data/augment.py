"""Augmentation of training batches."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.batches import Images, Paired, Unpaired

Batch = Images | Paired | Unpaired


class CropFlip:
    """Enlarges images, crops them back at random and mirrors half of them, each image by its own draw.

    Isola et al. 2017, section 6.2: 256x256 is resized to 286x286 and cropped to 256x256. So arrays keep the
    size that evaluation reads. The two images of a pair share one draw; the two domains of an unpaired batch have
    separate draws.
    """

    def __init__(self, scale: float):  # 1.117 makes 286 of 256, and 143 of 128
        self.scale = scale

    def __call__(self, batch: Batch) -> Batch:
        if isinstance(batch, Images):
            return Images(self.move(batch.x, *self.draw(batch.x)), batch.y)
        if isinstance(batch, Paired):
            place = self.draw(batch.a)
            return Paired(self.move(batch.a, *place), self.move(batch.b, *place))
        return Unpaired(self.move(batch.a, *self.draw(batch.a)), self.move(batch.b, *self.draw(batch.b)))

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, H) and columns (B, W) of the enlarged images, drawn on the CPU whatever the device."""
        n, _, height, width = x.shape
        tall, wide = round(height * self.scale), round(width * self.scale)
        rows = torch.randint(tall - height + 1, (n, 1)) + torch.arange(height)
        columns = torch.randint(wide - width + 1, (n, 1)) + torch.arange(width)
        columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
        return rows.to(x.device), columns.to(x.device)

    def move(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        size = (round(height * self.scale), round(width * self.scale))
        large = interpolate(x, size, mode="bicubic").clamp_(-1, 1)  # bicubic overshoots
        large = large.gather(2, rows[:, None, :, None].expand(n, channels, height, size[1]))
        return large.gather(3, columns[:, None, None, :].expand(n, channels, height, width))
