"""One deadline for a whole exchange over a socket.

A socket's timeout starts anew with every read: a server that sends a byte a second would hold a
thread for ever.
"""

import time
from http.client import HTTPConnection
from io import BufferedReader, RawIOBase
from typing import Any, TypeVar


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


C = TypeVar("C", bound=HTTPConnection)


def timed(connection: type[C], deadline: Deadline) -> type[C]:
    """Return a class of connections whose requests and responses end by the deadline.

    Connecting and the handshake of TLS each have the ``timeout`` that a connection is given.
    """

    class Timed(connection):  # type: ignore[valid-type, misc]
        sock: Any

        def connect(self) -> None:
            super().connect()
            if not isinstance(self.sock, TimedSocket):  # TLS makes a socket of its own
                self.sock = TimedSocket(self.sock, deadline)

    return Timed


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
