"""RUN/log.txt: what the program printed, from its start to its end. Imports nothing heavy.

A line is written when it is whole, and without passwords; of what a progress bar draws over itself, the last state
alone is one. Where a run has several processes, each writes its own lines.
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
    """Lines that wait for a file, and then the file."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.file: IO[str] | None = None

    def take(self, line: str) -> None:
        self.waiting.append(redact(line))
        self.flush()

    def flush(self) -> None:
        if self.file is not None:
            with suppress(OSError, ValueError):  # a full disk ends no run by its log
                self.file.write("".join(f"{each}\n" for each in self.waiting))
            self.waiting.clear()

    def write_to(self, folder: Path, anew: bool = False, head: bool = True) -> None:
        """Write to FOLDER/log.txt from now on, first what was said before; behind what is there, unless `anew`."""
        if self.file is not None:
            return
        with suppress(OSError):
            mode = "w" if anew else "a"
            self.file = open(folder / NAME, mode, 1, encoding="utf-8", errors="replace")  # noqa: SIM115
            if head:
                self.waiting.insert(0, f"--- {datetime.now().astimezone().isoformat(' ', 'seconds')}")
            self.flush()

    def close(self) -> None:
        if self.file is not None:
            with suppress(OSError):
                self.file.close()


class Tee:
    """A stream whose whole lines the log gets too; in all else the stream itself."""

    def __init__(self, stream: Any, log: Log):
        self.stream, self.log, self.begun = stream, log, ""

    def write(self, text: str) -> int:
        done = self.stream.write(text)
        *lines, begun = (self.begun + text).split("\n")
        for line in lines:
            self.log.take(visible(line))
        told = begun.rstrip("\r")
        self.begun = begun[told.rfind("\r") + 1 :]
        return done

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def visible(line: str) -> str:
    """What of a line is to be seen in the end."""
    return STYLE.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()


_log = Log()  # of the job at hand


def write_to(folder: Path, anew: bool = False, head: bool = True) -> None:
    """The job's folder is known: its log goes there. head: with the time in front, as the first process writes it."""
    _log.write_to(folder, anew, head)


def size(folder: Path) -> int:
    """Bytes of a folder's log."""
    return (folder / NAME).stat().st_size if (folder / NAME).is_file() else 0


@contextmanager
def recorded() -> Iterator[None]:
    """What a job prints is for its log."""
    global _log
    _log, streams = Log(), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = Tee(sys.stdout, _log), Tee(sys.stderr, _log)
    try:
        yield
    except signals.Stopped:
        _log.take("stopped")  # it was said past the streams
        raise
    except UserError as error:
        _log.take(f"error: {' '.join(str(error).split())}")
        raise
    except Exception:
        for line in traceback.format_exc().splitlines():  # nobody catches it: it is printed by the interpreter
            _log.take(line)
        raise
    finally:
        sys.stdout, sys.stderr = streams
        _log.close()
