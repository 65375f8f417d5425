"""Ctrl-C and SIGTERM: one line, and status 130 or 143, at every moment of the program.

Imports next to nothing: what comes before `listen` is not covered.
"""

import _signal as signal  # `signal` itself imports more
import _thread
import os
import sys
import time

NUMBERS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10  # seconds to put away what is half made


class Stopped(SystemExit):
    """The program was asked to stop, and has said so."""


class _Asked:
    number = 0  # of the signal
    process = 0  # who listens: not its forks


def listen() -> None:
    """From here on a signal ends the program at once: while it imports and composes, nothing is half made.

    An exception would not do: who imports a module may swallow it, or make another one of it.
    """
    _Asked.number, _Asked.process = 0, os.getpid()
    for number in NUMBERS:
        signal.signal(number, exit_at_once)


def stop_cleanly() -> None:
    """From here on what is half made is put away first. Does nothing where another program than ours listens."""
    for number in NUMBERS:
        if signal.getsignal(number) is exit_at_once:
            signal.signal(number, raise_stopped)


class Listening:
    """`listen`, and afterwards whoever listened before."""

    def __enter__(self) -> None:
        self.before = {number: signal.getsignal(number) for number in NUMBERS}
        self.hook = sys.unraisablehook
        listen()

    def __exit__(self, *_: object) -> None:
        _Asked.number, sys.unraisablehook = 0, self.hook
        for number, listener in self.before.items():
            signal.signal(number, listener)


def reraise() -> None:
    """Raise Stopped again where somebody has made another exception of it."""
    if _Asked.number:
        raise Stopped(128 + _Asked.number) from None


def exit_at_once(number: int, frame: object) -> None:
    _print_stopped()
    _exit(number)


def raise_stopped(number: int, frame: object) -> None:
    """Raise Stopped. A second signal, or PATIENCE seconds, end the program as it is."""
    if _Asked.number or os.getpid() != _Asked.process:
        _exit(number)
    _Asked.number = number
    _print_stopped()
    sys.unraisablehook = lambda _: None  # it may be raised where nobody can catch it
    _thread.start_new_thread(_wait, (number,))  # not a Timer: the signal may have come amid threading's own work
    raise Stopped(128 + number)


def _wait(number: int) -> None:
    time.sleep(PATIENCE)
    if _Asked.number:
        _exit(number)


def _print_stopped() -> None:
    """Not by `print`, amid which the signal may have come."""
    if os.getpid() == _Asked.process:
        try:  # noqa: SIM105
            os.write(2, b"stopped\n")
        except OSError:
            pass


def _exit(number: int) -> None:
    if os.getpid() == _Asked.process:
        try:  # noqa: SIM105
            sys.stdout.flush()
        except Exception:
            pass
    os._exit(128 + number)
