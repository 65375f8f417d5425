"""A stand-in for `python WORDS`, which a fork of a warm process runs with the streams and signals of this one.

It imports nothing that takes time: python -S tests/stand_in.py ADDRESS WORDS. tests.warm has the other side.
"""

import json
import os
import signal
import socket
import sys

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]


def main(address: str, *words: str) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    socket.send_fds(server, [b"\0"], [0, 1, 2])
    server.sendall(json.dumps([words, os.getcwd(), dict(os.environ)]).encode() + b"\n")
    answers = server.makefile()
    fork = int(answers.readline())
    for number in SIGNALS:
        signal.signal(number, lambda number, _: os.kill(fork, number))
    status = int(answers.readline())
    if status >= 0:
        sys.exit(status)
    if -status in SIGNALS:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    main(*sys.argv[1:])
