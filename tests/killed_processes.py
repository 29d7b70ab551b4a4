"""A program that is killed before each of its statements in turn, until one comes to its end.

A handler raises once for YES, so that CANCEL waits for it: the booking ends as cancelled. It prints
a line for each death, which the test reads, and looks then whether what was begun can be ended.
"""

import json
from functools import partial
from io import StringIO
from itertools import count
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402

from cellcast_django import handlers, inbox  # noqa: E402
from cellcast_django.conf import conf  # noqa: E402
from cellcast_django.inbox import Stored  # noqa: E402
from cellcast_django.models import (  # noqa: E402
    Message,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, read, reply_payload  # noqa: E402
from cellcast_django.signals import in_order, message_received  # noqa: E402
from tests.handlers import call_of, make_due  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402


def store(contact: str, text: str) -> Stored:
    """Store a reply, whose calls are to be made."""
    body = json.dumps(reply_payload(sender=contact, message=text)).encode()
    payloads = read(body, "application/json", Endpoint.RECEIVE)
    return inbox.store(payloads, endpoint=Endpoint.RECEIVE)


def run_handlers(*options: str) -> None:
    call_command("cellcast_run_handlers", *options, stdout=StringIO(), stderr=StringIO())


errors: list[Exception] = []


@in_order
def book(message: Message, **kwargs: Any) -> None:
    if errors:
        raise errors.pop()
    Message.objects.filter(key=f"booking {message.contact}").update(body=message.body)


def make_both(*both: Stored) -> None:
    """Make both calls until both have ended; the first attempt raises."""
    errors.append(ConnectionError("the calendar is down"))
    for stored in both:
        if conf.run_handlers == "inline":
            handlers.run(stored.calls)
        else:
            handlers.run_due([stored[0].pk])
    assert call_of(both[1][0], "book").state == "waiting"
    make_due(both[0][0])
    handlers.run_due()


def keep_order() -> None:
    """Kill how the first calls begin: inline, or by a task."""
    message_received.connect(book, dispatch_uid="book")
    for prefix, mode in (("570", "inline"), ("580", "default")):
        settings.CELLCAST_RUN_HANDLERS = mode
        for statements in count():
            contact = f"+61491{prefix}{statements:03}"
            booking = Message.objects.create(key=f"booking {contact}")
            both = [store(contact, text) for text in ("YES", "CANCEL")]
            status = act_and_be_killed(partial(make_both, *both), statements)
            for stored in both:
                make_due(stored[0])
            run_handlers()
            booking.refresh_from_db()
            states = {WebhookEvent.objects.get(pk=stored[0].pk).state for stored in both}
            print(mode, booking.body if states == {WebhookEvent.State.DONE} else states)
            if status == 0:
                break


if __name__ == "__main__":
    keep_order()
