"""A database that nobody has named is taken for one like PostgreSQL."""

import pytest
from django.db import connection

from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.testing import WebhookClient, status_payload

pytestmark = pytest.mark.django_db


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
