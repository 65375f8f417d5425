"""torchrun without its tracebacks: python -m unlabeled.distributed.torchrun ARGUMENTS."""

import ctypes
import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    logging.disable(logging.ERROR)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: stop, and save, when the parent dies
    try:
        run.main(sys.argv[1:])
    except SignalException as asked:
        sys.exit(128 + asked.sigval)
    except ChildFailedError as failed:
        stopped = {failure.exitcode - 128 for failure in failed.failures.values()} & {signal.SIGINT, signal.SIGTERM}
        for rank, failure in failed.failures.items():
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:  # it could not print that itself
                print(f"process {rank} was killed by {signal.Signals(-failure.exitcode).name}", file=sys.stderr)
        sys.exit(128 + min(stopped) if stopped else 1)


if __name__ == "__main__":
    main()
