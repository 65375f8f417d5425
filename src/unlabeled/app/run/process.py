"""Memory and exit of the training process."""

import atexit
import ctypes
import os
import sys
from typing import NoReturn

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> None:
    """With glibc: keep freed blocks for the next batch instead of returning them to the system.

    Otherwise every block above 32 MB is returned at once, and each batch's activations need fresh pages: a matrix
    product of 5,000 x 200 by 200 x 784 takes more than twice as long.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**30)


def exit_process(status: int) -> NoReturn:
    """End this process after its exit handlers, with its output flushed.

    A normal exit may abort ("terminate called without an active exception"): a thread of gloo that frees a tensor
    needs the interpreter.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
