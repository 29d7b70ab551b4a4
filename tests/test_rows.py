"""One row at a time: what only another database, or another process, makes happen."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.database import rows, transactions
from cellcast_django.database.vendors import VENDORS
from cellcast_django.models import Claim, Message, OptOut, WebhookEvent
from cellcast_django.testing import WebhookClient, status_payload

pytestmark = pytest.mark.django_db


def claims(*keys: str) -> list[dict[str, Any]]:
    return [{"key": key, "until": timezone.now()} for key in keys]


@pytest.mark.parametrize("is_embedded", [True, False])
def test_rows_inserted_together_have_their_ids(is_embedded: bool) -> None:
    vendor = replace(VENDORS[connection.vendor], is_embedded=is_embedded)
    if is_embedded and connection.vendor != "sqlite":
        pytest.skip("others return the ids")
    with patch.dict(VENDORS, {connection.vendor: vendor}), connection.cursor() as cursor:
        inserted = rows.insert(cursor, Claim, *claims("a", "b", "c"))
    assert [Claim.objects.get(pk=each.pk).key for each in inserted] == ["a", "b", "c"]


def test_row_that_is_deleted_before_it_is_locked_is_inserted() -> None:
    [claim] = claims("k")
    lock = rows._lock

    def delete_and_lock(*arguments: Any) -> Any:
        Claim.objects.all().delete()
        return lock(*arguments)

    with connection.cursor() as cursor:
        assert rows.insert_or_lock(cursor, Claim, claim, unique="key")[1]
        with patch.object(rows, "_lock", delete_and_lock):
            second, is_new = rows.insert_or_lock(cursor, Claim, claim, unique="key")
    assert (is_new, second) == (True, Claim.objects.get())


@pytest.mark.parametrize("briefly", [True, False])
def test_only_what_is_to_wait_briefly_is_limited(*, briefly: bool) -> None:
    vendor = replace(VENDORS[connection.vendor], limit="/* limited */ ")
    [claim] = claims("k")
    with (
        patch.dict(VENDORS, {connection.vendor: vendor}),
        CaptureQueriesContext(connection) as queries,
        connection.cursor() as cursor,
    ):
        for _ in range(2):
            rows.insert_or_lock(cursor, Claim, claim, unique="key", briefly=briefly)
    assert ["limited" in each["sql"] for each in queries] == [briefly] * 3


def test_error_of_another_kind_is_no_lost_connection() -> None:
    server = replace(VENDORS[connection.vendor], is_embedded=False)
    with patch.dict(VENDORS, {connection.vendor: server}):
        assert not transactions.is_lost(connection, ValueError("ours"))


@pytest.mark.skipif(connection.vendor == "mysql", reason="which this one is not")
def test_unknown_database_vendor_stores_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "another")
    client = WebhookClient()
    client.status()
    client.status()
    client.reply(message="STOP")
    client.opt_out()
    client.webhook([status_payload(_id=str(number)) for number in range(3)], "status")
    assert Message.objects.count() == 5
    assert OptOut.objects.active().count() == 2
    outcomes = WebhookEvent.objects.order_by("pk").values_list("outcome", flat=True)
    assert list(outcomes) == ["stored", "duplicate", *["stored"] * 5]
