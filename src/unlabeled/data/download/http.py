"""HTTP connections that fail within seconds without a network and wait for slow servers."""

import errno
import os
import selectors
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from typing import Any

LOOKUP = 6.0  # seconds for the addresses of a name; resolvers ask their second server after 5
CONNECT = 5.0  # seconds until one of the addresses answers
PENDING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


def connect(address: tuple[str, int], timeout: float | None, source_address: None = None) -> socket.socket:
    """A connection to whichever address of (host, port) answers first; `timeout` is for what is read from it.

    As socket.create_connection, which tries one address after the other with the whole timeout, after it waited for
    the name as long as the resolver likes. Raises OSError.
    """
    failure = OSError(errno.ETIMEDOUT, f"no answer in {CONNECT:g} s")
    with selectors.DefaultSelector() as waiting, ExitStack() as stack:
        for family, kind, protocol, _, place in addresses(*address):
            try:
                tried = stack.enter_context(socket.socket(family, kind, protocol))
                tried.setblocking(False)
                code = tried.connect_ex(place)
            except OSError as error:  # a family that this system lacks
                failure = error
                continue
            if code in PENDING:
                waiting.register(tried, selectors.EVENT_WRITE, tried)
            else:
                failure = OSError(code, os.strerror(code))
        end = time.monotonic() + CONNECT
        while waiting.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                tried = key.data
                waiting.unregister(tried)
                if code := tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    failure = OSError(code, os.strerror(code))
                    continue
                answered = socket.socket(tried.family, tried.type, tried.proto, tried.detach())
                answered.settimeout(timeout)
                return answered
    raise failure


def addresses(host: str, port: int) -> list[Any]:
    """socket.getaddrinfo's, within LOOKUP seconds. Raises OSError."""
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)  # never joined, not even at exit
    thread.start()
    thread.join(LOOKUP)
    if not found:
        raise OSError(errno.ETIMEDOUT, f"no address in {LOOKUP:g} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _connection(kind: type[HTTPConnection], host: str, **settings: Any) -> HTTPConnection:
    made: Any = kind(host, **settings)
    made._create_connection = connect  # the standard library's own hook
    return made


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_connection, HTTPConnection), request)


class _Secure(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_connection, HTTPSConnection), request)


def open_url(request: urllib.request.Request, timeout: float) -> Any:
    """As urllib.request.urlopen, through `connect`; timeout: seconds without a byte from a server that answered."""
    return urllib.request.build_opener(_Plain, _Secure).open(request, timeout=timeout)
