"""Fills a PostgreSQL database with a year of traffic, by SQL: ``INSERT … SELECT``.

Of ten messages eight were sent, half of these have three rows of history and half have four; a
reply has one. Each row of the history has its event; that of a failure gives one of 40 reasons.
There is one contact for ten messages, and one more who has written and been written to 50,000
times. A reply in a hundred is a STOP, and nine in ten are handled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.progress import show
from cellcast_django.statuses import UNDELIVERED

CHUNK = 250_000
"""Messages that one statement makes, so that progress can be seen."""
BUSY_CONTACT = "+61499000000"
TABLES = tuple(
    f"cellcast_django_{name}" for name in ("message", "webhookevent", "statuschange", "optout")
)

# A number that looks random follows from the message's id: the same in every run.
MESSAGES = """
WITH numbers AS (
    SELECT id,
        now() - interval '10 minutes' - (%(count)s - id) * (interval '365 days' / %(count)s) AS at,
        ('x' || substr(hash, 1, 7))::bit(28)::int AS one,
        ('x' || substr(hash, 8, 7))::bit(28)::int AS other,
        hash
    FROM generate_series(%(first)s, %(last)s) AS id, md5(id::text) AS hash
),
parts AS (
    SELECT id, at, one, hash, other %% 10 < 8 AS is_sent,
        lpad(to_hex(extract(epoch FROM at)::bigint), 8, '0') || substr(hash, 9, 16) AS cellcast_id,
        CASE WHEN other %% greatest(%(count)s / 50000, 20) = 7 THEN '+61499000000'
             ELSE '+6140' || lpad((one %% greatest(%(count)s / 10, 1))::text, 7, '0')
        END AS contact
    FROM numbers
)
INSERT INTO cellcast_django_message (
    id, key, direction, cellcast_id, sender, receiver, own_number, contact, body, original_body,
    media, reference, status, previous_status, submitted_at, created_at, status_changed_at,
    handled_at, handled_by, sent_by
)
SELECT id, md5('key' || id), CASE WHEN is_sent THEN 'outbound' ELSE 'inbound' END, cellcast_id,
    CASE WHEN is_sent THEN 'cellcast' ELSE contact END,
    CASE WHEN is_sent THEN contact ELSE '+61481000000' END,
    CASE WHEN is_sent THEN 'cellcast' ELSE '+61481000000' END,
    contact,
    CASE WHEN is_sent THEN 'Your appointment is on Tuesday at ' || one %% 12 || '. Reply YES.'
         WHEN one %% 100 = 50 THEN 'STOP'
         ELSE (ARRAY['Yes please', 'No, sorry', 'Can I come later?'])[1 + one %% 3] END,
    '', '[]', CASE WHEN is_sent THEN 'appointment-' || id ELSE '' END,
    CASE WHEN NOT is_sent OR one %% 100 < 90 THEN 'delivered'
         WHEN one %% 100 < 93 THEN 'failed' WHEN one %% 100 < 96 THEN 'expired'
         WHEN one %% 100 < 97 THEN 'rejected' WHEN one %% 100 < 98 THEN 'dead' ELSE 'sent' END,
    CASE WHEN is_sent THEN 'sent' ELSE '' END,
    CASE WHEN is_sent THEN date_trunc('second', at) END, at,
    CASE WHEN is_sent THEN at + (one %% 300) * interval '1 second' ELSE at END,
    CASE WHEN NOT is_sent AND one %% 10 > 0 THEN at + interval '1 hour' END,
    CASE WHEN NOT is_sent AND one %% 10 > 0 THEN 'kim' ELSE '' END, ''
FROM parts
"""

# The steps of a message, as far as it has come; the last one is its status.
STEPS = """
WITH steps AS (
    SELECT message.*, step, id * 4 + step AS number,
        CASE WHEN direction = 'inbound' THEN 'delivered'
             ELSE (ARRAY['received', 'sent', status, 'queued'])[step] END AS word,
        CASE WHEN direction = 'inbound' THEN created_at
             ELSE created_at + (status_changed_at - created_at) * (step %% 4) / 3 END AS heard_at
    FROM cellcast_django_message AS message, generate_series(1, 4) AS step
    WHERE id BETWEEN %(first)s AND %(last)s
        AND (direction = 'outbound' OR step = 1) AND (step < 4 OR id %% 2 = 0)
        AND (status <> 'sent' OR step <> 3)
)
"""
EVENTS = (
    STEPS
    + """
INSERT INTO cellcast_django_webhookevent (
    id, endpoint, kind, outcome, error, body, content_type, cellcast_id, contact, message_id,
    username, is_test, received_at, done_at, next_run_at, attempts, handler_results,
    interventions, calls_are_noted
)
SELECT number, CASE direction WHEN 'inbound' THEN 'receive' ELSE 'status' END,
    CASE direction WHEN 'inbound' THEN 'reply' ELSE 'status' END, 'stored', '',
    format('{"_id": "%%s", "status": "%%s", "type": "%%s", "sender": "%%s", "receiver": "%%s"}',
           cellcast_id, word, CASE direction WHEN 'inbound' THEN 'receive' ELSE 'send' END,
           sender, receiver),
    'application/json', cellcast_id, contact, id, 'cellcast', false, heard_at, heard_at, NULL, 0,
    '{}', 0, false
FROM steps
"""
)
HISTORY = (
    STEPS
    + """
INSERT INTO cellcast_django_statuschange (
    id, message_id, status, previous_status, applied, reason, recorded_at, event_id
)
SELECT number, id, word, CASE WHEN step = 1 THEN '' ELSE 'received' END, step < 4,
    CASE WHEN word = ANY(%(undelivered)s) THEN 'Reason ' || id %% 40 ELSE '' END, heard_at, number
FROM steps
"""
)
OPT_OUTS = """
INSERT INTO cellcast_django_optout (contact, since, source, event_id, note)
SELECT DISTINCT ON (contact) contact, created_at, 'reply', id * 4 + 1, ''
FROM cellcast_django_message WHERE body = 'STOP'
ORDER BY contact, id
"""

# What is not as it should be is rare, and of any age.
RAISED = (
    "handler_results ="
    """ '{"shop.handlers.mark": {"at": "2026-01-01T00:00:00+00:00", "error": "E: no"}}'"""
)
TROUBLE = [
    f"""
    UPDATE cellcast_django_webhookevent SET {changes}
    WHERE id IN (SELECT 4 * (1 + (one * 7919 + {place}) %% %(count)s) + 1
                 FROM generate_series(1, 300) AS one)
    """
    for place, changes in enumerate(
        (
            f"done_at = NULL, attempts = 12, {RAISED}",
            f"done_at = NULL, attempts = 1, next_run_at = received_at, {RAISED}",
            "done_at = NULL, outcome = 'duplicate'",
            "done_at = NULL, outcome = 'invalid', kind = 'unknown', error = 'No id.'",
            "kind = 'opt_out', endpoint = 'opt_out'",
        )
    )
]


def fill(server: dict[str, Any], count: int) -> None:
    """Fill the empty tables of a database with so many messages, and tell the planner."""
    # With literals, not parameters: the planner shall know the ranges.
    cursor = psycopg.ClientCursor
    with psycopg.connect(autocommit=True, cursor_factory=cursor, **server) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute("SET work_mem = '256MB'")
        with connection.transaction(), _without_indexes(connection):
            # Tables that this transaction has emptied are written without a log, where that is so.
            connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
            for name, statement in (("messages", MESSAGES), ("events", EVENTS), ("rows", HISTORY)):
                for first in range(1, count + 1, CHUNK):
                    last = min(first + CHUNK - 1, count)
                    show(f"{name} of {last:,} of {count:,} messages")
                    values = {
                        "first": first,
                        "last": last,
                        "count": count,
                        "undelivered": sorted(UNDELIVERED),
                    }
                    connection.execute(statement.encode(), values)
            connection.execute(OPT_OUTS)
        for statement in TROUBLE if count else ():
            connection.execute(statement.encode(), {"count": count})
        for table in TABLES:
            show(f"vacuum {table}")
            connection.execute(f"VACUUM (ANALYZE) {table}".encode())
            top = f"(SELECT coalesce(max(id), 0) + 1 FROM {table})"
            sequence = f"pg_get_serial_sequence('{table}', 'id')"
            connection.execute(f"SELECT setval({sequence}, {top}, false)".encode())
        show("")


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Drop constraints and indexes, and make them again: sorting once is faster."""
    constraints = connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE (conrelid = ANY(%s::regclass[]) OR confrelid = ANY(%s::regclass[]))"
        " AND contype IN ('f', 'u', 'p') ORDER BY contype = 'f', contype <> 'p'",
        [list(TABLES), list(TABLES)],
    ).fetchall()
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = ANY(%s::regclass[]) AND NOT EXISTS"
        " (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        [list(TABLES)],
    ).fetchall()
    for table, name, _definition in reversed(constraints):
        connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}" CASCADE'.encode())
    for name, _definition in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    yield
    for table, name, definition in constraints:
        show(f"constraint {name}")
        connection.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}'.encode())
    for name, definition in indexes:
        show(f"index {name}")
        connection.execute(definition.encode())
