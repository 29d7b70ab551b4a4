"""Statements for SQLite: with the connection's own trigger, or without one."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from tests.clock import Clock
from tests.database_faults import refusing

pytestmark = [
    pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own statement"),
    pytest.mark.django_db(transaction=True),
]


def statements(**changes: Any) -> list[str]:
    """Send a delivery report, and return the first word of each statement it took."""
    with CaptureQueriesContext(connection) as queries:
        assert WebhookClient().status(**changes).status_code == 200
    return [query["sql"].split()[0] for query in queries]


@pytest.fixture
def _kept_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection, without the temporary objects of an earlier test."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)


def test_connection_that_lasts_for_one_request_is_spared_the_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"timeout": 5})
    three = ["INSERT", "INSERT", "INSERT"]
    assert statements(_id="1") == ["BEGIN", *three, "COMMIT"]
    assert Message.objects.count() == 1


@pytest.mark.usefixtures("_kept_connection")
def test_sqlite_that_cannot_return_what_it_inserts_takes_the_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    monkeypatch.setattr(connection.features, "can_return_columns_from_insert", False)
    assert statements(_id="1") == ["INSERT", "CREATE", "CREATE", "INSERT"]


@pytest.mark.usefixtures("_kept_connection")
def test_trigger_is_made_once_for_each_connection() -> None:
    assert statements(_id="1") == ["INSERT", "CREATE", "CREATE", "INSERT"]
    assert statements(_id="2") == ["INSERT"]
    assert Message.objects.count() == 2


@pytest.mark.usefixtures("_kept_connection")
def test_schema_of_the_database_stays_as_it_is() -> None:
    before = connection.introspection.table_names(include_views=True)
    statements()
    assert connection.introspection.table_names(include_views=True) == before


@pytest.mark.usefixtures("_kept_connection")
def test_other_errors_are_raised(clock: Clock) -> None:
    statements(_id="1")
    with refusing("INSERT"):
        assert WebhookClient().status(_id="2").status_code == 503
    assert Message.objects.count() == 1
