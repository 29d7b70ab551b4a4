"""Our own transactions: separate from the host project's, and never waiting long for a lock."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.retries import BUDGET_SECONDS, LOCK_SECONDS

V = TypeVar("V", bound=Any)


def outside_atomic_requests(view: V) -> V:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database: what it stores commits at once."""
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view


@contextmanager
def own_transaction(using: str, *, limits_itself: bool = False) -> Iterator[None]:
    """Run the block in a transaction that is not inside another one.

    It waits at most ``LOCK_SECONDS`` for a row, and ``BUDGET_SECONDS`` for SQLite's one lock. On
    PostgreSQL that takes a statement, unless the block's first one ``limits_itself``.
    """
    connection = connections[using]
    before, inside, after = _limits(connection)
    _execute(connection, before)
    try:
        with transaction.atomic(using=using, durable=True):
            if not limits_itself:
                _execute(connection, inside)
            yield
    finally:
        with suppress(Error):
            _execute(connection, after)


def _limits(connection: BaseDatabaseWrapper) -> tuple[str, str, str]:
    """Return the statements that limit lock waits: before the transaction, inside it and after it.

    PostgreSQL resets a local setting by itself. If SQLite's timeout is short already, as
    recommended, there is nothing to do.
    """
    timeout = connection.settings_dict["OPTIONS"].get("timeout", BUDGET_SECONDS)
    wait = "@@innodb_lock_wait_timeout"
    set_timeout = "PRAGMA busy_timeout = {:.0f}".format
    limits = {
        "postgresql": ("", f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", ""),
        "mysql": (
            f"SET @cellcast = {wait}, {wait[2:]} = LEAST({wait}, {LOCK_SECONDS})",
            "",
            f"SET {wait[2:]} = @cellcast",
        ),
        "sqlite": (set_timeout(BUDGET_SECONDS * 1_000), "", set_timeout(timeout * 1_000)),
    }
    if connection.vendor == "sqlite" and timeout <= BUDGET_SECONDS:
        return "", "", ""
    return limits.get(connection.vendor, ("", "", ""))


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    if statement:
        with connection.cursor() as cursor:
            cursor.execute(statement)
