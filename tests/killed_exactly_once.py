"""A process killed before each statement of a handler marked ``exactly_once``, one after the other.

Prints for each whether the handler's row and its result are there: ``both`` or ``neither``, else
what is. Then the event is run again, and the row must be there once.
"""

from functools import partial
from itertools import count
from typing import Any

import django

django.setup()

from django.utils import timezone  # noqa: E402

from cellcast_django import handlers, inbox  # noqa: E402
from cellcast_django.models import Message, WebhookEvent  # noqa: E402
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from cellcast_django.signals import exactly_once, message_received  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402


@exactly_once
def write(event: WebhookEvent, **kwargs: Any) -> None:
    """Write two rows."""
    for number in range(2):
        Message.objects.create(key=f"{event.pk} {number}")


def store(number: int) -> WebhookEvent:
    """Store a reply, whose run is to begin."""
    body = f'{{"_id": "1", "type": "receive", "message": "{number}", "sender": "0400000000"}}'
    [event] = inbox.store(
        read(body.encode(), "application/json", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE
    )
    return event


def rows(event: WebhookEvent) -> int:
    """Return how many rows the handler has written."""
    return Message.objects.filter(key__startswith=f"{event.pk} ").count()


def state(event: WebhookEvent) -> str:
    """Return which of the rows and the result are there."""
    event.refresh_from_db()
    found = (rows(event), bool(event.handler_results), event.done_at is not None)
    return {(0, False, False): "neither", (2, True, True): "both"}.get(found, str(found))


def main() -> None:
    """Kill one process after the other, until one has come to its end."""
    message_received.connect(write)
    for statements in count():
        event = store(statements)
        status = act_and_be_killed(partial(handlers.run, [event]), statements)
        print(state(event))  # what the test reads
        if status == 0:
            return
        WebhookEvent.objects.filter(pk=event.pk).update(next_run_at=timezone.now())
        handlers.run_due([event.pk])
        assert rows(event) == 2


if __name__ == "__main__":
    main()
