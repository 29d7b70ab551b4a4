"""Programs that are killed before each of their statements in turn, until one comes to its end.

Run as ``python -m tests.killed_processes NAME``. Each prints a line for each death, which the test
reads, and looks then whether what was begun can be ended.
"""

import json
import sys
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
    HandlerCall,
    Message,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, read, reply_payload  # noqa: E402
from cellcast_django.signals import exactly_once, in_order, message_received  # noqa: E402
from tests.handlers import call_of, make_due  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402


def store(contact: str, text: str) -> Stored:
    """Store a reply, whose calls are to be made."""
    body = json.dumps(reply_payload(sender=contact, message=text)).encode()
    payloads = read(body, "application/json", Endpoint.RECEIVE)
    return inbox.store(payloads, endpoint=Endpoint.RECEIVE)


def run_handlers(*options: str) -> None:
    call_command("cellcast_run_handlers", *options, stdout=StringIO(), stderr=StringIO())


# A handler marked ``exactly_once``: its rows and its call's end are there both, or neither


@exactly_once
def write_two(event: WebhookEvent, **kwargs: Any) -> None:
    for number in range(2):
        Message.objects.create(key=f"{event.pk} {number}")


def write_once() -> None:
    message_received.connect(write_two)
    for statements in count():
        stored = store("0400000000", str(statements))
        [event] = stored
        written = Message.objects.filter(key__startswith=f"{event.pk} ")
        status = act_and_be_killed(partial(handlers.run, stored.calls), statements)
        found = written.count(), HandlerCall.objects.get(event=event).state
        print({(0, "running"): "neither", (2, "done"): "both"}.get(found, found))
        if status == 0:
            return
        make_due(event)
        handlers.run_due([event.pk])
        assert written.count() == 2


# A handler that raises once for YES, so that CANCEL waits for it: the booking ends as cancelled

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


PROGRAMS = {
    "exactly_once": write_once,
    "in_order": keep_order,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
