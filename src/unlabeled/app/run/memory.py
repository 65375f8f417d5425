"""Freed memory stays with the process."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> None:
    """Where the C library is glibc: give freed blocks to the next batch, not to the system.

    Otherwise every block of more than 32 MB goes back at once, and each batch's activations cost fresh pages: a
    matrix product of 5,000 x 200 by 200 x 784 takes more than twice its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**30)
