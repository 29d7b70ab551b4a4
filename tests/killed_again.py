"""A process killed before each statement while it gives past events to a handler.

Then the command is given again. Prints for each death whether the handlers have had each event:
``once``, or ``twice`` for a plain handler whose end was not saved; one ``exactly_once`` has
written one row for each event in any case.
"""

from collections import Counter
from functools import partial
from io import StringIO
from itertools import count
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from cellcast_django import inbox  # noqa: E402
from cellcast_django.models import Message, WebhookEvent  # noqa: E402
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from cellcast_django.signals import exactly_once, in_order, message_received  # noqa: E402
from tests.handlers import make_due  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402

EVENTS = 3


def note(event: WebhookEvent, kind: str) -> None:
    """Write a row, which is how the next process knows of the call."""
    calls = Message.objects.filter(key__startswith=f"{kind} {event.pk} ").count()
    Message.objects.create(key=f"{kind} {event.pk} {calls}")


@in_order
def plain(event: WebhookEvent, **kwargs: Any) -> None:
    """Be called again if the process dies before that is saved."""
    note(event, "plain")


@in_order
@exactly_once
def once(event: WebhookEvent, **kwargs: Any) -> None:
    """Write one row for each event."""
    note(event, "once")


def store(contact: str) -> list[WebhookEvent]:
    """Store replies of a contact before anybody is connected: they are done."""
    bodies = [
        f'{{"_id": "1", "type": "receive", "message": "{number}", "sender": "{contact}"}}'
        for number in range(EVENTS)
    ]
    return [
        inbox.store(read(body.encode(), "", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE)[0]
        for body in bodies
    ]


def give(name: str) -> None:
    """Give all past events to the handler."""
    options = ["--again", name, "--since", "1h"]
    call_command("cellcast_run_handlers", *options, stdout=StringIO(), stderr=StringIO())


def main() -> None:
    """Kill one process after the other, until one has come to its end."""
    handlers = {"plain": plain, "once": once}
    for name, handler in handlers.items():
        for statements in count():
            events = store(f"+6149157{list(handlers).index(name)}{statements:03}")
            message_received.connect(handler, dispatch_uid=name)
            status = act_and_be_killed(partial(give, name), statements)
            for event in events:
                make_due(event)
            give(name)
            calls = Counter(
                Message.objects.filter(key__startswith=f"{name} {event.pk} ").count()
                for event in events
            )
            assert {WebhookEvent.objects.get(pk=event.pk).state for event in events} == {"done"}
            assert set(calls) <= ({1} if name == "once" else {1, 2}), calls
            print("twice" if calls[2] else "once")  # what the test reads
            message_received.disconnect(dispatch_uid=name)
            if status == 0:
                break


if __name__ == "__main__":
    main()
