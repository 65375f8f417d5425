"""Seeds of noise as functions of (seed, batch, rank), so that resuming needs no saved generator state."""

import torch


def mix(*numbers: int) -> int:
    """A 63-bit seed from several numbers, well spread (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def seed_noise(*numbers: int) -> None:
    """Seed torch's generators from `numbers`; 1 µs on the CPU, where `torch.manual_seed` takes hundreds."""
    seed = mix(*numbers)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # is_available asks the driver each time under Lightning: 150 µs
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
