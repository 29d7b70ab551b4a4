"""The simulated account, with what only our own tests need: faults of transport, and odd lists."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import responses
from threading import Event
from typing import Any
from urllib.parse import parse_qsl

from cellcast_django.simulator import (
    ACCOUNT,
    GATEWAY,
    REPLIES,
    REPORTS,
    Answer,
    Item,
    Simulator,
    listed_opt_out,
    listed_reply,
    listed_report,
    timestamp,
)

__all__ = ["GATEWAY", "KEY", "REPLIES", "REPORTS", "FakeCellcast", "Fault", "serving", "timestamp"]

KEY = Simulator.key


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A response that takes the place of the right one."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    breaks_off: bool = False
    """Close the connection after this much of a longer body."""
    hangs: bool = False
    """Say nothing until the test is over."""
    drips: bool = False
    """Send a byte of an endless body after the other."""
    is_sent: bool = False
    """Send the SMS all the same, as Cellcast has been seen to do."""


class FakeCellcast(Simulator):
    """An account whose lists a test fills, and whose API fails as it says."""

    def __init__(self) -> None:
        super().__init__(deliver=lambda _endpoint, _payload: None)
        self.replies, self.reports, self.opt_outs = self._replies, self._reports, self._opt_outs
        self.campaigns = {"sms", "mms"}
        """Which lists of reports there are."""
        self.account: Item | None = None
        """What stands in the place of the credit."""
        self.odd_items: list[Any] = []
        """What each page of each list begins with."""
        self.page_size = 50
        self.has_totals = True
        self.faults: deque[Fault | None] = deque()
        """What the next requests meet; ``None`` is a right response."""
        self.before_page: Callable[[str, int], None] = lambda path, page: None
        """Called before a page is cut out of a list: it may change the list."""
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        """Path, parameters and headers of each request."""
        self.stop = Event()

    def add_reply(self, at: datetime, number: str = "400000001", body: str = "Yes please") -> Item:
        """Add a reply to its place in the list."""
        self.replies.append(listed_reply(at, number, body))
        return self.replies[-1]

    def add_report(self, cellcast_id: str, at: datetime, **changes: Any) -> Item:
        """Add a sent message; it is delivered in four seconds unless the changes say otherwise."""
        said = {"status": "delivered", "message": "Hallo", "sender": "61400000001"}
        said |= {"receiver": "400000002", "updatedAt": timestamp(at + timedelta(seconds=4))}
        self.reports.append(listed_report(at, cellcast_id, **said | changes))
        return self.reports[-1]

    def add_opt_out(self, number: str) -> Item:
        """Add a number to the opt-out list."""
        self.opt_outs.append(listed_opt_out(number))
        return self.opt_outs[-1]

    def _application(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], dict(parse_qsl(environ["QUERY_STRING"]))
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").title(): value
            for name, value in environ.items()
            if name.startswith("HTTP_") or name == "CONTENT_TYPE"
        }
        self.requests.append((path, query, headers))
        if environ["REQUEST_METHOD"] == "CONNECT":  # be a proxy that refuses
            start("502 Bad Gateway", [])
            return []
        fault = self.faults.popleft() if self.faults else None
        if fault is None:
            return super()._application(environ, start)
        if fault.is_sent:
            super()._application(environ, lambda *_: None)
        return self._fail(fault, start)

    def _fail(self, fault: Fault, start: Callable[..., Any]) -> Iterator[bytes]:
        if fault.hangs:
            self.stop.wait(10)
        length = 900_000 if fault.drips else len(fault.body) + fault.breaks_off
        headers = {"Content-Length": str(length)} | fault.headers
        start(f"{fault.status} {responses.get(fault.status, '')}", list(headers.items()))
        yield fault.body
        while fault.drips and not self.stop.wait(0.01):
            yield b" "

    def _answer(self, call: str, given: Item, authorization: str | None) -> Answer:
        path = call.partition(" ")[2]
        if "page" in given:
            self.before_page(path, int(given["page"]))
        campaign = given.get("campType", "sms")
        if campaign not in self.campaigns:
            raise ValueError("campType is required, must be sms")
        status, message, data = super()._answer(call, given, authorization)
        if path == ACCOUNT and self.account is not None:
            return status, message, self.account
        if "items" in data:
            odd_items = self.odd_items if campaign == "sms" else []
            data["items"] = odd_items + data["items"]
            if not self.has_totals:
                del data["current"], data["totalPages"]
        return status, message, data


@contextmanager
def serving() -> Iterator[FakeCellcast]:
    """Run the fake on the loopback interface."""
    with FakeCellcast() as fake:
        try:
            yield fake
        finally:
            fake.stop.set()
