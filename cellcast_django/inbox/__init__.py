"""From payloads to rows: one transaction stores messages, their history and the events.

The transaction's first statement writes, which locks the messages' rows and then those of the
opt-outs; every decision is made under these locks. So racing copies of one webhook end as one
message, one status change, one opt-out and one run of handlers, on every database. Start with
``store``.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeGuard

from django.db import connections
from django.utils import timezone

from cellcast_django.database import transactions
from cellcast_django.database.transactions import with_retries
from cellcast_django.inbox import portable
from cellcast_django.inbox.fields import kind_of, message_fields, reason_of
from cellcast_django.inbox.opt_outs import opt_out_contact
from cellcast_django.inbox.recovered import RecoveredBeforeError, may_be_recovered, refuse_recovered
from cellcast_django.inbox.single_statement import mariadb, postgresql, sqlite, statement
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_USERNAME_LENGTH,
    Message,
    WebhookEvent,
    database_alias,
    fields_when_stored,
)
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut,
    Payload,
    RecoveredReply,
    RecoveredReport,
    Reply,
    StatusReport,
    clean,
    read,
)
from cellcast_django.signals import message_received, status_changed
from cellcast_django.statuses import PRECEDENCE

WRITERS: dict[str, statement.Writer] = {
    "MariaDB": mariadb.one_statement,
    "PostgreSQL": postgresql.one_statement,
    "SQLite": sqlite.write,
}
"""What writes the common case, by ``display_name``, as MariaDB and MySQL are one vendor to Django.
Other databases take the portable way."""


def store(
    payloads: Sequence[Payload],
    *,
    endpoint: Endpoint,
    content_type: str = "",
    username: str = "",
    is_test: bool = False,
    outbox: portable.Outbox | None = None,
) -> list[WebhookEvent]:
    """Store the payloads of one webhook, and return one event for each, in the same order.

    When this returns, the transaction has committed. What was reported before is a ``duplicate``,
    and so is the opt-out of a contact who is opted out already. An event that has something to
    run has ``next_run_at`` set, and its first attempt counts as begun when handlers
    run inline.

    ``outbox`` is called inside the transaction with the ids of those events, so that whatever it
    writes to the same database commits with the webhook. If it raises, nothing is stored.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then. A deadlock, a lock
    timeout and a lost connection are retried first.
    """
    origin = {
        "endpoint": endpoint.value,
        "content_type": clean(content_type)[:MAX_CONTENT_TYPE_LENGTH],
        "username": clean(username)[:MAX_USERNAME_LENGTH],
        "is_test": is_test,
        "received_at": timezone.now(),
    }
    return with_retries(
        lambda using: _write(using, payloads, origin, outbox), using=database_alias()
    )


def reprocess(event: WebhookEvent) -> list[WebhookEvent]:
    """Read an invalid event again, and return the events it has become.

    The event keeps its id. If it still cannot be understood, it stays invalid with the new reason.
    For an event that is not invalid (any more), nothing is written or returned. Raises
    ``django.db.Error`` as ``store`` does.
    """
    payloads = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    origin = {
        "endpoint": event.endpoint,
        "content_type": event.content_type,
        "username": event.username,
        "is_test": event.is_test,
        "received_at": event.received_at,
    }
    try:
        return with_retries(
            lambda using: _write(using, payloads, origin, replaced=event), using=database_alias()
        )
    except portable.NoLongerInvalidError:
        return []


# The two ways


def _write(
    using: str,
    payloads: Sequence[Payload],
    origin: dict[str, Any],
    outbox: portable.Outbox | None = None,
    *,
    replaced: WebhookEvent | None = None,
) -> list[WebhookEvent]:
    transactions.ensure_autocommit(connections[using])
    if replaced is None and len(payloads) == 1 and _is_common(payloads[0], using):
        with suppress(RecoveredBeforeError):
            return [_write_common(payloads[0], using, origin, outbox)]
    return portable.write(using, payloads, origin, outbox=outbox, replaced=replaced)


def _is_common(payload: Payload, using: str) -> TypeGuard[Reply | StatusReport]:
    """Whether it has a known status, opts nobody out, and this database has a writer."""
    if isinstance(payload, Invalid | OptOut | RecoveredReply | RecoveredReport):
        return False
    if opt_out_contact(payload):
        return False
    return payload.status in PRECEDENCE and connections[using].display_name in WRITERS


def _write_common(
    payload: Reply | StatusReport,
    using: str,
    origin: dict[str, Any],
    outbox: portable.Outbox | None,
) -> WebhookEvent:
    has_handlers = bool(
        status_changed.handlers(Message)
        or (isinstance(payload, Reply) and message_received.handlers(Message))
    )
    values = message_fields(payload)
    values |= {"status": payload.status, "kind": kind_of(payload).value, "raw": payload.raw}
    values |= {"reason": reason_of(payload), "precedence": PRECEDENCE[payload.status]}
    values |= origin | fields_when_stored(origin["received_at"], has_handlers=has_handlers)
    connection = connections[using]
    confirm = None
    if isinstance(payload, Reply) and not values["is_test"] and may_be_recovered(values["contact"]):
        confirm = partial(
            refuse_recovered, using, values["contact"], payload.body, values["received_at"]
        )
    return statement.write(connection, WRITERS[connection.display_name], values, outbox, confirm)
