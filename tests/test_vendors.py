"""A database that nobody has named: everything works there, but slower."""

import pytest

from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.testing import WebhookClient, status_payload

pytestmark = pytest.mark.django_db


@pytest.mark.usefixtures("unnamed_database")
def test_unknown_database_vendor_stores_webhooks() -> None:
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
