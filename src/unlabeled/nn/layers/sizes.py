"""Sides of repeatedly halved images."""

from unlabeled.errors import UserError


def sides(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """The sides of an image, halved (rounding up) while none falls below `smallest`, the full size first."""
    pyramid = [(height, width)]
    while min(-(-side // 2) for side in pyramid[-1]) >= smallest:
        pyramid.append((-(-pyramid[-1][0] // 2), -(-pyramid[-1][1] // 2)))
    if len(pyramid) == 1:
        raise UserError(
            f"images of {height}x{width} are too small to be halved: at least {2 * smallest - 1} pixels a side"
        )
    return pyramid


def halved(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """The sides of an image, and after each of `times` halvings (rounding up)."""
    if times < 1 or min(height, width) < 2**times:
        raise UserError(
            f"images of {height}x{width} cannot be halved {times} times: at least once, and sides of at least "
            f"{2 ** max(times, 1)} pixels; say another data.size"
        )
    found = [(height, width)]
    for _ in range(times):
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found
