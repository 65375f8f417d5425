"""RUN/log.txt: everything the program prints. Imports nothing heavy.

A line is written when it is complete, with passwords removed. Of a progress bar, which overwrites itself, only the last
state is written. Each process of a run writes its own lines.
"""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from unlabeled.app.cli import signals
from unlabeled.app.run.secrets import redact
from unlabeled.errors import UserError

NAME = "log.txt"
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # a terminal's colours and movements


class Log:
    """Lines kept until the file is known, and then the file."""

    def __init__(self) -> None:
        self.pending: list[str] = []
        self.file: IO[str] | None = None

    def add(self, line: str) -> None:
        self.pending.append(redact(line))
        self.flush()

    def flush(self) -> None:
        if self.file is not None:
            with suppress(OSError, ValueError):  # a full disk does not end a run because of its log
                self.file.write("".join(f"{each}\n" for each in self.pending))
            self.pending.clear()

    def write_to(self, folder: Path, anew: bool = False, head: bool = True) -> None:
        """Write to FOLDER/log.txt from now on, starting with the pending lines; append to the file unless `anew`."""
        if self.file is not None:
            return
        with suppress(OSError):
            mode = "w" if anew else "a"
            self.file = open(folder / NAME, mode, 1, encoding="utf-8", errors="replace")  # noqa: SIM115
            if head:
                self.pending.insert(0, f"--- {datetime.now().astimezone().isoformat(' ', 'seconds')}")
            self.flush()

    def close(self) -> None:
        if self.file is not None:
            with suppress(OSError):
                self.file.close()


class Tee:
    """A stream that also copies its complete lines into the log."""

    def __init__(self, stream: Any, log: Log):
        self.stream, self.log, self.partial = stream, log, ""

    def write(self, text: str) -> int:
        done = self.stream.write(text)
        *lines, partial = (self.partial + text).split("\n")
        for line in lines:
            self.log.add(visible(line))
        shown = partial.rstrip("\r")
        self.partial = partial[shown.rfind("\r") + 1 :]
        return done

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def visible(line: str) -> str:
    """What remains visible of a line that overwrites itself."""
    return STYLE.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()


_log = Log()  # of the current job


def write_to(folder: Path, anew: bool = False, head: bool = True) -> None:
    """Write the job's log to its folder from now on. head: begin with the time, as the first process does."""
    _log.write_to(folder, anew, head)


def size(folder: Path) -> int:
    """Size of a folder's log in bytes."""
    return (folder / NAME).stat().st_size if (folder / NAME).is_file() else 0


@contextmanager
def recorded() -> Iterator[None]:
    """Copy everything that a job prints into its log."""
    global _log
    _log, streams = Log(), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = Tee(sys.stdout, _log), Tee(sys.stderr, _log)
    try:
        yield
    except signals.Stopped:
        _log.add("stopped")  # it was printed without the streams
        raise
    except UserError as error:
        _log.add(f"error: {' '.join(str(error).split())}")
        raise
    except Exception:
        for line in traceback.format_exc().splitlines():  # the interpreter prints it, as nobody catches it
            _log.add(line)
        raise
    finally:
        sys.stdout, sys.stderr = streams
        _log.close()
