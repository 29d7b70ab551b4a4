"""A process killed before each statement that stores a STOP, one after the other.

Prints for each whether all of the STOP's rows are there or none: ``all`` or ``none``, else which.
Then the webhook comes again, and each row must be there once.
"""

from functools import partial
from itertools import count
from typing import Any

import django

django.setup()

from django.db.models import QuerySet  # noqa: E402

from cellcast_django import inbox  # noqa: E402
from cellcast_django.models import (  # noqa: E402
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402


def store(contact: str) -> None:
    """Store a STOP of this contact."""
    body = f'{{"_id": "1", "type": "receive", "message": "STOP", "sender": "{contact}"}}'
    inbox.store(
        read(body.encode(), "application/json", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE
    )


def rows_of(contact: str) -> list[QuerySet[Any]]:
    """Return what a STOP of this contact makes, table by table."""
    return [
        Message.objects.filter(contact=contact),
        StatusChange.objects.filter(message__contact=contact, event__isnull=False),
        WebhookEvent.objects.filter(contact=contact, outcome=WebhookEvent.Outcome.STORED),
        OptOut.objects.active().filter(contact=contact, event__isnull=False),
        OptOutChange.objects.filter(opt_out__contact=contact, event__isnull=False),
    ]


def main() -> None:
    """Kill one process after the other, until one has come to its end."""
    for statements in count():
        contact = f"+614000000{statements:02}"
        status = act_and_be_killed(partial(store, contact), statements)
        found = str({rows.count() for rows in rows_of(contact)})
        print({"{0}": "none", "{1}": "all"}.get(found, found))  # what the test reads
        if status == 0:
            return
        store(contact)
        assert [rows.count() for rows in rows_of(contact)] == [1] * 5


if __name__ == "__main__":
    main()
