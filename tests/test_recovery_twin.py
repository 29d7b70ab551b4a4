"""An outage, then a recovery: afterwards the site equals a twin that was never down."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from django.utils import timezone

from cellcast_django.inbox.same_message import alike
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.recovery import Findings, recover
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.testing import WebhookClient
from tests.fake_cellcast import FakeCellcast
from tests.handlers import connected
from tests.stress.scale import scaled

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
DURATION = timedelta(hours=2)
"""For how long there are webhooks; the outage is the middle third."""

TEXTS = ["Yes please", " Yes  please", "No", "ok", "ok", "STOP", "Can we make it nine?\n", ""]
DROPPED = ("never", "before", "during", "after")
"""When a webhook comes that was dropped: before, during or after the recovery, or never."""


@dataclass(frozen=True)
class Happening:
    """One thing that Cellcast tells of, and what becomes of its webhook."""

    number: int
    kind: str
    contact: str
    text: str
    ago: timedelta
    fate: str

    @property
    def cellcast_id(self) -> str:
        return f"{self.number:024x}"


def happenings(count: int) -> Iterator[Happening]:
    random = Random(18)  # noqa: S311
    step = DURATION // MILLISECOND // count * MILLISECOND
    for number in range(count):
        is_down = count // 3 <= number < count * 2 // 3
        yield Happening(
            number=number,
            kind=random.choices(["reply", "status", "opt-out"], [6, 6, 1])[0],
            contact=f"40000{random.randrange(count // 20):04}",
            text=random.choice(TEXTS),
            ago=step * (count - number) + timedelta(minutes=15),
            fate=random.choice(DROPPED) if is_down and random.random() < 0.34 else "in time",
        )


def happen(fake: FakeCellcast, happening: Happening, now: datetime) -> None:
    """What Cellcast knows of it."""
    at = now - happening.ago
    if happening.kind == "reply":
        fake.add_reply(at, number=happening.contact, body=happening.text.strip())
    elif happening.kind == "status":
        fake.add_report(happening.cellcast_id, at, receiver=happening.contact)
    elif happening.contact not in {item["number"] for item in fake.opt_outs}:
        fake.add_opt_out(happening.contact)


def deliver(client: WebhookClient, happening: Happening, now: datetime | None = None) -> None:
    """The webhook that tells of it, late unless it comes as if its time were ``now``."""
    number = f"+61{happening.contact}"
    if happening.kind == "status":
        client.status(_id=happening.cellcast_id, receiver=number)
    elif happening.kind == "opt-out":
        client.opt_out(contact=happening.contact)
    else:
        client.reply(_id=happening.cellcast_id, sender=number, message=happening.text)
        if now is not None:
            new = Message.objects.filter(cellcast_id=happening.cellcast_id)
            new.update(created_at=now - happening.ago + SECOND)


Heard = Counter[tuple[Any, ...]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Each fact that a handler has heard."""
    heard: Heard = Counter()

    def hear_reply(message: Message, **kwargs: Any) -> None:
        heard["reply", *alike(message.contact, message.body)] += 1

    def hear_status(message: Message, status_change: StatusChange, **kwargs: Any) -> None:
        heard["status", message.cellcast_id, status_change.status] += 1

    def hear_opt_out(contact: str, **kwargs: Any) -> None:
        heard["opt-out", contact] += 1

    with (
        connected(message_received, hear_reply=hear_reply),
        connected(status_changed, hear_status=hear_status),
        connected(opt_out_received, hear_opt_out=hear_opt_out),
    ):
        yield heard


def state() -> dict[str, Counter[Any]]:
    """What the database holds, but for the marks of a recovery.

    Those are: a reply whose webhook never came has no id and no receiver, and nothing but
    "received" is known of its status. Times differ where a webhook came late.
    """
    messages = Message.objects.all()
    return {
        "replies": Counter(alike(reply.contact, reply.body) for reply in messages.inbound()),
        "sent": Counter(
            (message.cellcast_id, message.contact, message.status)
            for message in messages.outbound()
        ),
        "histories": Counter(
            (change.message.direction, change.message.contact, change.applied)
            for change in StatusChange.objects.select_related("message")
        ),
        "opt-outs": Counter(OptOut.objects.active().values_list("contact", flat=True)),
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("count", [240, pytest.param(scaled(10_000), marks=pytest.mark.stress)])
def test_site_that_was_down_equals_its_twin_after_a_recovery(
    fake_cellcast: FakeCellcast, client: WebhookClient, heard: Heard, count: int
) -> None:
    everything = list(happenings(count))
    by_fate = {fate: [h for h in everything if h.fate == fate] for fate in ("in time", *DROPPED)}
    assert all(len(some) >= 5 for some in by_fate.values())

    now = timezone.now().replace(microsecond=0)
    for happening in everything:
        deliver(client, happening, now)
    of_the_twin, heard_by_the_twin = state(), Counter(heard)
    for model in (OptOut, WebhookEvent, Message):
        model._default_manager.all().delete()
    heard.clear()

    fake_cellcast.page_size = 20
    for happening in everything:
        happen(fake_cellcast, happening, now)
        if happening.fate == "in time":
            deliver(client, happening, now)
    for happening in by_fate["before"]:
        deliver(client, happening)
    during = iter(by_fate["during"])

    def come_late(findings: Findings) -> None:
        for happening in during:
            deliver(client, happening)
            return

    found = recover(progress=come_late)
    assert [findings.error for findings in found] == [""] * 3
    assert next(during, None) is None
    for happening in by_fate["after"]:
        deliver(client, happening)

    assert heard == heard_by_the_twin
    assert state() == of_the_twin
    never = [happening for happening in by_fate["never"] if happening.kind == "reply"]
    recovered = Message.objects.filter(cellcast_id="")
    assert recovered.count() == len(never)
    dropped = {round(h.ago / MILLISECOND) for h in everything if h.fate != "in time"}
    assert {round((now - message.created_at) / MILLISECOND) for message in recovered} <= dropped

    events = WebhookEvent.objects.count()
    assert [(each.missing, each.stored) for each in recover()] == [(0, 0)] * 3
    assert WebhookEvent.objects.count() == events
    assert heard == heard_by_the_twin
