"""A process killed before each statement while two events of a contact are told in their order.

The handler raises once for YES, so CANCEL waits for it. Whenever the process dies, the next
``cellcast_run_handlers`` calls it for both, and the booking ends as cancelled. Prints how it ends
each time, after ``inline`` or ``task``: how the first calls begin.
"""

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
from cellcast_django.models import Message, WebhookEvent  # noqa: E402
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from cellcast_django.signals import in_order, message_received  # noqa: E402
from tests.handlers import call_of, make_due  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402

errors: list[Exception] = []


@in_order
def book(message: Message, **kwargs: Any) -> None:
    """Note the newest answer of a contact, or raise what is to be raised."""
    if errors:
        raise errors.pop()
    Message.objects.filter(key=f"booking {message.contact}").update(body=message.body)


def store(contact: str, text: str) -> Stored:
    """Store a reply, whose call is to be made."""
    body = f'{{"_id": "1", "type": "receive", "message": "{text}", "sender": "{contact}"}}'
    return inbox.store(
        read(body.encode(), "application/json", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE
    )


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


def kill_each(mode: str) -> None:
    """Kill one process after the other, until one has come to its end."""
    settings.CELLCAST_RUN_HANDLERS = mode
    for statements in count():
        contact = f"+61491{'570' if mode == 'inline' else '580'}{statements:03}"
        booking = Message.objects.create(key=f"booking {contact}")
        both = [store(contact, text) for text in ("YES", "CANCEL")]
        status = act_and_be_killed(partial(make_both, *both), statements)
        events = [stored[0] for stored in both]
        for event in events:
            make_due(event)
        call_command("cellcast_run_handlers", stdout=StringIO(), stderr=StringIO())
        booking.refresh_from_db()
        states = {WebhookEvent.objects.get(pk=event.pk).state for event in events}
        print(mode, booking.body if states == {WebhookEvent.State.DONE} else states)
        if status == 0:
            return


if __name__ == "__main__":
    message_received.connect(book, dispatch_uid="book")
    for mode in ("inline", "default"):
        kill_each(mode)
