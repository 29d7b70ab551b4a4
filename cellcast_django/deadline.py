"""One deadline for a whole exchange over a socket.

A socket's timeout starts anew with every read: a server that sends a byte a second would hold a
thread for ever.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import Any


class Deadline:
    """A moment of ``time.monotonic()`` at which the time is up."""

    def __init__(self, seconds: float) -> None:
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Return the time left. Raises ``TimeoutError`` when it is up."""
        seconds = self._at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds


@contextmanager
def connect(connection: HTTPConnection, deadline: Deadline) -> Iterator[Any]:
    """Yield a socket to use as ``connection.sock``; everything done with it may time out.

    Raises ``OSError`` when the host cannot be reached, or TLS fails.
    """
    with _open(connection.host, connection.port, deadline) as plain:
        if not isinstance(connection, HTTPSConnection):
            yield TimedSocket(plain, deadline)
            return
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        plain.settimeout(deadline.seconds_left())
        with context.wrap_socket(plain, server_hostname=connection.host) as encrypted:
            yield TimedSocket(encrypted, deadline)


def _open(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address that accepts; each gets a share of the time left."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    error: OSError = OSError("no address")
    for addresses_left, (*_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return socket.create_connection(
                (str(address[0]), port), timeout=deadline.seconds_left() / addresses_left
            )
        except OSError as failure:
            error = failure
    raise error


class TimedSocket:
    """A socket whose reads and writes all end by the deadline; it does all else as before."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self._deadline.seconds_left())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> BufferedReader:
        # Like any file of a socket, it stays readable when the socket is closed.
        return BufferedReader(_TimedReader(self._sock, self._deadline))


class _TimedReader(RawIOBase):
    """Reads from the socket, with a deadline."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.seconds_left())
        return self._file.readinto(buffer)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._file.close()
        super().close()
