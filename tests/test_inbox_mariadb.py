"""The statement for MariaDB: its own transaction, which stores all or nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from cellcast_django import inbox
from cellcast_django.inbox.single_statement import mariadb
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, read
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient
from tests.clock import Clock
from tests.database_faults import refusing
from tests.handlers import Listen

pytestmark = pytest.mark.skipif(connection.vendor != "mysql", reason="MariaDB's own statement")


@contextmanager
def rewritten(found: str, replacement: str) -> Iterator[None]:
    """Change the statement on its way to the database, at the first match."""

    def rewrite(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        text = replacement.replace("'", "''") if sql.startswith("PREPARE") else replacement
        return execute(sql.replace(found, text, 1), *rest)

    with connection.execute_wrapper(rewrite):
        yield


def meddling(sql: str) -> AbstractContextManager[None]:
    """Insert SQL after the last write of the statement."""
    return rewritten("END IF;", f"END IF; {sql};")


def store(cellcast_id: str, status: str = "delivered", **options: Any) -> None:
    payload = f'{{"_id": "{cellcast_id}", "status": "{status}"}}'
    inbox.store(read(payload.encode(), "", Endpoint.STATUS), endpoint=Endpoint.STATUS, **options)


def rows() -> tuple[int, int, int]:
    return Message.objects.count(), StatusChange.objects.count(), WebhookEvent.objects.count()


@pytest.fixture(params=["one request", "kept"])
def _new_session(
    request: pytest.FixtureRequest, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session on which nothing is prepared yet; on one that is kept, the statement will be."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60 * (request.param == "kept"))


@pytest.fixture
def _kept_session(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)


@pytest.mark.usefixtures("_kept_session")
def test_statement_is_prepared_once_for_each_session(clock: Clock) -> None:
    with CaptureQueriesContext(connection) as queries:
        store("1")
        store("2")
        connection.close()
        store("3")
    verbs = [query["sql"].split()[0] for query in queries]
    assert [verb for verb in verbs if verb in {"PREPARE", "EXECUTE"}] == [
        *("PREPARE", "EXECUTE", "EXECUTE"),
        *("PREPARE", "EXECUTE"),
    ]
    assert rows() == (3, 3, 3)


@pytest.mark.usefixtures("_kept_session")
def test_server_that_prepares_nothing_more_gets_the_statement_whole() -> None:
    full = OperationalError(
        mariadb.TOO_MANY_PREPARED, "Can't create more than max_prepared_stmt_count statements"
    )
    with refusing("^PREPARE", error=full) as refusals:
        store("1")
        store("2")
    assert refusals.count == 2
    assert rows() == (2, 2, 2)


@pytest.mark.usefixtures("_kept_session")
def test_statement_for_a_larger_transaction_has_a_name_of_its_own(listen: Listen) -> None:
    """Under the name of the other one it would commit before the outbox can refuse."""
    listen(status_changed)
    store("1")
    with pytest.raises(ValueError, match="full"):
        store("2", outbox=refuse)
    assert rows() == (1, 1, 1)


def refuse(event_ids: list[int]) -> None:
    raise ValueError("full")


@pytest.mark.usefixtures("_kept_session")
def test_prepared_statement_outlives_a_change_of_its_tables() -> None:
    store("1")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {Message._meta.db_table} ADD COLUMN later INT NULL FIRST")
        try:
            store("2")
            store("2", "expired")
        finally:
            cursor.execute(f"ALTER TABLE {Message._meta.db_table} DROP COLUMN later")
    store("3")
    assert rows() == (3, 4, 4)
    assert Message.objects.get(cellcast_id="2").status == "delivered"


ERRORS = {
    "killed query, which no handler in SQL sees": "KILL QUERY CONNECTION_ID()",
    "lost connection": "KILL CONNECTION_ID()",
    "error that is not tried again": "SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062",
}


@pytest.mark.usefixtures("_new_session")
@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
def test_error_behind_the_last_write_leaves_nothing(error: str, clock: Clock) -> None:
    with meddling(error), pytest.raises(DatabaseError):
        store("1")
    store("2")
    assert rows() == (1, 1, 1)
    assert Message.objects.get().cellcast_id == "2"


@pytest.mark.usefixtures("_new_session")
def test_commit_that_fails_is_raised(clock: Clock) -> None:
    with rewritten("COMMIT;", "KILL QUERY CONNECTION_ID();"):
        assert WebhookClient().status().status_code == 503
    assert rows() == (0, 0, 0)


@pytest.mark.django_db
def test_in_a_transaction_of_the_host_nothing_is_committed_and_what_came_before_stays() -> None:
    store("1")
    duplicate = "SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062"
    with meddling(duplicate), pytest.raises(DatabaseError):
        store("2")
    assert rows() == (1, 1, 1)


@pytest.mark.usefixtures("_new_session")
def test_connection_without_autocommit_keeps_the_transaction_to_itself() -> None:
    connection.set_autocommit(False)
    try:
        store("1")
    finally:
        connection.set_autocommit(True)
    assert rows() == (1, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_mysql_takes_the_portable_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "display_name", "MySQL")
    with CaptureQueriesContext(connection) as queries:
        store("1")
    assert not any("ATOMIC" in query["sql"] for query in queries)
    assert rows() == (1, 1, 1)


@pytest.fixture
def _latin_database(transactional_db: Any) -> Any:
    """A database with a small character set, unlike its tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@character_set_database, @@collation_database")
        before = cursor.fetchone()
        cursor.execute("ALTER DATABASE CHARACTER SET latin1")
        yield
        cursor.execute("ALTER DATABASE CHARACTER SET {} COLLATE {}".format(*before))


@pytest.mark.usefixtures("_latin_database")
def test_previous_status_has_all_its_letters_whatever_the_character_set_of_the_database() -> None:
    store("1", "прочитано 🙂")
    store("1", "delivered")
    assert StatusChange.objects.get(status="delivered").previous_status == "прочитано 🙂"
