"""Statements for PostgreSQL: prepared once for each connection, unless a pooler shares them."""

from typing import Any

import pytest
from django.db import ProgrammingError, connection
from django.test.utils import CaptureQueriesContext

from cellcast_django import inbox, prepared
from cellcast_django.models import Message
from cellcast_django.payloads import Endpoint, read
from cellcast_django.testing import WebhookClient

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL prepares"),
    pytest.mark.django_db(transaction=True),
]


def statements(**changes: Any) -> list[str]:
    """Send a delivery report and return the first word of each statement that it took."""
    with CaptureQueriesContext(connection) as queries:
        assert WebhookClient().status(**changes).status_code == 200
    return [query["sql"].split()[0] for query in queries]


def test_statement_is_prepared_once_and_executed_each_time() -> None:
    connection.close()
    assert statements(_id="1") == ["PREPARE", "EXECUTE"]
    assert statements(_id="2") == ["EXECUTE"]
    assert statements(_id="3", status="failed") == ["EXECUTE"]


def test_new_connection_prepares_anew() -> None:
    statements(_id="1")
    connection.close()
    assert statements(_id="2") == ["PREPARE", "EXECUTE"]


def test_statement_that_a_pooler_has_left_in_another_session_is_sent_whole() -> None:
    statements(_id="1")
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    assert statements(_id="2") == ["EXECUTE", "WITH"]
    assert Message.objects.count() == 2


def test_statement_that_a_pooler_has_brought_from_another_session_is_sent_whole() -> None:
    statements(_id="1")
    prepared._names.clear()
    assert statements(_id="2") == ["PREPARE", "WITH"]
    assert Message.objects.count() == 2


def test_nothing_is_prepared_where_the_settings_speak_of_a_pooler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    assert statements() == ["WITH"]


def test_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_prepared", lambda *_: ("x", "PREPARE x AS rubbish", ""))
    with pytest.raises(ProgrammingError):
        inbox.store(
            read(b'{"_id": "1", "status": "delivered"}', "", Endpoint.STATUS),
            endpoint=Endpoint.STATUS,
        )
    assert not Message.objects.exists()
