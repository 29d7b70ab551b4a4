"""Cellcast on this machine: one account, its HTTP API and its webhooks. It knows no database.

Docstrings say how sure a behaviour is, a sentence each, which the documentation repeats:
*Documented* (developer.cellcast.com), *Seen* (on live accounts, by public integrations) or
*Supposed*. What a live account shows to be otherwise is changed here first.
"""

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import responses
from itertools import count
from operator import itemgetter
from random import Random
from socket import socket
from socketserver import ThreadingMixIn
from threading import Condition, Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.utils import timezone

from cellcast_django import payloads
from cellcast_django.contacts import is_phone_number, to_contact
from cellcast_django.payloads import Endpoint

GATEWAY = "/api/v1/gateway"
ACCOUNT = "/api/v1/apiClient/account"
REPLIES = "/api/v1/apiClient/getResponses"
OPT_OUTS = "/api/v1/apiClient/getOptout"
REPORTS = "/api/v2/report/message"
FIELDS = {"message", "contacts", "sender", "countryCode", "customString", "replyStopToOptOut"}

STOP = re.compile(r"\W*(stop|stopall|unsubscribe|unsub|opt[\W_]*out)\b", re.IGNORECASE)
"""Seen: a text that begins with STOP opts out. Supposed: which other words do."""
STOP_HINT = " - Reply STOP to optout"
"""Documented: ``replyStopToOptOut`` adds 23 characters. Supposed: the three before the words."""

DOCS = "developer.cellcast.com/api-docs"
Item = dict[str, Any]


class Sms(NamedTuple):
    """An SMS that was sent."""

    receiver: str
    body: str
    sender: str
    reference: str
    cellcast_id: str


class Fate(NamedTuple):
    """What becomes of an SMS, whose last status comes after so many seconds."""

    description: str
    status: str = "delivered"
    reason: str = ""
    seconds: float = 0
    webhook: bool = True
    response: int = 200


FATES = {
    "+61491570006": Fate("delivered at once, as to any number that is not listed here"),
    "+61491573087": Fate("delivered after a minute", seconds=60),
    "+61491574118": Fate("failed: no such number", "failed", "The number does not exist"),
    "+61491574632": Fate("rejected by the carrier", "rejected", "Refused by the carrier"),
    "+61491575254": Fate("expired: the phone is off", "expired", "The phone is switched off"),
    "+61491576398": Fate("blocked by the gateway", "blocked", "The number has opted out"),
    "+61491576801": Fate("dead: deleted before it went", "dead", "The message was deleted"),
    "+61491577426": Fate("canceled before it went", "canceled", "The message was called off"),
    "+61491577644": Fate("aborted on its way", "aborted", "The connection broke off"),
    "+61491575789": Fate("delivered, but the webhook of that never comes", webhook=False),
    "+61491578148": Fate("sent, and nothing more is ever known", "sent"),
    "+61491578888": Fate("delivered, although the gateway answers 500", response=500),
    "+61491578957": Fate("refused by the gateway", response=400),
}
"""By the receiver: numbers that belong to nobody, of those that ACMA keeps for fiction.

Documented: the statuses; for webhooks all but ``sent``, ``blocked``, ``canceled`` and ``aborted``.
Seen: a gateway that answers 500 and sends all the same. Supposed: one report for each SMS, after
one of ``sent`` if it takes a while; failures with a ``reason``.
"""


SENTENCES = {
    400: "Your sender id is not registered.",
    401: "Please authenticate",
    422: "Your balance is too low for this request, please recharge.",
}


class RefusalError(Exception):
    """A refusal in Cellcast's envelope.

    Documented: ``code``, ``message``, ``stack``; of 422 an ``error``. Supposed: most sentences.
    """

    def __init__(self, status: int, message: str = "", *, is_of_v1: bool = False) -> None:
        message = message or SENTENCES.get(status) or responses.get(status, "")
        self.status = status
        self.document: Item = {"code": status, "message": message, "stack": f"Error: {message}"}
        if status == 422:
            self.document = {"status": False, "error": {"errorMessage": message}}
        if is_of_v1:
            self.document = {"meta": {"code": status, "status": "AUTH_FAILED"}, "message": message}


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Request(WSGIRequestHandler):
    disable_nagle_algorithm = True  # which lets the body wait 40 ms for the client's kernel

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Simulator:
    """One account, whose API can be asked inside the block, from any thread.

    ``deliver(endpoint, payload)`` takes each webhook, in the thread that causes it; ``now()`` is
    the account's clock. No report comes before ``send_reports()``.
    """

    key = "the-key-of-the-simulated-account"
    port = 0  # any that is free
    _page_size = 1_000

    def __init__(
        self,
        *,
        deliver: Callable[[Endpoint, Item], object],
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self.sent: list[Sms] = []
        self._deliver, self._now = deliver, now
        self._replies: list[Item] = []  # these three are as the API lists them
        self._reports: list[Item] = []
        self._opt_outs: list[Item] = []
        self._credit = 1_500
        self._failures: deque[tuple[int, bool]] = deque()
        self._due: list[tuple[datetime, Callable[[], object]]] = []
        self._changed = Condition()  # the lock of all these; notified when more will be due
        self._watch: Callable[[str, int, Item], object] = lambda *_: None  # sees each request
        self._serial = count(1)
        self._is_open = True

    def __enter__(self) -> Self:
        self._server = make_server("127.0.0.1", self.port, self._application, _Server, _Request)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_open = False
        with socket() as connection:  # which the thread waits for
            connection.connect(self._server.server_address)

    def _serve(self) -> None:
        with self._server:
            while self._is_open:
                self._server.handle_request()

    # What customers and carriers do

    def reply(
        self, number: str, text: str, *, media: Sequence[str] = (), webhook: bool = True
    ) -> None:
        """Let a customer reply; without ``webhook`` only the API's list has it.

        Documented: the text in ``message``. Seen: a list without ids; after a STOP an opt-out.
        Supposed: an id of its own, and a time of its own to the millisecond; it comes to the number
        that the customer was last texted from; a picture is listed as its webhook has it.
        """
        contact = contact_of(number)
        with self._changed:
            said: Item = {"_id": self._new_id(), "sender": contact, "message": text}
            senders = [each.sender for each in self.sent if each.receiver == contact]
            if senders and is_phone_number(senders[-1], "AU"):
                said["receiver"] = to_contact(senders[-1], "AU")
            build = partial(payloads.mms_payload, media=media) if media else payloads.reply_payload
            payload = build(**said)
            at, taken = self._now(), {each["received_at"] for each in self._replies}
            while timestamp(at) in taken:
                at += timedelta(milliseconds=1)
            self._replies.append(listed_reply(at, as_listed(contact), payload["message"]))
        if webhook:
            self._post(Endpoint.RECEIVE, payload)
        if STOP.match(text):
            self.opt_out(contact, webhook=webhook)

    def report(
        self, cellcast_id: str, status: str, reason: str = "", *, webhook: bool = True
    ) -> None:
        """Report a status; without ``webhook`` only the API's list has it.

        Documented: the report. Seen: ``updatedAt`` is when it was delivered.
        """
        with self._changed:
            sms = next((each for each in self.sent if each.cellcast_id == cellcast_id), None)
            if sms is None:
                raise ValueError(f"This account has sent nothing with the id {cellcast_id}.")
            [item] = [each for each in self._reports if each["_id"] == cellcast_id]
            item |= {"status": status, "updatedAt": timestamp(self._now())}
        if webhook:
            said = {"_id": cellcast_id, "status": status, "sender": sms.sender}
            said |= {"receiver": sms.receiver} | ({"reason": reason} if reason else {})
            self._post(Endpoint.STATUS, payloads.status_payload(**said))

    def opt_out(self, number: str, *, webhook: bool = True) -> None:
        """Opt a customer out, as Cellcast's link does; without ``webhook`` only the list has it.

        Documented: a list that nothing leaves. Seen: the webhook. Supposed: it comes each time.
        """
        contact = contact_of(number)
        with self._changed:
            if not self._has_opted_out(contact):
                self._opt_outs.append(listed_opt_out(as_listed(contact)))
        if webhook:
            self._post(Endpoint.OPT_OUT, payloads.opt_out_payload(contact=as_listed(contact)))

    def send_reports(self) -> None:
        """Send what is due by the account's clock."""
        while True:
            with self._changed:
                if not self._due or self._due[0][0] > self._now():
                    return
                _, work = self._due.pop(0)
            work()

    def fail_next(self, status: int, *, is_sent: bool = False) -> None:
        """Make the gateway answer one request so; several calls are for one each, in order."""
        self._failures.append((status, is_sent))

    def _has_opted_out(self, contact: str) -> bool:
        return any(each["number"] == as_listed(contact) for each in self._opt_outs)

    def _fate_of(self, sms: Sms) -> Fate:
        return FATES.get(sms.receiver, Fate("delivered"))

    def _post(self, endpoint: Endpoint, payload: Item) -> None:
        self._deliver(endpoint, payload)

    def _put(self, seconds: float, work: Callable[[], object]) -> None:
        with self._changed:
            self._due.append((self._now() + timedelta(seconds=seconds), work))
            self._due.sort(key=itemgetter(0))
            self._changed.notify_all()

    def _new_id(self) -> str:
        """Return an id. Supposed: an ObjectId, whose first four bytes are the time."""
        return f"{int(self._now().timestamp()):08x}{next(self._serial):016x}"

    # What the API answers

    def _application(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request.

        Documented: the envelopes of v1 and v2, and how each refuses a key.
        """
        length, status = environ.get("CONTENT_LENGTH", ""), 200
        body = environ["wsgi.input"].read(int(length) if re.fullmatch("[0-9]{1,7}", length) else 0)
        call = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        query, is_of_v1 = dict(parse_qsl(environ["QUERY_STRING"])), "/apiClient/" in call
        given = query if call.startswith("GET") else payloads.read_object(body)
        with self._changed:
            try:
                if environ.get("HTTP_AUTHORIZATION") != f"Bearer {self.key}":
                    raise RefusalError(401, is_of_v1=is_of_v1)
                message, data = self._answer(call, given)
                document: Item = {"status": True, "message": message, "data": data, "error": {}}
                if is_of_v1:
                    meta = {"code": 200, "status": "SUCCESS"}
                    document = {"meta": meta, "message": message, "data": data}
            except RefusalError as refusal:
                status, document = refusal.status, refusal.document
            self._watch(call, status, document)
        start(f"{status} {responses.get(status, '')}", [("Content-Type", "application/json")])
        return [json.dumps(document).encode()]

    def _answer(self, call: str, given: Item) -> tuple[str, Item]:
        if call == f"POST {GATEWAY}":
            return "Being processed", self._send(given)
        if call == f"GET {ACCOUNT}":
            return "Your account", {"sms_balance": self._credit, "mms_balance": 20}
        if call == f"GET {OPT_OUTS}":
            message = f"You have {len(self._opt_outs)} optout contact(s)"
            return message, self._page(self._opt_outs, given, "size")
        if call == f"GET {REPLIES}":
            replies = sorted(self._replies, key=lambda each: str(each["received_at"]), reverse=True)
            return f"You have {len(replies)} response(s)", self._page(replies, given)
        if call == f"GET {REPORTS}":
            return "Success", self._page(self._reports_of(given), given, "limit")
        for item in self._reports:
            if call == f"GET {REPORTS}/{item['_id']}":
                return "Success", item
        raise RefusalError(404, f"Not simulated: {call}. See {DOCS}")

    def _reports_of(self, given: Item) -> list[Item]:
        """Return the newest first. Documented: the filters. Supposed: their days are UTC's."""
        campaign, wanted = given.get("campType"), given.get("customString")
        if campaign not in ("sms", "mms"):
            raise RefusalError(400, "campType is required, must be sms")
        return [
            each
            for each in reversed(self._reports)
            if given.get("fromDate", "") <= each["createdAt"][:10] <= given.get("toDate", "9")
            and (each["media"] is not None) == (campaign == "mms")
            and wanted in (None, each["customString"])
            and given.get("requestFrom", "API") == "API"
        ]

    def _page(self, items: list[Item], given: Item, size_name: str = "") -> Item:
        """Return a page. Documented: ``page``, ``size``, ``limit``. Seen: ``totalPages``."""
        numbers = [given.get("page", "1"), given.get(size_name, "50")]
        if not all(re.fullmatch("[1-9][0-9]{0,5}", each) for each in numbers):
            raise RefusalError(400, "A page and its size are whole numbers above zero")
        page, size = int(numbers[0]), min(int(numbers[1]), self._page_size)
        data = {"items": items[(page - 1) * size : page * size], "total": len(items)}
        return data | {"limit": size, "current": page, "totalPages": -(-len(items) // size)}

    def _send(self, given: Item) -> Item:
        """Take an SMS for each contact.

        Documented: the fields and their limits; ``invalidContacts`` and ``unsubscribeContacts``.
        Supposed: an SMS costs one credit, however long it is.
        """
        text, contacts = given.get("message"), given.get("contacts")
        sender, reference = given.get("sender") or "#SharedNum#", given.get("customString") or ""
        unknown = sorted(each for each in given.keys() - FIELDS if given[each])
        if unknown:
            raise RefusalError(404, f"Not simulated: {', '.join(unknown)} of {GATEWAY}. See {DOCS}")
        if not isinstance(text, str) or not text:
            raise RefusalError(400, "A JSON object with a message is required")
        if not isinstance(contacts, list) or not 1 <= len(contacts) <= 1_000:
            raise RefusalError(400, "contacts is a list of 1 to 1,000 numbers")
        if not re.fullmatch(r"\+?[0-9]{1,15}|[0-9]{16}|.{1,11}", str(sender)):
            raise RefusalError(400, "sender is a name of at most 11, or a number of 16 characters")
        if not re.fullmatch("[A-Za-z0-9-]*", str(reference)):
            raise RefusalError(400, "customString has letters, digits and dashes")
        text += STOP_HINT if given.get("replyStopToOptOut") else ""
        data: Item = {"queueResponse": [], "invalidContacts": [], "unsubscribeContacts": []}
        accepted: list[tuple[Sms, Fate]] = []
        for each in map(str, contacts):
            contact = to_contact(each, "AU")
            if not re.fullmatch(r"\+?[0-9]{9,15}", each):
                error = {"Error": f"{each} is no number", "ErrorType": "less_nine_digit"}
                data["invalidContacts"].append({"Contact": each} | error)
            elif self._has_opted_out(contact):
                data["unsubscribeContacts"].append(each)
            else:
                sms = Sms(contact, text, str(sender), str(reference), self._new_id())
                accepted.append((sms, self._fate_of(sms)))
                queued = {"Contact": each, "MessageId": sms.cellcast_id}
                data["queueResponse"].append(queued | {"Result": "Added to queue."})
        if len(accepted) > self._credit:
            raise RefusalError(422)
        status = next((fate.response for _, fate in accepted if fate.response != 200), 200)
        is_sent = status != 400
        if self._failures:
            status, is_sent = self._failures.popleft()
        for sms, fate in accepted if is_sent else []:
            self._take(sms, fate)
        if status != 200:
            raise RefusalError(status)
        return data

    def _take(self, sms: Sms, fate: Fate) -> None:
        self._credit -= 1
        self.sent.append(sms)
        item = listed_report(self._now(), sms.cellcast_id, status="queued", message=sms.body)
        item |= {"sender": sms.sender.removeprefix("+"), "receiver": as_listed(sms.receiver)}
        self._reports.append(item | {"customString": sms.reference or None})
        report = partial(self.report, sms.cellcast_id)
        if fate.seconds:
            self._put(0, partial(report, "sent"))
        self._put(fate.seconds, partial(report, fate.status, fate.reason, webhook=fate.webhook))


class LiveSimulator(Simulator):
    """An account in which time passes: webhooks go out by themselves. For the command.

    With a ``seed`` it is harsh: webhooks come twice, late and in any order, some never, and the
    gateway answers some requests with 500 although it sends. The seed, the number, the text, and
    how often that came, decide. ``watch(call, status, document)`` sees each request.
    """

    seconds_late = 5.0

    def __init__(
        self, *, seed: str, watch: Callable[[str, int, Item], object], **options: Any
    ) -> None:
        super().__init__(**options)
        self._seed, self._watch = seed, watch
        self._came: Counter[str] = Counter()

    def __enter__(self) -> Self:
        super().__enter__()
        for _ in range(4 if self._seed else 1):  # one keeps their order
            Thread(target=self._keep_sending, daemon=True).start()
        return self

    def _keep_sending(self) -> None:
        while self._is_open:
            self.send_reports()
            with self._changed:
                pause = (self._due[0][0] - self._now()).total_seconds() if self._due else None
                if pause is None or pause > 0:
                    self._changed.wait(pause)

    def _chance(self, *about: object) -> Random:
        with self._changed:
            self._came[repr(about)] += 1
            return Random(f"{self._seed} {about} {self._came[repr(about)]}")  # noqa: S311

    def _fate_of(self, sms: Sms) -> Fate:
        fate, chance = super()._fate_of(sms), self._chance(sms.receiver, sms.body)
        if not self._seed:
            return fate
        response = 500 if fate.response == 200 and chance.random() < 0.1 else fate.response
        return fate._replace(response=response, seconds=chance.uniform(0, self.seconds_late))

    def _post(self, endpoint: Endpoint, payload: Item) -> None:
        texts = [each.body for each in self.sent if each.cellcast_id == payload.get("_id")]
        chance = self._chance(*texts, sorted((payload | {"_id": ""}).items()))
        copies = chance.choices((0, 1, 2), (1, 6, 3))[0] if self._seed else 1
        for _ in range(copies):
            late = chance.uniform(0, self.seconds_late) if self._seed else 0
            self._put(late, partial(self._deliver, endpoint, payload))


def slow_clock() -> datetime:
    """Return the time of eleven minutes ago: recovery waits ten minutes for a webhook."""
    return timezone.now() - timedelta(minutes=11)


def contact_of(number: str) -> str:
    """Return a phone number in E.164. Raises ``ValueError``."""
    if not is_phone_number(number, "AU"):
        raise ValueError(f"{number!r} is no phone number.")
    return to_contact(number, "AU")


def as_listed(contact: str) -> str:
    """Return a number as the lists spell it. Seen: Australian ones in nine digits."""
    return contact.removeprefix("+61")


def timestamp(at: datetime) -> str:
    """Return a time as Cellcast writes it: UTC, in milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def listed_reply(at: datetime, number: str, body: str) -> Item:
    """Return an item of the list of replies. Documented: its keys."""
    return {"from": number, "body": body, "received_at": timestamp(at), "message_id": ""}


def listed_report(at: datetime, cellcast_id: str, **changes: Any) -> Item:
    """Return an item of the list of reports. Documented: its keys."""
    nothing = ("scheduleAt", "customerResponse", "customerResponseAt", "customString", "media")
    times = dict.fromkeys(("createdAt", "updatedAt", "send_time"), timestamp(at))
    return {"_id": cellcast_id, "replyStop": False} | times | dict.fromkeys(nothing) | changes


def listed_opt_out(number: str) -> Item:
    """Return an item of the list of opt-outs. Documented: its keys."""
    return {"number": number, "first_name": "", "last_name": "", "email": ""}
