"""Host projects that really run: a folder, a database, settings, and servers over sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stress.databases import Database

ROOT = Path(__file__).resolve().parents[2]
WSGI = "tests.stress.host.wsgi:application"
ASGI = "tests.stress.host.asgi:application"
STAFF = "staff"
STAFF_PASSWORD = "the-password-of-staff"  # noqa: S105


@dataclass(frozen=True)
class Call:
    """A line that a handler wrote: it began, or it has finished."""

    handler: str
    phase: str
    event: int
    fact: tuple[str, ...]
    pid: int
    at: float


@dataclass(frozen=True)
class Server:
    """A server that answers on ``port``."""

    process: subprocess.Popen[bytes]
    port: int

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live at this moment."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in children.split()]

    def resident_bytes(self) -> int:
        """Return the memory that the workers hold together."""
        pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.workers()]
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Host:
    """A host project."""

    folder: Path
    database: Database
    settings: dict[str, Any] = field(default_factory=dict)
    project: str = "tests.stress.host.settings"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "DJANGO_SETTINGS_MODULE": self.project,
            "FIRE_DATABASE_URL": self.database.url,
            "FIRE_FOLDER": str(self.folder),
            "FIRE_SETTINGS": json.dumps(self.settings),
            "DJANGO_SUPERUSER_USERNAME": STAFF,
            "DJANGO_SUPERUSER_PASSWORD": STAFF_PASSWORD,
            "DJANGO_SUPERUSER_EMAIL": "staff@example.com",
        }

    @property
    def log(self) -> str:
        """All that the servers have written."""
        return (self.folder / "server.log").read_text(errors="backslashreplace")

    def assert_log_is_clean(self) -> None:
        """No trace of an exception, of a worker that hung, of a secret or of a person."""
        log = self.log
        for trace in ("Traceback", "WORKER TIMEOUT"):
            assert trace not in log, log[-5_000:]
        for secret in ("a-long-enough-password", "Basic ", "+614", "61400000", "reply message"):
            assert secret not in log, log[-5_000:]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a Python module in the project, its output into the log."""
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it printed."""
        process = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    @contextmanager
    def gunicorn(self, *options: str, workers: int = 4) -> Iterator[Server]:
        """Serve the project with gunicorn."""
        port = free_port()
        bind = f"--bind=127.0.0.1:{port}"
        command = ("gunicorn", WSGI, f"--workers={workers}", bind, "--preload", *options)
        with self.serving(port, command) as server:
            wait_for(lambda: len(server.workers()) == workers, seconds=120)
            yield server

    @contextmanager
    def uvicorn(self) -> Iterator[Server]:
        """Serve the project with uvicorn, over ASGI."""
        port = free_port()
        command = ("uvicorn", ASGI, f"--port={port}", "--no-access-log", "--lifespan=off")
        with self.serving(port, command) as server:
            yield server

    @contextmanager
    def granian(self, interface: str) -> Iterator[Server]:
        """Serve the project with granian, over ``wsgi`` or ``asgi``."""
        port = free_port()
        target = WSGI if interface == "wsgi" else ASGI
        command = ("granian", f"--interface={interface}", f"--port={port}", target)
        with self.serving(port, command) as server:
            yield server

    @contextmanager
    def serving(self, port: int, command: Sequence[str]) -> Iterator[Server]:
        """Serve the project by a Python module that listens on ``port``."""
        process = self.start(*command)
        try:
            wait_for(lambda: answers(port), seconds=120)
            yield Server(process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def calls(self) -> list[Call]:
        """Return what the handlers have noted, in its order."""
        noted = self.folder / "calls.jsonl"
        lines = noted.read_text().splitlines() if noted.exists() else []
        values = [json.loads(line) for line in lines]
        return [Call(**(value | {"fact": tuple(value["fact"])})) for value in values]


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether a server answers there, whatever it says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/sms/webhook-status")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_for(condition: Callable[[], object], *, seconds: float, pause: float = 0.05) -> None:
    """Wait until it holds, looking every ``pause``; a failure when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause)
