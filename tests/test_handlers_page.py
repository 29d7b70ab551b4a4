"""docs/reference/signals.md: the table of how a call ends, done line by line."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F

from cellcast_django import inbox, payloads
from cellcast_django.handlers import run_due
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint
from cellcast_django.signals import (
    GiveUp,
    RetryLater,
    exactly_once,
    message_received as received,
)
from cellcast_django.testing import reply_payload
from tests.database_faults import refusing
from tests.handlers import Died, call_of, connected, make_due, pause_of, ran, reply
from tests.pages import table
from tests.test_error_reports import failing

PAGE = "docs/reference/signals.md"


def nothing(**kwargs: Any) -> None:
    pass


def delete(message: Message, **kwargs: Any) -> None:
    message.delete()


def outlive_the_lease(event: WebhookEvent, **kwargs: Any) -> None:
    event.calls.update(version=F("version") + 1)


def commit(**kwargs: Any) -> None:
    if connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("COMMIT")


WHAT_IT_DOES: dict[str, Callable[..., object]] = {
    "returns": nothing,
    "raises an exception, even `SystemExit`": failing(SystemExit(2)),
    "raises `RetryLater(after)`": failing(RetryLater(timedelta(hours=2))),
    "raises `GiveUp(reason)`": failing(GiveUp("never")),
    "is stopped by Ctrl-C, which then ends the process": failing(KeyboardInterrupt()),
    "returns, and leaves a transaction open": nothing,
    "closes the database connection": lambda **kwargs: connection.close(),
    "ends its transaction with a statement such as `COMMIT`": commit,
    "deletes the message": delete,
    "takes longer than the lease": outlive_the_lease,
    "is not reached before the process dies": nothing,
    "ends, and the process dies before that is saved": nothing,
}


def receive(does: str) -> None:
    """Receive a reply; the process may die before a result is saved, or the handler called."""
    if "is not reached" in does:
        payload = json.dumps(reply_payload()).encode()
        inbox.store(payloads.read(payload, "", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE)
    elif "process dies" in does:
        with suppress(Died), refusing("^UPDATE cellcast_django_handlercall", error=Died()):
            reply()
    else:
        with suppress(KeyboardInterrupt):
            reply()


def when(event: WebhookEvent) -> str:
    """Return in the words of the table when the event's handlers are called again."""
    if event.state != "pending":
        return "no" if event.state == "done" else "no, the call has ended"
    pause = pause_of(event, "handler")
    for words, seconds in {
        "after the pause": 60,
        "after the lease": 300,
        "after that time": 7_200,
    }.items():
        if 0.9 * seconds < pause.total_seconds() <= seconds:
            return words
    pytest.fail(f"{pause}")


def documented_rows() -> dict[str, str]:
    """Return what the table says of each case: those of a row are separated by semicolons."""
    rows = table(PAGE, "the handler", "is called again")
    return {does: again for cases, again in rows for does in cases.split("; ")}


# With exactly_once no other case keeps what the handler has written.
KEPT = {"returns", "deletes the message", "ends its transaction with a statement such as `COMMIT`"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mark", [lambda handler: handler, exactly_once], ids=["plain", "once"])
@pytest.mark.parametrize("does", WHAT_IT_DOES)
def test_each_documented_row_is_true(does: str, mark: Callable[..., Any]) -> None:
    again, is_plain = documented_rows()[does], mark is not exactly_once
    is_lost = "transaction open" in does or "is not reached" in does
    act = [WHAT_IT_DOES[does]]

    def handler(**kwargs: Any) -> None:
        if "transaction open" in does and act != [nothing] * 2:
            transaction.atomic().__enter__()
        Message.objects.create(key=f"written {len(act)}")
        act[-1](**kwargs)

    with connected(received, handler=mark(handler)):
        receive(does)
        event = WebhookEvent.objects.get()
        rows = Message.objects.filter(key="written 1").count()
        if "leaves a transaction open" in does and not is_plain:
            error = call_of(event, "handler").error
            assert error.startswith("TransactionLeftOpenError: ")
        assert bool(rows) is (not is_lost if is_plain else does in KEPT)
        if "; with" in again:
            again = again.partition(";")[0] if is_plain else "after the pause"
        if "another process" in again:
            assert call_of(event, "handler").state == "running"
        else:
            assert when(event) in again.replace(", or the lease", "")
        if event.state == "pending":
            act.append(nothing)
            make_due(event)
            ran(run_due)
            assert event.state == "done"
            assert Message.objects.filter(key="written 2").exists()


def test_documented_table_has_no_other_rows() -> None:
    assert set(documented_rows()) == set(WHAT_IT_DOES)
