"""Figure of the filters of a network's first layer."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn.functional import interpolate

MOST = 64  # filters of a picture: the first ones


def filters(
    network: nn.Module,
    shape: Sequence[int],  # (C, H, W) of its input images
) -> dict[str, tuple[Tensor, list[str]]]:
    """{"filters": (images (n, C, H, W), captions)} of the first layer, for DrawsFigures; {} where it has none.

    Of a linear layer the weights of each unit, of a convolution each kernel, enlarged to the image's size. 0 is the
    middle grey, and each filter as strong as [-1, 1] allows; but those under a tenth of the strongest stay pale, as
    they are probably unused.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            break
    else:
        return {}
    weight = layer.weight.detach()[:MOST].float()
    if weight[0].numel() != prod(shape) and (isinstance(layer, nn.Linear) or weight.shape[1] != shape[0]):
        return {}
    strength = weight.flatten(1).abs().amax(1)
    strength = strength.clamp(min=max(float(strength.max()) / 10, 1e-12))
    weight = weight / strength.view(-1, *[1] * (weight.ndim - 1))
    if isinstance(layer, nn.Linear):
        images = weight.unflatten(1, tuple(shape))
    else:
        images = interpolate(weight, tuple(shape[1:]), mode="nearest")
    return {"filters": (images, [str(i) for i in range(1, len(images) + 1)])}
