"""A shop's winter and spring: all that can be stored, by the product's own code."""

import json
import logging
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings
from django.utils import timezone

from cellcast_django import handlers
from cellcast_django.admin.actions import Dismiss
from cellcast_django.inbox import writing
from cellcast_django.models import HandlerCall, Message, WebhookEvent
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.payloads import Endpoint, read
from cellcast_django.receiving import receive
from cellcast_django.recovery import recover
from cellcast_django.signals import (
    GiveUp,
    RetryLater,
    in_order,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.statuses import Status
from cellcast_django.testing import (
    WebhookClient,
    mms_payload,
    opt_out_payload,
    reply_payload,
    status_payload,
)
from cellcast_django.upkeep.retention import Selection, prune
from tests.fake_cellcast import KEY, serving
from tests.handlers import connected

OWN = "+61491570156"
ANN, BOB, CLEO, DAN, EVE = (f"+61491{end}" for end in (570006, 570157, 570158, 570159, 570110))
FAY, GUS, HAL, IDA, JIM = (f"+61491{end}" for end in (570313, 570737, 571266, 571491, 571804))
"""Customers: numbers that belong to nobody."""

client = WebhookClient(raise_handler_errors=False)


class Clock:
    """Stands for ``datetime``: moves by a second whenever somebody looks, and otherwise by hand."""

    at = datetime(2026, 8, 3, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        cls.at += timedelta(seconds=1)
        return cls.at


def new_id() -> str:
    """Return an id as Cellcast gives it: the time first."""
    return f"{int(Clock.now().timestamp()):08x}{'0' * 16}"


def sent(receiver: str, body: str = "Your order is ready", **options: Any) -> str:
    """Record a message as the shop's own code sends it; return its id."""
    return Message.objects.record_sent(
        new_id(), receiver=receiver, sender=OWN, body=body, **options
    ).cellcast_id


def answered(sender: str, text: str, **changes: Any) -> Message:
    """Let a customer answer; return the reply."""
    client.reply(_id=new_id(), sender=sender, receiver=OWN, message=text, **changes)
    return Message.objects.latest("pk")


def confirm(**kwargs: Any) -> None:
    """Fail in each way that there is."""
    message = kwargs["message"]
    if message.body == "Can you call me?":
        raise ValueError(f"nobody is free to call {message.contact}")
    if message.body == "Later, please":
        raise RetryLater(timedelta(hours=1))
    if message.body == "Is this Joe's?":
        raise GiveUp("not one of our orders")


@in_order
def book(**kwargs: Any) -> None:
    """Fail never."""


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the core's tables as they are now, by model."""
    models = apps.get_app_config("cellcast_django").get_models()
    found = {each._meta.label: list(each._base_manager.order_by("pk").values()) for each in models}
    for call in found["cellcast_django.HandlerCall"]:  # what differs from run to run
        call["seconds"] = None if call["seconds"] is None else 0.025
        call["location"] = call["location"].replace(str(Path(__file__).parent), "/srv/shop")
    return found


def rows_of_a_shop() -> str:
    """Store everything in an empty database; return it as JSON with a row a line."""
    found: dict[str, list[dict[str, Any]]] = {}

    def keep(**kwargs: Any) -> None:
        found.update(rows())

    logging.disable()
    with patch("django.utils.timezone.datetime", Clock):
        in_winter()
        Clock.at = datetime(2026, 11, 29, tzinfo=UTC)
        in_spring()
        opted_out()
        recovered()
        with (
            connected(message_received, **{"shop.confirm": confirm, "shop.book": book}),
            connected(status_changed, **{"shop.book": book}),
            connected(opt_out_received, **{"shop.book": book}),
        ):
            redacted()
            called()
        # While the one is called, its call is running, and the other's waits.
        with connected(message_received, **{"shop.slow": keep, "shop.last": book}):
            answered(ANN, "Is the shop open?")
    latest = MigrationLoader(connection).graph.leaf_nodes()
    migrations = {app: name for app, name in latest if app.startswith("cellcast_")}
    text = json.dumps({"migrations": migrations, "rows": found}, default=str, ensure_ascii=False)
    return text.replace('{"id": ', '\n{"id": ') + "\n"


def in_winter() -> None:
    """What the spring prunes: of one message the events alone."""
    ready = sent(ANN, "Hi Ann 🦘, it is ready", reference="order 1")
    client.status(_id=ready, status="delivered", receiver=ANN)
    client.opt_out(contact=BOB)
    answered(ANN, "I will fetch it")
    Clock.at = datetime(2026, 11, 28, tzinfo=UTC)
    client.status(_id=ready, status="delivered", receiver=ANN)
    prune(Selection(before=timezone.now() - timedelta(days=90)))


def in_spring() -> None:
    """Reports of each status, late and with a reason; replies of all kinds; rubbish; tests."""
    told = sent(BOB, reference="order 2", username="grace")  # although BOB has opted out
    every = [*Status, "lost in the post"]
    client.webhook([status_payload(_id=told, status=each) for each in every], "status")
    ready = sent(CLEO, reference="Bestellung Ü")
    client.status(_id=ready, status="delivered", receiver=CLEO)
    client.status(_id=ready, status="sent", receiver=CLEO)
    client.status(_id=new_id(), status="failed", receiver=DAN, reason="no such number")
    sent(DAN)
    asked = answered(CLEO, "When do you close?", original_body="Your order is ready")
    sent(CLEO, "At five", answers=asked, username="grace")
    answered(CLEO, "Thanks ☕").mark_handled(note="she came by ☂")
    client.webhook(mms_payload(_id=new_id(), sender=CLEO, receiver=OWN), "receive")
    twice = reply_payload(_id=new_id(), sender=DAN, receiver=OWN, message="On my way")
    client.webhook([twice, twice], "receive")
    form = urlencode(reply_payload(_id=new_id(), sender=DAN, receiver=OWN)).encode()
    client.webhook(form, "receive", "application/x-www-form-urlencoded")
    client.webhook(b"\xff{broken", "receive")
    client.webhook([status_payload(_id=new_id(), receiver=IDA), {"status": "sent"}, 5], "status")
    client.webhook(b"nobody will ever read this", "opt_out")
    Dismiss().run(WebhookEvent.objects.latest("pk").pk, "grace")
    for endpoint, payload in {
        Endpoint.RECEIVE: reply_payload(_id=new_id(), message="This is a test"),
        Endpoint.STATUS: status_payload(_id=new_id()),
        Endpoint.OPT_OUT: opt_out_payload(),
    }.items():
        payloads = read(json.dumps(payload).encode(), "", endpoint)
        receive(payloads, endpoint=endpoint, is_test=True)


def opted_out() -> None:
    """By each source but Cellcast's list; twice, ended, and begun again."""
    answered(DAN, "STOP")
    asked = answered(EVE, "please stop texting me")
    opt_out(EVE, note="asked in a text", username="grace", asked_in=asked)
    opt_out(EVE, note="and on the phone", username="ada")
    opt_out(FAY, note="asked at the counter")
    opt_in(FAY, note="wants them again", username="grace")
    client.opt_out(contact=GUS)
    client.opt_out(contact=GUS)
    opt_in(GUS)
    client.opt_out(contact=GUS)


def recovered() -> None:
    """What Cellcast's lists know; and cron's command, which sends a mail."""
    with serving() as cellcast:
        cellcast.add_reply(Clock.now() - timedelta(hours=1), IDA[3:], "Did you get my text?")
        cellcast.add_report(new_id(), Clock.now(), receiver=IDA[3:])
        cellcast.add_opt_out(JIM[3:])
        with override_settings(CELLCAST_API_URL=cellcast.url, CELLCAST_API_KEY=KEY):
            recover()
    with override_settings(CELLCAST_MAIL_REPLIES_TO=["staff@example.com"]):
        call_command("cellcast_run_handlers", stdout=StringIO())


def redacted() -> None:
    """What was sent and its reason, a reply, and a call that failed."""
    told = sent(HAL, reference="order 3")
    client.status(_id=told, status="failed", receiver=HAL, reason=f"{HAL} is switched off")
    with override_settings(CELLCAST_HANDLER_MAX_ATTEMPTS=1):
        answered(HAL, "Can you call me?")
    prune(Selection(number=HAL, redact=True, include_failed=True))


def called() -> None:
    """Calls in every state but running; what is deferred holds up those in order."""
    answered(DAN, "STOP")
    client.opt_out(contact=HAL)
    with override_settings(CELLCAST_HANDLER_MAX_ATTEMPTS=1):
        answered(CLEO, "Can you call me?")
        skipped = answered(CLEO, "Can you call me?")
    calls = HandlerCall.objects.failed().filter(event__message=skipped)
    handlers.skip(calls, username="grace")
    answered(FAY, "Can you call me?")
    answered(FAY, "Later, please")
    answered(FAY, "Is this Joe's?")
    with patch.object(writing, "write", side_effect=DatabaseError("deferred")):
        client.status(_id=new_id(), status="sent", receiver=IDA)
        client.reply(_id=new_id(), sender=IDA, receiver=OWN, message="STOP")
    answered(IDA, "Are you there?")
    with override_settings(CELLCAST_RUN_HANDLERS="queue"):  # which is not there
        answered(FAY, "Hello?")
