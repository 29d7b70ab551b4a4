"""What happens in the demo, in order: two days, and some of the month before."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from cellcast_django.testing import (
    mms_payload,
    opt_out_payload,
    reply_payload,
    status_payload,
)
from example_project.simulation.people import (
    CHILDRENS_NUMBER,
    CUSTOMERS,
    GRACE,
    KIM,
    OTHER_NUMBERS,
    OUR_NUMBER,
    STRANGER,
    THEY,
    Customer,
    Report,
)


@dataclass(frozen=True, kw_only=True)
class Sending:
    """We send a message: this text, or a reminder of the customer's appointment."""

    at: datetime
    cellcast_id: str
    number: str
    sender: str = OUR_NUMBER
    text: str = ""
    customer: Customer | None = None


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Cellcast sends a webhook to one of the URLs, and should get this HTTP status."""

    at: datetime
    url_name: str
    payload: Any
    with_password: bool = True
    expected_status: int = 200


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Cellcast sends many webhooks at the same moment."""

    at: datetime
    webhooks: list[Webhook]


@dataclass(frozen=True, kw_only=True)
class OptIn:
    """One of our staff ends a customer's opt-out."""

    at: datetime
    number: str
    note: str
    username: str


Step = Sending | Webhook | Burst | OptIn

NOTICES = 54
NOTICES_OF_LAST_MONTH = 40
NOTICE_TEXT = "BrightTeeth: your check-up is due. Call us, or reply to this. Reply STOP to opt-out"
NOTICE_REPORTS: list[list[Report]] = [
    *[[(1, "delivered")] for _ in range(12)],
    [(2, "queued"), (25, "delivered")],
    [(2, "queued"), (180, "expired")],
    [(1, "rejected")],
    [(4, "failed")],
    [(1, "dead")],
    [],
]

REASONS = {"failed": "Absent subscriber", "rejected": "Invalid destination address"}

BURST_HOURS_AGO = 26
BURST_NUMBERS = [
    *[customer.number for customer in CUSTOMERS if not customer.opts_out_after],
    *OTHER_NUMBERS,
]
BURST_TEXT = "BrightTeeth: we are closed next Monday 🎉 Reply STOP to opt-out"
BURST_DUPLICATES = 5

_numbers = count(1)


def everything(now: datetime) -> list[Step]:
    """Return all that happened before ``now``."""
    steps: list[Step] = [*_last_month(now), *_notices(now), *_burst(now), *_oddities(now)]
    steps += [*_two_own_numbers(now), *_first_opt_out(now)]
    for customer in CUSTOMERS:
        steps += _customer(customer, now)
    return sorted(steps, key=lambda step: step.at)


def new_id(at: datetime) -> str:
    """Return a new id as MongoDB generates it, beginning with the time."""
    return f"{int(at.timestamp()):08x}2e1c012dfe{next(_numbers):06x}"


def reply(at: datetime, number: str, text: str, **changes: Any) -> Webhook:
    """Return the webhook of a customer's reply."""
    changes = {"sender": number, "receiver": OUR_NUMBER, "message": text} | changes
    return Webhook(at=at, url_name="webhook-receiver", payload=reply_payload(**changes))


def report(at: datetime, number: str, status: str, cellcast_id: str) -> Webhook:
    """Return the webhook of a delivery report."""
    changes = {"_id": cellcast_id, "status": status, "sender": OUR_NUMBER, "receiver": number}
    if status in REASONS:
        changes["reason"] = REASONS[status]
    return Webhook(at=at, url_name="webhook-status", payload=status_payload(**changes))


def _sent(
    at: datetime,
    now: datetime,
    number: str,
    text: str,
    reports: list[Report],
    sender: str = OUR_NUMBER,
) -> Iterator[Step]:
    cellcast_id = new_id(at)
    yield Sending(at=at, cellcast_id=cellcast_id, number=number, sender=sender, text=text)
    for minutes, status in reports:
        reported_at = min(at + timedelta(minutes=minutes), now - timedelta(minutes=1))
        yield report(reported_at, number, status, cellcast_id)


def _customer(customer: Customer, now: datetime) -> Iterator[Step]:
    submitted_at = now - timedelta(hours=customer.hours_ago)
    cellcast_id = new_id(submitted_at)
    yield Sending(
        at=submitted_at + timedelta(seconds=1),  # after a report that is quicker than the response
        cellcast_id=cellcast_id,
        number=customer.number,
        customer=customer,
    )
    for minutes, status in customer.reports:
        at = submitted_at + timedelta(minutes=minutes)
        for _ in range(customer.repeated):
            yield report(at, customer.number, status, cellcast_id)
    for minutes, who, text in customer.lines:
        at = submitted_at + timedelta(minutes=minutes)
        if who == THEY:
            changes = {"_id": cellcast_id}
            if customer.answers_in_reply:
                changes |= {"reply": text, "message": "See you? Reply STOP to opt-out"}
            for _ in range(customer.repeated):
                yield reply(at, customer.number, text, **changes)
        else:
            yield from _sent(at, now, customer.number, text, [(1, "delivered")])
    if customer.opts_out_after:
        at = submitted_at + timedelta(minutes=customer.opts_out_after)
        national_number = customer.number.removeprefix("+61")
        for _ in range(2):
            payload = opt_out_payload(contact=national_number)
            yield Webhook(at=at, url_name="webhook-opt-out", payload=payload)


def _last_month(now: datetime) -> Iterator[Step]:
    """Yield some of the calendar month before, for *Figures*."""
    noon = timezone.localtime(now).replace(day=1, hour=12, minute=0, second=0, microsecond=0)
    for n in range(NOTICES_OF_LAST_MONTH):
        at = noon - timedelta(days=1 + n * 26 / NOTICES_OF_LAST_MONTH)
        yield from _notice(n, at, now)


def _notices(now: datetime) -> Iterator[Step]:
    for n in range(NOTICES):
        at = now - timedelta(hours=47) + timedelta(minutes=50 * n + n * n * 7 % 37)
        yield from _notice(n, at, now)


def _notice(n: int, at: datetime, now: datetime) -> Iterator[Step]:
    number = OTHER_NUMBERS[n % len(OTHER_NUMBERS)]
    reports = NOTICE_REPORTS[(n * 5 + 2) % len(NOTICE_REPORTS)]
    return _sent(at, now, number, NOTICE_TEXT, reports)


def _two_own_numbers(now: datetime) -> Iterator[Step]:
    """Yield what a customer of the clinic writes to its second number, and our answer from it."""
    at = now - timedelta(hours=5)
    text = "Kim Nguyen here. Can you see my daughter on Friday too?"
    yield reply(at, KIM.number, text, receiver=CHILDRENS_NUMBER, _id=new_id(at))
    answer = "Friday at 4 is free. Shall we book it?"
    at += timedelta(minutes=6)
    yield from _sent(at, now, KIM.number, answer, [(1, "delivered")], sender=CHILDRENS_NUMBER)
    at += timedelta(minutes=40)
    yield reply(at, KIM.number, "Great, yes", receiver=CHILDRENS_NUMBER, _id=new_id(at))


def _burst(now: datetime) -> Iterator[Step]:
    at = now - timedelta(hours=BURST_HOURS_AGO)
    reported_at = at + timedelta(seconds=20)
    reports = []
    for number in BURST_NUMBERS:
        cellcast_id = new_id(at)
        yield Sending(at=at, cellcast_id=cellcast_id, number=number, text=BURST_TEXT)
        reports.append(report(reported_at, number, "delivered", cellcast_id))
    yield Burst(at=reported_at, webhooks=reports + reports[:BURST_DUPLICATES])


def _first_opt_out(now: datetime) -> Iterator[Step]:
    """Yield an opt-out of a customer, and its end; in ``people.py`` she opts out once more."""
    at = now - timedelta(days=12)
    yield reply(at, GRACE.number, "Stop", _id=new_id(at))
    at += timedelta(days=2)
    yield reply(at, GRACE.number, "START", _id=new_id(at))
    at += timedelta(minutes=50)
    note = "Wrote START, and said on the phone that she wants reminders again"
    yield OptIn(at=at, number=GRACE.number, note=note, username="jo")


def _oddities(now: datetime) -> Iterator[Step]:
    """Yield the rare cases: other shapes, what cannot be understood, strangers."""
    yield Webhook(  # from a v3 account: an array of one
        at=now - timedelta(hours=20),
        url_name="webhook-receiver",
        payload=[
            {
                "from": STRANGER,
                "body": "Do you have time on Friday?",
                "received_at": "2026-01-01 12:00:00",
                "message_id": "7A1B0C5E-2D1F-4C1B-9C55-0D8E5A6B7C11",
                "type": "SMS",
            }
        ],
    )
    picture = mms_payload(_id=new_id(now), sender=STRANGER, receiver=OUR_NUMBER)
    yield Webhook(at=now - timedelta(hours=19), url_name="webhook-receiver", payload=picture)
    nameless = {"status": "delivered", "type": "send", "receiver": STRANGER}
    yield Webhook(
        at=now - timedelta(hours=16),
        url_name="webhook-status",
        payload=nameless,
        expected_status=400,
    )
    yield Webhook(
        at=now - timedelta(hours=9),
        url_name="webhook-receiver",
        payload=b"hello?",
        expected_status=400,
    )
    yield Webhook(
        at=now - timedelta(hours=8),
        url_name="webhook-receiver",
        payload=reply_payload(message="Let me in"),
        with_password=False,
        expected_status=401,
    )
