"""Cellcast on this machine: one account, its HTTP API and its webhooks. It knows no database.

Docstrings say how sure a behaviour is, a sentence each, which the documentation repeats:
*Documented* (developer.cellcast.com), *Seen* (on live accounts, by public integrations) or
*Supposed*. What a live account shows to be otherwise is changed here first.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import responses
from itertools import count
from random import Random
from sched import scheduler
from threading import RLock, Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.core.servers.basehttp import ThreadedWSGIServer
from django.utils import timezone

from cellcast_django import payloads
from cellcast_django.contacts import is_phone_number, to_contact
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import Endpoint

GATEWAY = "/api/v1/gateway"
ACCOUNT = "/api/v1/apiClient/account"
REPLIES = "/api/v1/apiClient/getResponses"
OPT_OUTS = "/api/v1/apiClient/getOptout"
REPORTS = "/api/v2/report/message"

STOP = re.compile(r"\W*(stop|stopall|unsubscribe|unsub|opt[\W_]*out)\b", re.IGNORECASE)
"""Seen: a text that begins with STOP opts out. Supposed: which other words do."""
STOP_HINT = " - Reply STOP to optout"
"""Documented: ``replyStopToOptOut`` adds 23 characters. Supposed: the three before the words."""

Item = dict[str, Any]
Answer = tuple[int, str, Item]  # its status, message and data


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

SENTENCES = responses | {
    400: "Your sender id is not registered.",
    422: "Your balance is too low for this request, please recharge.",
}
"""Of the gateway's refusals. Documented: that of 422. Seen: that of 400. Supposed: all others."""


class _Request(WSGIRequestHandler):
    disable_nagle_algorithm = True  # which lets the body wait 40 ms for the client's kernel

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Simulator:
    """One account, whose API can be asked inside the block, from any thread.

    ``deliver(endpoint, payload)`` takes each webhook, in the thread that causes it, and returns
    whether the site has kept it; ``now()`` is the account's clock. No report comes before
    ``send_reports()``. With a ``seed`` the account is harsh: webhooks come with it, too, twice,
    late, in any order or never, and the gateway answers some requests with 500 although it sends.
    The seed, the number, the text, and how often that came, decide.
    """

    key = "the-key-of-the-simulated-account"
    port = 0  # any that is free
    page_size = 1_000  # at most
    seed = ""
    show: Callable[[str], object] = str  # takes a line for each SMS that is sent

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
        self._known: set[str] = set()  # what of these webhooks have told the site
        self._came: Counter[str] = Counter()
        self._credit = 1_500
        self._serial = count(1)
        self._failures: list[tuple[int, bool]] = []
        self._due = scheduler(lambda: self._now().timestamp())
        self._lock = RLock()  # of all but what is due, never held while a webhook is delivered

    def __enter__(self) -> Self:
        address = "127.0.0.1", self.port
        self._server = make_server(*address, self._application, ThreadedWSGIServer, _Request)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What customers and carriers do

    def reply(
        self, number: str, text: str, *, media: Sequence[str] = (), webhook: bool = True
    ) -> None:
        """Let a customer reply; without ``webhook`` only the API's list has it.

        Documented: the text in ``message``. Seen: a list without ids; after a STOP an opt-out.
        Supposed: an id of its own, and a time of its own to the millisecond; it comes to the number
        that the customer was last texted from; a picture is listed as its webhook has it.
        """
        contact = to_contact(number, "AU")
        with self._lock:
            payload = payloads.reply_payload(_id=self._new_id(), sender=contact, message=text)
            senders = [each.sender for each in self.sent if each.receiver == contact]
            if senders and is_phone_number(senders[-1], "AU"):
                payload["receiver"] = to_contact(senders[-1], "AU")
            if media:
                payload = payloads.mms_payload(**payload | {"media": media})
            at, taken = self._now(), {each["received_at"] for each in self._replies}
            while timestamp(at) in taken:
                at += timedelta(milliseconds=1)
            item = listed_reply(at, as_listed(contact), payload["message"])
            self._replies.append(item)
        if webhook:
            told = [listed_opt_out(as_listed(contact))] if is_stop_word(text) else []
            self._post(Endpoint.RECEIVE, payload, item, *told)
        if STOP.match(text):
            self.opt_out(contact, webhook=webhook)

    def report(
        self, cellcast_id: str, status: str, reason: str = "", *, webhook: bool = True
    ) -> None:
        """Report a status; without ``webhook`` only the API's list has it.

        Documented: the report. Seen: ``updatedAt`` is when it was delivered.
        """
        with self._lock:
            [item] = [each for each in self._reports if each["_id"] == cellcast_id]
            item |= {"status": status, "updatedAt": timestamp(self._now())}
        if webhook:
            said = {"receiver": to_contact(item["receiver"], "AU"), "sender": item["sender"]}
            said |= {"_id": cellcast_id, "status": status} | ({"reason": reason} if reason else {})
            self._post(Endpoint.STATUS, payloads.status_payload(**said), item)

    def opt_out(self, number: str, *, webhook: bool = True) -> None:
        """Opt a customer out, as Cellcast's link does; without ``webhook`` only the list has it.

        Documented: a list that nothing leaves. Seen: the webhook. Supposed: it comes each time.
        """
        item = listed_opt_out(as_listed(number))
        with self._lock:
            if item not in self._opt_outs:
                self._opt_outs.append(item)
        if webhook:
            self._post(Endpoint.OPT_OUT, payloads.opt_out_payload(contact=item["number"]), item)

    def send_reports(self) -> None:
        """Send what is due by the account's clock."""
        self._due.run(blocking=False)

    def fail_next(self, status: int, *, is_sent: bool = False) -> None:
        """Make the gateway answer one request so; several calls are for one each, in order."""
        self._failures.append((status, is_sent))

    def counts(self) -> list[tuple[int, int]]:
        """Return how many messages, replies and opt-outs a site that lost nothing has.

        Beside each, of how many no webhook that was kept says what the API's list says.
        """
        lists = self._reports, self._replies, self._opt_outs
        return [(len(each), sum(repr(item) not in self._known for item in each)) for each in lists]

    def _chance(self, about: object) -> Random:
        with self._lock:
            self._came[repr(about)] += 1
            return Random(f"{self.seed} {about!r} {self._came[repr(about)]}")  # noqa: S311

    def _fate_of(self, sms: Sms) -> Fate:
        fate = FATES.get(sms.receiver, Fate("delivered"))
        if not self.seed or fate.response != 200:
            return fate
        chance = self._chance((sms.receiver, sms.body))
        response = 500 if chance.random() < 0.1 else 200
        return fate._replace(response=response, seconds=chance.uniform(0, 5))

    def _post(self, endpoint: Endpoint, payload: Item, *told: Item) -> None:
        """Send a webhook that tells of these items of the API's lists."""
        known = [repr(each) for each in told]  # of now: a status will change

        def deliver() -> None:
            if self._deliver(endpoint, payload):
                self._known.update(known)

        if not self.seed:
            return deliver()
        chance = self._chance(payload | {"_id": told[0].get("message")})
        [copies] = chance.choices((0, 1, 2), (1, 6, 3))
        for _ in range(copies):
            self._put(chance.uniform(0, 5), deliver)

    def _put(self, seconds: float, work: Callable[[], object]) -> None:
        at = self._now() + timedelta(seconds=seconds)
        self._due.enterabs(at.timestamp(), 0, work)

    def _new_id(self) -> str:
        """Return an id. Supposed: an ObjectId, whose first four bytes are the time."""
        return f"{int(self._now().timestamp()):08x}{next(self._serial):016x}"

    # What the API answers

    def _application(self, environ: Item, start: Callable[..., object]) -> Iterable[bytes]:
        """Answer a request.

        Documented: the envelopes of v1 and v2, and how each refuses a key. Supposed: v1's others.
        """
        call = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        try:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            given = dict(parse_qsl(environ["QUERY_STRING"])) or payloads.read_object(body)
            with self._lock:
                status, message, data = self._answer(call, given, environ.get("HTTP_AUTHORIZATION"))
        except ValueError as error:  # it cannot be read
            status, message, data = 400, str(error), {}
        document: Item = {"code": status, "message": message, "stack": f"Error: {message}"}
        if status == 200:
            document = {"status": True, "message": message, "data": data, "error": {}}
        if status == 422:
            document = {"status": False, "error": {"errorMessage": message}}
        if "/apiClient/" in call:
            word = {200: "SUCCESS", 401: "AUTH_FAILED"}.get(status, "FAILED")
            document = {"meta": {"code": status, "status": word}, "message": message, "data": data}
        start(f"{status} {responses.get(status, '')}", [("Content-Type", "application/json")])
        return [json.dumps(document).encode()]

    def _answer(self, call: str, given: Item, authorization: str | None) -> Answer:
        """Documented: the newest first; the filters of reports. Supposed: their days are UTC's."""
        if authorization != f"Bearer {self.key}":
            return 401, "Please authenticate", {}
        if call == f"POST {GATEWAY}":
            return self._send(given)
        if call == f"GET {ACCOUNT}":
            return 200, "Success", {"sms_balance": self._credit, "mms_balance": 20}
        if call == f"GET {OPT_OUTS}":
            return 200, "Success", self._page(self._opt_outs, given)
        if call == f"GET {REPLIES}":
            replies = sorted(self._replies, key=lambda each: str(each["received_at"]))[::-1]
            return 200, "Success", self._page(replies, given)
        if call == f"GET {REPORTS}":
            first, last = given.get("fromDate", ""), given.get("toDate", "9")
            days = [each for each in self._reports if first <= each["createdAt"][:10] <= last]
            is_mms = given.get("campType") == "mms"
            wanted = [each for each in days[::-1] if bool(each["media"]) == is_mms]
            return 200, "Success", self._page(wanted, given)
        for item in self._reports:
            if call == f"GET {REPORTS}/{item['_id']}":
                return 200, "Success", item
        return 404, f"Not simulated: {call}. See developer.cellcast.com/api-docs", {}

    def _page(self, items: list[Item], given: Item) -> Item:
        """Return a page. Documented: ``page``, ``size``, ``limit``. Seen: ``totalPages``."""
        size = min(int(given.get("size") or given.get("limit") or 50) or 50, self.page_size)
        page = int(given.get("page", 1))
        data = {"items": items[(page - 1) * size : page * size], "total": len(items)}
        return data | {"limit": size, "current": page, "totalPages": -(-len(items) // size)}

    def _send(self, given: Item) -> Answer:
        """Take an SMS for each contact.

        Documented: these fields and their limits; ``invalidContacts`` and ``unsubscribeContacts``.
        Supposed: an SMS costs one credit, however long it is; all other fields change nothing.
        """
        text, contacts = given.get("message"), given.get("contacts")
        sender, reference = given.get("sender") or "#SharedNum#", given.get("customString") or ""
        if not isinstance(text, str) or not text:
            raise ValueError("message is required")
        if not isinstance(contacts, list) or not 1 <= len(contacts) <= 1_000:
            raise ValueError("contacts is a list of 1 to 1,000 numbers")
        if not re.fullmatch(r"[+0-9]{1,16}|.{1,11}", str(sender)):
            raise ValueError("sender is a name of at most 11, or a number of 16 characters")
        text += STOP_HINT if given.get("replyStopToOptOut") else ""
        data: Item = {"queueResponse": [], "invalidContacts": [], "unsubscribeContacts": []}
        accepted: list[tuple[Sms, Fate]] = []
        for each in map(str, contacts):
            contact = to_contact(each, "AU")
            if not re.fullmatch(r"\+?[0-9]{9,15}", each):
                error = {"Error": f"{each} is no number", "ErrorType": "less_nine_digit"}
                data["invalidContacts"].append({"Contact": each} | error)
            elif listed_opt_out(as_listed(contact)) in self._opt_outs:
                data["unsubscribeContacts"].append(each)
            else:
                sms = Sms(contact, text, str(sender), str(reference), self._new_id())
                accepted.append((sms, self._fate_of(sms)))
                queued = {"Contact": each, "MessageId": sms.cellcast_id}
                data["queueResponse"].append(queued | {"Result": "Added to queue."})
        status = next((fate.response for _, fate in accepted if fate.response != 200), 200)
        is_sent = status != 400
        if self._failures:
            status, is_sent = self._failures.pop(0)
        if len(accepted) > self._credit:
            status, is_sent = 422, False
        for sms, fate in accepted if is_sent else []:
            self._take(sms, fate)
        return status, "Being processed" if status == 200 else SENTENCES.get(status, ""), data

    def _take(self, sms: Sms, fate: Fate) -> None:
        self._credit -= 1
        self.show(f"SMS to {sms.receiver}: {sms.body}")
        self.sent.append(sms)
        item = listed_report(self._now(), sms.cellcast_id, status="queued", message=sms.body)
        item |= {"sender": sms.sender.removeprefix("+"), "receiver": as_listed(sms.receiver)}
        self._reports.append(item | {"customString": sms.reference or None})
        report = partial(self.report, sms.cellcast_id)
        if fate.seconds and fate.status != "sent":
            self._put(0, partial(report, "sent"))
        self._put(fate.seconds, partial(report, fate.status, fate.reason, webhook=fate.webhook))


def slow_clock() -> datetime:
    """Return the time of eleven minutes ago: recovery waits ten minutes for a webhook."""
    return timezone.now() - timedelta(minutes=11)


def as_listed(number: str) -> str:
    """Return a number as the lists spell it. Seen: Australian ones in nine digits."""
    return to_contact(number, "AU").removeprefix("+61")


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
