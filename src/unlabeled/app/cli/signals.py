"""Handlers of Ctrl-C and SIGTERM: one line and status 130 or 143, at every moment of the program.

Imports as little as possible, since nothing is handled before `listen`.
"""

import _signal as signal  # `signal` itself imports more
import _thread
import os
import sys
import time

NUMBERS = (signal.SIGINT, signal.SIGTERM)
TIMEOUT = 10  # seconds for cleaning up unfinished files


class Stopped(SystemExit):
    """The program was asked to stop, and has printed that."""


class _Asked:
    number = 0  # of the signal
    process = 0  # the process that listens; its forks do not


def listen() -> None:
    """From here on a signal ends the program at once: imports and composition leave nothing unfinished.

    An exception would not do: code that imports a module may swallow or replace it.
    """
    _Asked.number, _Asked.process = 0, os.getpid()
    for number in NUMBERS:
        signal.signal(number, exit_at_once)


def stop_cleanly() -> None:
    """From here on unfinished files are removed first. Does nothing where another program handles the signals."""
    for number in NUMBERS:
        if signal.getsignal(number) is exit_at_once:
            signal.signal(number, raise_stopped)


class Listening:
    """`listen` within a block, and the former handlers after it."""

    def __enter__(self) -> None:
        self.before = {number: signal.getsignal(number) for number in NUMBERS}
        self.hook = sys.unraisablehook
        listen()

    def __exit__(self, *_: object) -> None:
        _Asked.number, sys.unraisablehook = 0, self.hook
        for number, listener in self.before.items():
            signal.signal(number, listener)


def reraise() -> None:
    """Raise Stopped again where other code has replaced it by its own exception."""
    if _Asked.number:
        raise Stopped(128 + _Asked.number) from None


def exit_at_once(number: int, frame: object) -> None:
    _print_stopped()
    _exit(number)


def raise_stopped(number: int, frame: object) -> None:
    """Raise Stopped. A second signal, or TIMEOUT seconds, end the program as it is."""
    if _Asked.number or os.getpid() != _Asked.process:
        _exit(number)
    _Asked.number = number
    _print_stopped()
    sys.unraisablehook = lambda _: None  # Stopped may be raised where no code can catch it
    _thread.start_new_thread(_wait, (number,))  # no Timer: the signal may have interrupted threading itself
    raise Stopped(128 + number)


def _wait(number: int) -> None:
    time.sleep(TIMEOUT)
    if _Asked.number:
        _exit(number)


def _print_stopped() -> None:
    """Without `print`, which the signal may have interrupted."""
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
