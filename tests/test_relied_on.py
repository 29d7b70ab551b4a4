"""What we use of Django, DRF, psycopg, SQLite and urllib3 without their promise: one test each.

When one fails after an upgrade, its docstring says what of ours no longer holds.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from django.db import OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.dispatch import Signal
from django.http import HttpResponse
from django.test import RequestFactory, TestCase
from django.utils import timezone
from django.utils.log import log_response
from rest_framework.request import Request
from rest_framework.views import APIView

from cellcast_django.database import rows
from cellcast_django.models import Message, WebhookEvent

on = connection.vendor


@pytest.fixture
def database(transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """A connection of its own, not the proxy to the thread's."""
    database = connections["default"].copy()
    yield database
    database.close()


# Django's QuerySets


def test_queryset_for_writing_reads_the_writing_database(settings: Any) -> None:
    """``fresh`` marks what it returns so, which tells caches of reads to leave it alone."""
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsFromReplica"]
    rows = WebhookEvent.objects.all()
    assert rows._for_write is False  # type: ignore[attr-defined]
    rows._for_write = True  # type: ignore[attr-defined]
    assert rows.filter(pk=1).db == "default"


# Django's connections


def test_connect_forgets_the_transaction(database: BaseDatabaseWrapper) -> None:
    """``transactions.discard`` does the same to end what was left open."""
    database.ensure_connection()
    database.close()
    database.in_atomic_block = database.closed_in_transaction = database.needs_rollback = True
    database.savepoint_ids = ["s1"]
    database.atomic_blocks = [transaction.Atomic("default", savepoint=True, durable=False)]
    database.connect()
    assert not database.in_atomic_block
    assert not database.closed_in_transaction
    assert not database.needs_rollback
    assert database.savepoint_ids == []
    assert database.atomic_blocks == []


def test_connection_attribute_tells_whether_autocommit_is_on(database: BaseDatabaseWrapper) -> None:
    """``transactions.is_idle`` asks the attribute, as the method would open a connection."""
    database.connect()
    assert database.autocommit is True
    database.set_autocommit(False)
    assert database.autocommit is False


@pytest.mark.parametrize("is_done", [True, False])
def test_health_check_marked_done_is_skipped(
    database: Any, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """``transactions.with_retries`` has no webhook wait for one."""
    asked: list[bool] = []

    def is_usable() -> bool:
        asked.append(True)
        return True

    monkeypatch.setattr(database, "is_usable", is_usable)
    database.connect()
    database.health_check_enabled, database.health_check_done = True, is_done
    database.cursor().close()
    assert bool(asked) is not is_done


class InTestCase(TestCase):
    """Where Django marks the transactions that ``durable=True`` lets pass."""

    def test_test_case_marks_its_transactions(self) -> None:
        """``transactions.is_in_test`` leaves those alone."""
        marks = [block._from_testcase for block in connection.atomic_blocks]  # type: ignore[attr-defined]
        assert marks == [True] * len(marks) != []
        with transaction.atomic():
            assert not connection.atomic_blocks[-1]._from_testcase  # type: ignore[attr-defined]


def test_driver_errors_outside_cursors_become_djangos(database: Any) -> None:
    """``transactions.discard`` suppresses Django's when the driver cannot end a session."""
    database.connect()
    with pytest.raises(OperationalError), database.wrap_database_errors:
        raise database.Database.OperationalError


def test_cursor_has_the_drivers_own(db: None) -> None:
    """``own_transaction`` begins with it, before any wrapper of the host's can ask anything."""
    refuse: Any = None
    with connection.execute_wrapper(refuse), connection.cursor() as cursor:
        cursor.cursor.execute("SELECT 1")
        assert cursor.cursor.fetchone() == (1,)


def test_queryset_compiles_to_a_statement_for_a_cursor(db: None) -> None:
    """``opt_outs`` runs its own query so, past the caches of the ORM."""
    event = WebhookEvent.objects.create(endpoint="receive", kind="unknown", outcome="invalid")
    rows = WebhookEvent.objects.filter(kind="unknown").values_list("pk")
    with connection.cursor() as cursor:
        cursor.execute(*rows.query.get_compiler(using=rows.db).as_sql())
        assert [tuple(row) for row in cursor.fetchall()] == [(event.pk,)]


# The drivers


@pytest.mark.skipif(on == "mysql", reason="its driver cannot tell")
def test_driver_reports_an_open_transaction_without_a_query(database: BaseDatabaseWrapper) -> None:
    """``transactions.is_idle`` asks it, as Django does not know a plain ``BEGIN``."""

    def is_open() -> bool:
        session = database.connection
        if on == "sqlite":
            return bool(session.in_transaction)
        return bool(session.info.transaction_status)

    with database.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert not is_open()
        cursor.execute("BEGIN")
        assert is_open()


# Django's signals, models, responses and admin


def test_signal_receivers_start_with_key_and_receiver() -> None:
    """``connected.handlers_by_name`` distinguishes the handlers by them."""

    def handler(**kwargs: Any) -> None:
        """Do nothing."""

    signal = Signal()
    signal.connect(handler, sender=Message, weak=False, dispatch_uid="name")
    [((uid, sender_id), receiver, *_)] = signal.receivers
    assert (uid, sender_id, receiver) == ("name", id(Message), handler)


def test_row_that_is_inserted_is_as_if_it_had_been_read(
    db: None, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """``rows`` makes it as pickle does, and keeps with it what no handler need read."""
    values = {"kind": "reply", "outcome": "stored", "endpoint": "receive", "body": ""}
    with connection.cursor() as cursor:
        [event] = rows.insert(cursor, WebhookEvent, values | {"received_at": timezone.now()})
    read = WebhookEvent.objects.get()
    assert vars(event).keys() == vars(read).keys()
    assert all(vars(event)[name] == vars(read)[name] for name in vars(read) if name != "_state")
    assert (event._state.adding, event._state.db) == (read._state.adding, read._state.db)
    rows.relate(event, opt_out_change=None)
    with django_assert_num_queries(0):
        assert not hasattr(event, "opt_out_change")


def test_logged_response_is_not_logged_again(caplog: Any) -> None:
    """``views`` marks refusals like this: their own log line is rate-limited."""
    response = HttpResponse(status=401)
    response._has_been_logged = True  # type: ignore[attr-defined]
    log_response("%s", "refused", response=response, request=RequestFactory().post("/"))
    assert not caplog.records


# Django REST framework


def test_rest_framework_request_wraps_djangos() -> None:
    """``views`` reads the body from it."""
    request = APIView().initialize_request(RequestFactory().post("/"))
    assert isinstance(request, Request)
    assert request._request.method == "POST"


# urllib3


def test_urllib3_connects_through_a_method_that_the_client_overrides() -> None:
    """Without it ``send_sms`` would call an SMS "not sent" that may have gone."""
    pools: dict[str, Any] = dict(urllib3.PoolManager().pool_classes_by_scheme)
    assert set(pools) == {"http", "https"}
    for pool in pools.values():
        with pytest.raises(urllib3.exceptions.NewConnectionError):
            pool.ConnectionCls("127.0.0.1", 1).connect()
