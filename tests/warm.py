"""Python programs in processes of their own, forked from one that has imported what takes seconds."""

import atexit
import json
import multiprocessing
import os
import resource
import runpy
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
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


# An executable in place of sys.executable


@cache
def python() -> str:
    """The path of a `python` whose processes are warm, for programs that start processes themselves.

    It takes -m, -c or a script. torchrun starts its workers by it where PYTHON_EXEC is its path.
    """
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "server"))
    listener.listen()
    server = FORKS.Process(target=_serve, args=(listener,))
    server.start()
    listener.close()
    atexit.register(server.kill)
    command = [sys.executable, "-S", "-E", str(ROOT / "tests" / "stand_in.py"), str(folder / "server")]
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _serve(listener: socket.socket) -> None:
    os.setsid()  # Ctrl-C is not for this process
    listener.settimeout(2)
    parent = os.getppid()
    while os.getppid() == parent:
        with suppress(TimeoutError):
            connection, _ = listener.accept()
            multiprocessing.get_context("fork").Process(target=_watch, args=(connection,)).start()
            connection.close()


def _watch(connection: socket.socket) -> None:
    """Run the words of one stand-in, and kill the fork when the stand-in was killed."""
    connection.setblocking(True)
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    (*words,), cwd, env = json.loads(connection.makefile().readline())
    if words[0] == "-u":
        words.pop(0)
    fork = multiprocessing.get_context("fork").Process(target=_take_over, args=(connection, streams, words, cwd, env))
    fork.start()
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{fork.pid}\n".encode())
    threading.Thread(target=lambda: connection.recv(1) or fork.kill(), daemon=True).start()
    fork.join()
    with suppress(OSError):
        connection.sendall(f"{fork.exitcode}\n".encode())


def _take_over(connection: socket.socket, streams: list[int], words: list[str], cwd: str, env: dict[str, str]) -> None:
    connection.close()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _become(tuple(words), cwd, env, [], None)
