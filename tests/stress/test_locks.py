"""Locks: somebody holds rows or a table for longer than a webhook waits, or a migration waits.

Nothing watches the connections here, and the settings are the documented ones, so that webhooks
are stored as on a site.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Thread

import pytest

from tests.stress import figures, oracle
from tests.stress.clients import RECEIVE, STATUS, Webhook, send
from tests.stress.databases import Database
from tests.stress.hosts import Host, wait_for
from tests.stress.load import STATUSES, load_on
from tests.stress.scale import SCALE
from tests.stress.verdicts import assert_heard_by_every_handler, assert_stored

pytestmark = pytest.mark.stress

HELD_SECONDS, WATCHED_SECONDS = (12, 5) if SCALE >= 1 else (3, 1)
"""How long the lock is held, and how long webhooks come after it."""
CLIENTS = 4
"""As many as one worker has threads: whichever worker takes them, none waits for a thread."""
ROWS = 25
BUDGET_SECONDS = 5
TABLE = "cellcast_django_message"


@contextmanager
def rows(database: Database) -> Iterator[None]:
    """Hold each message and each opt-out that webhooks speak of."""
    with database.held(
        "BEGIN",
        # In the order in which webhooks lock them
        f"SELECT {TABLE}.key FROM {TABLE} ORDER BY {TABLE}.key FOR UPDATE",  # noqa: S608
        "UPDATE cellcast_django_optout SET note = 'held'",
    ):
        yield


@contextmanager
def table(database: Database) -> Iterator[None]:
    """Hold a whole table, as ``VACUUM FULL`` does, or the making of an index."""
    how = {
        "postgresql": ["BEGIN", f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE"],
        "mariadb": [f"LOCK TABLES {TABLE} WRITE"],
        "sqlite": ["BEGIN EXCLUSIVE"],
    }
    with database.held(*how[database.vendor]):
        yield


@contextmanager
def waiting_migration(database: Database) -> Iterator[None]:
    """Let a migration wait for a long report, so that whoever comes next waits for both."""

    def migrate() -> None:
        database.execute(f"ALTER TABLE {TABLE} ADD COLUMN spare integer")

    migration = Thread(target=migrate)
    with database.held("BEGIN", f"SELECT count(*) FROM {TABLE}"):  # noqa: S608
        migration.start()
        yield
    migration.join()
    database.execute(f"ALTER TABLE {TABLE} DROP COLUMN spare")


LOCKS = [
    *((vendor, lock) for vendor in ("postgresql", "mariadb") for lock in (rows, table)),
    *((vendor, waiting_migration) for vendor in ("postgresql", "mariadb")),
    ("sqlite", table),  # where one lock is all there is
]


@pytest.mark.parametrize(
    ("vendor", "lock"),
    # A quick look takes the lock of each kind on one database.
    LOCKS if SCALE >= 1 else [each for each in LOCKS if each[0] != "mariadb"],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_locked_rows_delay_no_response_and_webhooks_are_stored_afterwards(
    vendor: str,
    lock: Callable[[Database], AbstractContextManager[None]],
    new_host: Callable[..., Host],
) -> None:
    host = new_host(vendor, FIRE_DEATHS=False)
    with host.gunicorn("--threads=4", workers=2) as server:
        for serial in range(4 * ROWS):
            assert send(server.port, about_the_same_rows(serial).encode()).status == 200
        with load_on(server.port, clients=CLIENTS, webhook_of=about_the_same_rows) as load:
            with lock(host.database):
                begun_at = time.time()
                time.sleep(HELD_SECONDS)
                released_at = time.time()
            wait_for(lambda: load.answered[-1][1].at > released_at + WATCHED_SECONDS, seconds=30)
        again = [webhook for webhook, response in load.answered if response.status != 200]
        assert {send(server.port, webhook.encode()).status for webhook in again} <= {200}
    responses = [response for _, response in load.answered]
    errors = [response for response in responses if response.status != 200]
    assert {response.status for response in errors} <= {503}
    assert errors or SCALE < 1
    slowest = max(response.seconds for response in responses)
    assert slowest < BUDGET_SECONDS + 1
    last_error = max((response.at for response in errors), default=begun_at) - released_at
    assert last_error < BUDGET_SECONDS
    assert_stored(host, [*load.stored(), *again])
    assert_heard_by_every_handler(host)
    assert set(oracle.finished(host.calls()).values()) == {1}
    figures.record(
        f"locks, {vendor}: {lock.__name__.replace('_', ' ')}",
        held_for=f"{HELD_SECONDS} s",
        webhooks_sent=len(responses),
        answered_200_and_stored=len(load.stored()),
        answered_503=len(errors),
        slowest_response=figures.milliseconds(slowest),
        last_503_after_the_release=figures.milliseconds(max(0, last_error)),
    )


def about_the_same_rows(serial: int) -> Webhook:
    """Return a report, a reply, a STOP or an array about rows that are there already."""
    number, kind = divmod(serial, 4)
    row = number % ROWS
    status = STATUSES[number // ROWS % len(STATUSES)]
    customer = f"+6140000{row:04}"
    reports = [
        {"_id": f"{name}-{row}", "type": "send", "status": status, "sender": "cellcast"}
        | {"receiver": customer}
        for name in ("first", "second")
    ]
    text = "STOP" if kind == 2 else "yes"
    reply = {"_id": f"reply-{row}", "type": "receive", "status": "received", "message": text}
    reply |= {"sender": customer, "receiver": "+61400000999"}
    payload = [reports[0], reply, reply, reports][kind]
    return Webhook(STATUS if kind in (0, 3) else RECEIVE, payload)
