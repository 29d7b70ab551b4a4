"""A process killed before each statement of a webhook, one after the other.

While it is stored and its handlers are called; while it is deferred; and while the deferred event
is read. Prints for each what is there: ``none``, ``kept`` (the event alone), or ``all``; else what.
Then Cellcast sends again what was not answered, what is due is run, and each row must be there
once, and each fact told once.
"""

from functools import partial
from io import StringIO
from itertools import count, product
from typing import Any
from unittest.mock import patch

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import DatabaseError  # noqa: E402
from django.db.models import QuerySet  # noqa: E402
from django.utils import timezone  # noqa: E402

from cellcast_django.inbox import writing  # noqa: E402
from cellcast_django.models import (  # noqa: E402
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from cellcast_django.receiving import receive  # noqa: E402
from cellcast_django.signals import exactly_once  # noqa: E402
from tests.handlers import SIGNALS  # noqa: E402
from tests.killed import act_and_be_killed  # noqa: E402

FACTS = {"report": 1, "known": 2, "reply": 1, "STOP": 2}


@exactly_once
def tell(event: WebhookEvent, signal: Any, **kwargs: Any) -> None:
    """Write a row, which is how the next process knows of the call."""
    calls = told_to(event.contact).count()
    Message.objects.create(key=f"told {event.contact} {calls}")


def told_to(contact: str) -> QuerySet[Message]:
    return Message.objects.filter(key__startswith=f"told {contact} ")


def send(kind: str, contact: str, status: str = "delivered") -> None:
    """Receive one webhook of this contact."""
    said = f'"type": "receive", "message": "{kind}", "sender": "{contact}"'
    endpoint = Endpoint.RECEIVE
    if kind in {"report", "known"}:
        said = f'"type": "send", "status": "{status}", "receiver": "{contact}"'
        endpoint = Endpoint.STATUS
    body = f'{{"_id": "{contact}", {said}}}'
    receive(read(body.encode(), "application/json", endpoint), endpoint=endpoint)


def send_and_be_deferred(kind: str, contact: str) -> None:
    """Receive a webhook that the database does not store for now."""
    with patch.object(writing, "write", side_effect=DatabaseError):
        send(kind, contact)


def run_all(contact: str = "") -> None:
    """Run the command, for which all is due that a contact has."""
    calls = HandlerCall.objects.unfinished().filter(event__contact=contact)
    calls.update(next_attempt_at=timezone.now())
    call_command("cellcast_run_handlers", stdout=StringIO(), stderr=StringIO())


def found(kind: str, contact: str) -> str:
    """Return whether all rows that a webhook makes are there, or the event alone, or none."""
    events = WebhookEvent.objects.filter(contact=contact)
    tables: list[QuerySet[Any]] = [
        events.filter(outcome=WebhookEvent.Outcome.STORED),
        StatusChange.objects.filter(message__contact=contact, event__isnull=False),
        Message.objects.filter(contact=contact),
        OptOut.objects.active().filter(contact=contact, event__isnull=False),
        OptOutChange.objects.filter(opt_out__contact=contact, event__isnull=False),
    ]
    counts = [rows.count() for rows in tables]
    whole = {"STOP": [1] * 5, "known": [2, 2, 1, 0, 0]}.get(kind, [1, 1, 1, 0, 0])
    before = [1, 1, 1, 0, 0] if kind == "known" else [0] * 5
    kept = events.deferred().count()
    known = {(0, *before): "none", (1, *before): "kept", (0, *whole): "all"}
    return known.get((kept, *counts), f"{kept} {counts}")


def main() -> None:
    """Kill one process after the other, until one has come to its end."""
    for signal in SIGNALS:
        signal.connect(tell, dispatch_uid="tell")
    acts = {"storing": send, "deferring": send_and_be_deferred, "reading": None}
    for place, (way, kind) in enumerate(product(acts, FACTS)):
        for statements in count():
            contact = f"+614{place:02}000{statements:03}"
            if kind == "known":
                send(kind, contact, "sent")
            if way == "reading":
                send_and_be_deferred(kind, contact)
            act = acts[way]
            status = act_and_be_killed(
                run_all if act is None else partial(act, kind, contact), statements
            )
            print(way, found(kind, contact))  # what the test reads
            if status and act is not None:
                send(kind, contact)
            run_all(contact)
            assert found(kind, contact) == "all"
            assert told_to(contact).count() == FACTS[kind]
            if status == 0:
                break


if __name__ == "__main__":
    main()
