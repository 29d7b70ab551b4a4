"""A fake of Cellcast's API over real HTTP, built from the examples of developer.cellcast.com.

What the documentation leaves open is a knob: whether lists say how many pages they have, how long a
page is, what a wrong key looks like.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "4f1c9a52-cellcast-api-key-e07b"

REPLIES = "/api/v1/apiClient/getResponses"
REPORTS = "/api/v2/report/message"
OPT_OUTS = "/api/v1/apiClient/getOptout"
GATEWAY = "/api/v1/gateway"
ACCOUNT = "/api/v1/apiClient/account"

Item = dict[str, Any]


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


class FakeCellcast(ThreadingHTTPServer):
    """Cellcast's API: three lists, a gateway that sends, the account, and what may go wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.replies: list[Item] = []  # newest first, as Cellcast gives them
        self.reports: list[Item] = []
        self.opt_outs: list[Item] = []
        self.sent: list[Item] = []
        """The body of each request to the gateway, with the id of its message."""
        self.campaigns = {"sms", "mms"}
        """Which lists of reports there are."""
        self.account: Item = {"sms_balance": 1_500, "mms_balance": 20}
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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add_reply(self, at: datetime, number: str = "400000001", body: str = "Yes please") -> Item:
        """Add a reply to its place in the list."""
        item = {"from": number, "body": body, "received_at": timestamp(at), "message_id": ""}
        self.replies.insert(0, item)
        self.replies.sort(key=lambda reply: str(reply["received_at"]), reverse=True)
        return item

    def add_report(self, cellcast_id: str, at: datetime, **changes: Any) -> Item:
        """Add a sent message; it is delivered in four seconds unless the changes say otherwise."""
        item = {
            "_id": cellcast_id,
            "status": "delivered",
            "replyStop": False,
            "message": "Hallo",
            "sender": "61400000001",
            "receiver": "400000002",
            "createdAt": timestamp(at),
            "updatedAt": timestamp(at + timedelta(seconds=4)),
            "send_time": timestamp(at),
            "scheduleAt": None,
            "customerResponse": None,
            "customerResponseAt": None,
            "customString": None,
            "media": None,
        } | changes
        self.reports.insert(0, item)
        return item

    def add_opt_out(self, number: str) -> Item:
        """Add a number to the opt-out list."""
        item = {"number": number, "first_name": "", "last_name": "", "email": ""}
        self.opt_outs.append(item)
        return item

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    def respond(self, path: str, parameters: dict[str, str], key: str) -> tuple[int, Item]:
        """Return the status and the document that answer a request."""
        if key != f"Bearer {KEY}":
            return 401, wrong_key(path)
        if path == ACCOUNT:
            return 200, success("Your account") | {"data": self.account}
        page = int(parameters["page"])
        self.before_page(path, page)
        if path == REPLIES:
            message = f"You have {len(self.replies)} response(s)"
            return 200, success(message) | self._page(self.replies, page, self.page_size)
        if path == OPT_OUTS:
            message = f"You have {len(self.opt_outs)} optout contact(s)"
            size = min(int(parameters["size"]), self.page_size)
            return 200, success(message) | self._page(self.opt_outs, page, size)
        if path == REPORTS and parameters["requestFrom"] == "API":
            campaign = parameters.get("campType")
            if campaign not in self.campaigns:
                return 400, {"code": 400, "message": "campType is required, must be sms"}
            days = (
                date.fromisoformat(parameters["fromDate"]),
                date.fromisoformat(parameters["toDate"]),
            )
            reports = [
                report
                for report in self.reports
                if days[0] <= datetime.fromisoformat(report["createdAt"]).date() <= days[1]
                and (report["media"] is not None) == (campaign == "mms")
            ]
            size = min(int(parameters["limit"]), self.page_size)
            envelope = {"status": True, "message": "Success", "error": {}}
            return 200, envelope | self._page(reports, page, size, is_odd=campaign == "sms")
        return 404, {"status": False, "message": "Not found", "data": {}, "error": {}}

    def send(self, body: Item, key: str) -> tuple[int, Item]:
        """Take one message; numbers that are too short or have opted out are not sent to."""
        if key != f"Bearer {KEY}":
            return 401, wrong_key(GATEWAY)
        [contact] = body["contacts"]
        unsubscribed = {item["number"] for item in self.opt_outs}
        data: Item = {"queueResponse": [], "invalidContacts": [], "unsubscribeContacts": []}
        if len(contact) < 9:
            error = {"Error": f"{contact} is less than nine digits", "ErrorType": "less_nine_digit"}
            data["invalidContacts"].append({"Contact": contact} | error)
        elif contact in unsubscribed:
            data["unsubscribeContacts"].append(contact)
        else:
            cellcast_id = f"{int(time.time()):08x}{len(self.sent):016x}"
            self.sent.append(body | {"MessageId": cellcast_id})
            queued = {"Contact": contact, "MessageId": cellcast_id, "Result": "Added to queue."}
            data["queueResponse"].append(queued)
        return 200, {"status": True, "message": "Being processed", "data": data, "error": {}}

    def _page(self, items: list[Item], page: int, size: int, *, is_odd: bool = True) -> Item:
        odd_items = self.odd_items if is_odd else []
        data: Item = {"items": odd_items + items[(page - 1) * size : page * size]}
        if self.has_totals:
            data |= {"current": page, "totalPages": -(-len(items) // size)}
        return {"data": data}


def timestamp(at: datetime) -> str:
    """Return a time as Cellcast writes it: UTC, in milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def success(message: str) -> Item:
    """Return the envelope of the first version of the API."""
    return {"meta": {"code": 200, "status": "SUCCESS"}, "message": message}


def wrong_key(path: str) -> Item:
    """Return one of the two documented envelopes."""
    if path == REPORTS:
        return {"code": 401, "message": "Please authenticate", "stack": "Error: Please…"}
    return {"meta": {"code": 401, "status": "AUTH_FAILED"}, "message": "Please authenticate"}


class Request(BaseHTTPRequestHandler):
    """One request to the fake."""

    server: FakeCellcast
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which lets the body wait 40 ms for the client's kernel

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parameters = dict(parse_qsl(url.query))
        if not self._meets_fault(url.path, parameters):
            self._respond(*self.server.respond(url.path, parameters, self._key))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.faults[0] if self.server.faults else None
        if fault is not None and fault.is_sent:
            self.server.send(body, self._key)
        if not self._meets_fault(self.path, {}):
            self._respond(*self.server.send(body, self._key))

    @property
    def _key(self) -> str:
        return self.headers.get("Authorization", "")

    def _meets_fault(self, path: str, parameters: dict[str, str]) -> bool:
        self.server.requests.append((path, parameters, dict(self.headers)))
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault is not None:
            self._fail(fault)
        return fault is not None

    def _respond(self, status: int, document: Item) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def do_CONNECT(self) -> None:
        """Be a proxy that refuses."""
        self.server.requests.append((self.path, {}, dict(self.headers)))
        self._send(502, b"", {})

    def _fail(self, fault: Fault) -> None:
        if fault.hangs:
            self.server.stop.wait(10)
            self.close_connection = True
        elif fault.drips:
            self._send(fault.status, b"", {"Content-Length": "900000"})
            with suppress(OSError):  # the client hangs up
                while not self.server.stop.wait(0.01):
                    self.wfile.write(b" ")
            self.close_connection = True
        elif fault.breaks_off:
            self._send(fault.status, fault.body, {"Content-Length": str(len(fault.body) + 1)})
            self.close_connection = True
        else:
            self._send(fault.status, fault.body, fault.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[FakeCellcast]:
    """Run the fake on the loopback interface."""
    with FakeCellcast() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.001})
        thread.start()
        try:
            yield server
        finally:
            server.stop.set()
            server.shutdown()
            thread.join()
