"""Python programs in processes of their own, forked from one that has imported what takes seconds."""

import os
import resource
import runpy
import signal
import sys
import tempfile
from pathlib import Path

from tests.kills import FORKS

ROOT = Path(__file__).parents[1]


def _become(words: tuple[str, ...], cwd: str, env: dict[str, str], screens: list[str], room: int | None) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for stream, path in enumerate(screens, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    if room:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    name, *rest = words
    if name == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif name == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [name, *rest]
        sys.path.insert(0, str(Path(name).resolve().parent))
        runpy.run_path(name, run_name="__main__")


class Popen:
    """As subprocess.Popen of `python WORDS`: a script, -m MODULE or -c CODE, and its words."""

    def __init__(
        self, *words: str, cwd: str | Path = ROOT, env: dict[str, str] | None = None, room: int | None = None
    ) -> None:
        """room: bytes that a file may have."""
        self._folder = tempfile.TemporaryDirectory()
        self._screens = [Path(self._folder.name) / name for name in ("out", "err")]
        for path in self._screens:
            path.touch()
        screens = [str(path) for path in self._screens]
        given = (tuple(map(str, words)), str(cwd), dict(env or os.environ), screens, room)
        self._process = FORKS.Process(target=_become, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = lambda self: self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(self._screens[1].read_text())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = (path.read_text() for path in self._screens)
        return out, err

    def send_signal(self, number: int) -> None:
        assert self._process.pid
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)
