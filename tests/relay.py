"""A queue in front of a site: it stores a webhook, says 200, and forwards it until the site does.

What docs/queue-in-front.md asks of such a service, and no more.
"""

import http.client
import sqlite3
from collections import Counter
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

LAST_WORD = (200, 400, 413)
"""The site has the webhook, or will never take it."""

PASSED_ON = ("Content-Type", "Content-Length")


class Relay(ThreadingHTTPServer):
    """Takes webhooks on a port of its own; with ``with`` it also forwards what it has in ``file``.

    ``authorization`` is its own header for the site, at ``port``; it waits no longer than
    ``longest_pause`` seconds between two tries, whatever the site asks for.
    """

    daemon_threads = False

    def __init__(self, file: Path, port: int, authorization: str, longest_pause: float) -> None:
        super().__init__(("127.0.0.1", 0), Intake)
        self.file, self.port, self.authorization = file, port, authorization
        self.longest_pause = longest_pause
        self.stopped = Event()
        self.seen: Counter[int | None] = Counter()
        """The site's responses by their status; ``None``: it did not answer."""
        self.execute(
            "CREATE TABLE IF NOT EXISTS webhooks (id INTEGER PRIMARY KEY, path, headers, body)"
        )

    def __enter__(self) -> Self:
        self.threads = [Thread(target=self.serve_forever, args=[0.01]), Thread(target=self.forward)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stopped.set()
        self.shutdown()
        for thread in self.threads:
            thread.join()
        self.server_close()

    def execute(self, sql: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.file, timeout=60)) as database, database:
            return database.execute(sql, values).fetchall()

    def forward(self) -> None:
        """Send one webhook after another, in the order of their arrival."""
        while not self.stopped.is_set():
            first = self.execute("SELECT * FROM webhooks ORDER BY id LIMIT 1")
            status, pause = self.send(*first[0][1:]) if first else (None, 0.01)
            if status in LAST_WORD:
                self.execute("DELETE FROM webhooks WHERE id = ?", first[0][0])
            else:
                self.stopped.wait(min(pause, self.longest_pause))

    def send(self, path: str, headers: str, body: bytes) -> tuple[int | None, float]:
        """Return the site's status, or ``None``, and for how many seconds to wait then."""
        values = dict(zip(PASSED_ON, headers.split("\n"), strict=True))
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as site:
            try:
                site.request("POST", path, body, values | {"Authorization": self.authorization})
                response = site.getresponse()
                response.read()
            except OSError:
                self.seen[None] += 1
                return None, 1
        self.seen[response.status] += 1
        return response.status, float(response.headers.get("Retry-After", 1))


class Intake(BaseHTTPRequestHandler):
    """Stores a webhook before it answers."""

    server: Relay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = "\n".join(self.headers[name] for name in PASSED_ON)
        insert = "INSERT INTO webhooks (path, headers, body) VALUES (?, ?, ?)"
        self.server.execute(insert, self.path, headers, body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass
