"""The process that trains: its memory, and its end."""

import atexit
import ctypes
import os
import sys
from typing import NoReturn

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


def exit_process(status: int) -> NoReturn:
    """End this process at once, after its exit handlers and with its output flushed.

    A usual exit may abort: a thread of gloo that frees a tensor meanwhile needs the interpreter
    ("terminate called without an active exception").
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
