"""The night of the developer on call: webhooks have stopped, and a removed handler fails."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import WebhookEventFactory
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.handlers import Calls, connected
from tests.many import add_copies

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FAILURES = 50


@pytest.fixture
def night(settings: Any) -> None:
    """Reports every ten minutes until 20 hours ago, and events that two handlers fail."""
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    last = timezone.now() - timedelta(hours=20)
    event = WebhookEventFactory.create(received_at=last)
    times = [last - timedelta(minutes=10 * number) for number in range(4_000)]
    add_copies(event, len(times), lambda number: {"received_at": times[number], "message_id": None})
    broken = Calls("mail", error=ConnectionError("the mail server is down"))
    removed = Calls("sync", error=KeyError("patient_id"))
    with connected(message_received, mail=broken, sync=removed):
        for number in range(FAILURES):
            WebhookClient(raise_handler_errors=False).reply(message=str(number))
    WebhookEvent.objects.filter(kind="reply").update(received_at=last)


def test_user_sees_stopped_webhooks_and_skips_a_removed_handler(
    night: None, browse: Callable[[str], None], page: Any, admin_user: Any
) -> None:
    with connected(message_received, mail=Calls("mail")):
        browse(reverse("admin:app_list", args=["cellcast_django"]))  # one page says it all
        light = page.locator("#cellcast-light-status")
        assert light.get_attribute("data-light") in ("silent", "unreported")
        row = page.locator("tr[data-handler='sync']")
        assert row.get_attribute("data-missing") is not None
        assert row.locator("[data-action='run_again']").count() == 0

        row.locator("[data-action='skip_handler']").click()  # 1
        page.locator(f"#cellcast-affected[data-count='{FAILURES}']").wait_for()
        page.locator("button.cellcast-button-primary").click()  # 2
        page.locator(".messagelist .success").wait_for()

        failed = WebhookEvent.objects.failed()
        assert failed.count() == FAILURES
        assert {tuple(event.handler_errors()) for event in failed} == {("mail",)}
        assert all(event.handler_results["sync"]["by"] == "admin" for event in failed)
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id) == (admin_user, None)

        browse(reverse("admin:cellcast_django_activity"))
        told = page.locator(f"tr[data-activity='{entry.pk}']").inner_text()
        assert "admin" in told
        assert f"sync: {FAILURES} events" in told
