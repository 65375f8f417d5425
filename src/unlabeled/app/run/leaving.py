"""How a process that talks with others ends."""

import atexit
import os
import sys
from typing import NoReturn


def exit_process(status: int) -> NoReturn:
    """End this process: what was registered for its end is done and what was said is out, then it goes at once.

    Taken apart as usual, it may abort: a thread of gloo that lets a tensor go meanwhile wants the interpreter
    ("terminate called without an active exception").
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
