"""A process killed before each statement of a handler marked ``exactly_once``, one after the other.

Prints for each whether the handler's row and its call's end are there: ``both`` or ``neither``,
else what is. Then the call is made again, and the row must be there once.
"""

from functools import partial
from itertools import count
from typing import Any

import django

django.setup()

from cellcast_django import handlers, inbox  # noqa: E402
from cellcast_django.inbox import Stored  # noqa: E402
from cellcast_django.models import HandlerCall, Message, WebhookEvent  # noqa: E402
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from cellcast_django.signals import exactly_once, message_received  # noqa: E402
from tests.handlers import make_due  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402


@exactly_once
def write(event: WebhookEvent, **kwargs: Any) -> None:
    """Write two rows."""
    for number in range(2):
        Message.objects.create(key=f"{event.pk} {number}")


def store(number: int) -> Stored:
    """Store a reply, whose calls are to be made."""
    body = f'{{"_id": "1", "type": "receive", "message": "{number}", "sender": "0400000000"}}'
    return inbox.store(
        read(body.encode(), "application/json", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE
    )


def rows(event: WebhookEvent) -> int:
    """Return how many rows the handler has written."""
    return Message.objects.filter(key__startswith=f"{event.pk} ").count()


def state(event: WebhookEvent) -> str:
    """Return which of the rows and the call's end are there."""
    found = rows(event), HandlerCall.objects.get(event=event).state
    return {(0, "running"): "neither", (2, "done"): "both"}.get(found, str(found))


def main() -> None:
    """Kill one process after the other, until one has come to its end."""
    message_received.connect(write)
    for statements in count():
        stored = store(statements)
        [event] = stored
        status = act_and_be_killed(partial(handlers.run, stored.calls), statements)
        print(state(event))  # what the test reads
        if status == 0:
            return
        make_due(event)
        handlers.run_due([event.pk])
        assert rows(event) == 2


if __name__ == "__main__":
    main()
