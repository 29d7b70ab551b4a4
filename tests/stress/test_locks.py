"""Locks: somebody holds rows or a table for longer than a webhook waits, or a migration waits.

Or a trigger of the host's raises.

Nothing watches the connections here, and the settings are the documented ones, so that webhooks
are stored as on a site.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from statistics import median
from threading import Thread

import pytest

from tests.stress import oracle
from tests.stress.clients import STATUS, Probe, Response, Webhook, send
from tests.stress.databases import Database
from tests.stress.hosts import ROOT, Host, wait_for
from tests.stress.load import STATUSES, load_on
from tests.stress.scale import SCALE
from tests.stress.storm import reply, report
from tests.stress.verdicts import assert_heard_by_every_handler, assert_stored

pytestmark = pytest.mark.stress

HELD_SECONDS, WATCHED_SECONDS = (12, 5) if SCALE >= 1 else (3, 1)
"""How long the lock is held, and how long webhooks come after it."""
CLIENTS = 4
"""As many as one worker has threads: whichever worker takes them, none waits for a thread."""
ROWS = 25
BUDGET_SECONDS = 5
TABLE, EVENTS = "cellcast_django_message", "cellcast_django_webhookevent"
Lock = AbstractContextManager[None]


def rows(database: Database) -> Lock:
    """Hold each message and each opt-out that webhooks speak of."""
    return database.held(
        "BEGIN",
        # In the order in which webhooks lock them
        f"SELECT {TABLE}.key FROM {TABLE} ORDER BY {TABLE}.key FOR UPDATE",  # noqa: S608
        "UPDATE cellcast_django_optout SET note = 'held'",
    )


def table(database: Database) -> Lock:
    """Hold a whole table, as ``VACUUM FULL`` does, or the making of an index."""
    how = {
        "postgresql": ["BEGIN", f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE"],
        "mariadb": [f"LOCK TABLES {TABLE} WRITE"],
        "sqlite": ["BEGIN EXCLUSIVE"],
    }
    return database.held(*how[database.vendor])


def tables(database: Database) -> Lock:
    """Hold the events' table, too: nothing can be kept."""
    how = {
        "postgresql": ["BEGIN", f"LOCK TABLE {TABLE}, {EVENTS} IN ACCESS EXCLUSIVE MODE"],
        "mariadb": [f"LOCK TABLES {TABLE} WRITE, {EVENTS} WRITE"],
    }
    return database.held(*how[database.vendor])


@contextmanager
def trigger(database: Database) -> Iterator[None]:
    """Refuse each message by a trigger."""
    raises = {
        "postgresql": "EXECUTE FUNCTION refuse()",
        "mariadb": "SIGNAL SQLSTATE '45000'",
        "sqlite": "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    }
    if database.vendor == "postgresql":
        body = "$$ BEGIN RAISE EXCEPTION 'refused'; END $$"
        function = f"refuse() RETURNS trigger LANGUAGE plpgsql AS {body}"
        database.execute(f"CREATE OR REPLACE FUNCTION {function}")
    how = f"BEFORE INSERT ON {TABLE} FOR EACH ROW {raises[database.vendor]}"
    database.execute(f"CREATE TRIGGER refusing {how}")
    yield
    of_table = f" ON {TABLE}" if database.vendor == "postgresql" else ""
    database.execute(f"DROP TRIGGER refusing{of_table}")


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
    *product(("postgresql", "mariadb"), (rows, table, tables, waiting_migration, trigger)),
    *(("sqlite", lock) for lock in (table, trigger)),  # where one lock is all there is
]


@pytest.mark.parametrize(
    ("vendor", "lock"),
    # A quick look takes the lock of each kind on one database.
    LOCKS if SCALE >= 1 else [each for each in LOCKS if each[0] != "mariadb"],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_locked_rows_delay_no_response_and_webhooks_are_stored_afterwards(
    vendor: str,
    lock: Callable[[Database], Lock],
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
    assert not errors or lock not in (rows, trigger), "what cannot be stored is deferred"
    read_deferred(host)
    slowest = max(response.seconds for response in responses)
    assert slowest < BUDGET_SECONDS + 1
    last_error = max((response.at for response in errors), default=begun_at) - released_at
    assert last_error < BUDGET_SECONDS
    assert_stored(host, [*load.stored(), *again])
    assert_heard_by_every_handler(host)
    assert set(oracle.finished(host.calls()).values()) == {1}


def read_deferred(host: Host) -> None:
    ask = "SELECT COUNT(*) FROM cellcast_django_webhookevent WHERE outcome = 'deferred'"
    while host.database.value(ask):
        host.manage("cellcast_run_handlers")


TEXTS = 100 if SCALE >= 1 else 20
SENDING = f"""
import time
from django.db import transaction
from cellcast_django.models import Message
with transaction.atomic():
    for number in range({TEXTS}):
        Message.objects.record_sent(f"text-{{number}}", receiver="+61400000001", body="At nine?")
        print(number, flush=True)
        time.sleep(0.3)
"""


@pytest.mark.parametrize("vendor", ["postgresql", "mariadb", "sqlite"])
def test_reports_on_texts_of_an_open_transaction_are_kept_and_hold_nobody_up(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    """A command sends in one transaction, and each report comes a second after its text."""
    host = new_host(vendor, FIRE_DEATHS=False)

    def report_on(number: int) -> Response:
        time.sleep(1)
        return send(server.port, report(f"text-{number}", "delivered").encode())

    pages: list[float] = []
    with host.gunicorn(workers=2) as server, ThreadPoolExecutor(TEXTS) as threads:
        command = [sys.executable, "-m", "django", "shell", "--verbosity=0", "--command", SENDING]
        with subprocess.Popen(
            command, cwd=ROOT, env=host.environment, stdout=subprocess.PIPE, text=True
        ) as sending:
            assert sending.stdout is not None
            reports = []
            for line in sending.stdout:
                reports.append(threads.submit(report_on, int(line)))
                pages.append(send(server.port, Probe(STATUS).encode()).seconds)
        responses = [each.result() for each in reports]
    assert sending.returncode == 0
    assert len(responses) == TEXTS
    refused = sum(response.status == 503 for response in responses)
    assert {response.status for response in responses} <= {200, 503}
    assert not refused or vendor == "sqlite", "where nothing can be written meanwhile"
    assert median(pages) < 2
    read_deferred(host)
    delivered = "SELECT COUNT(*) FROM cellcast_django_message WHERE status = 'delivered'"
    assert host.database.value(delivered) == TEXTS - refused
    assert set(oracle.finished(host.calls()).values()) == {1}


def about_the_same_rows(serial: int) -> Webhook:
    """Return a report, a reply, a STOP or an array about rows that are there already."""
    number, kind = divmod(serial, 4)
    row = number % ROWS
    status = STATUSES[number // ROWS % len(STATUSES)]
    customer = f"+6140000{row:04}"
    if kind in (1, 2):
        return reply(f"reply-{row}", customer, "STOP" if kind == 2 else "yes")
    reports = [
        report(f"{name}-{row}", status).payload | {"receiver": customer}
        for name in ("first", "second")
    ]
    return Webhook(STATUS, reports if kind == 3 else reports[0])
