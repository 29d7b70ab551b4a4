"""What staff may do about a customer from the conversation: opt out and in, hand over data."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import MessageFactory, OptOutFactory, WebhookEventFactory
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.opt_outs import opt_in
from tests.admin_pages import CUSTOMER, page_of, staff, url_of
from tests.desk.conftest import Show

pytestmark = pytest.mark.django_db

OFFICER = [
    *("view_message", "export_message", "view_webhookevent", "export_webhookevent"),
    *("view_optout", "export_optout", "view_statuschange"),
]


@pytest.fixture
def officer() -> Client:
    """A member of staff who hands over what is stored about somebody."""
    return staff(*OFFICER)


@pytest.fixture
def message() -> Message:
    """A reply of the customer's."""
    found: Message = MessageFactory.create(inbound=True, sender=CUSTOMER, status="")
    return found


# Opting out and in


def test_conversation_links_to_opt_out_and_opt_in_for_permitted_users(message: Message) -> None:
    clerk = staff("view_message", "view_optout", "add_optout", "end_optout")
    viewer = staff("view_message", "view_optout")
    out = url_of("optout", "add", message=message.pk)
    html = page_of(clerk, "message", "conversation", message.pk)
    assert out in html and "cellcast-opt-in" not in html
    assert "cellcast-opt-out" not in page_of(viewer, "message", "conversation", message.pk)
    made = OptOutFactory.create(contact=CUSTOMER)
    OptOutFactory.create()
    html = page_of(clerk, "message", "conversation", message.pk)
    assert url_of("optout", "end", made.pk, message=message.pk) in html
    assert url_of("optout", "change", made.pk) in html and out not in html
    assert "cellcast-opt-in" not in page_of(viewer, "message", "conversation", message.pk)
    opt_in(CUSTOMER)
    assert out in page_of(clerk, "message", "conversation", message.pk)


@pytest.mark.parametrize("says", ["Please stop texting me", "See you"])
def test_customer_is_opted_out_by_their_wish_or_their_newest_reply(
    message: Message, says: str
) -> None:
    clerk = staff("view_message", "view_optout", "add_optout")
    wish = MessageFactory.create(inbound=True, sender=CUSTOMER, body=says)
    newest = MessageFactory.create(inbound=True, sender=CUSTOMER, body="Hello??")
    asked = wish if "stop" in says else newest
    html = page_of(clerk, "message", "conversation", message.pk)
    assert f"?message={asked.pk}" in html and html.count("/optout/add/?message=") == 1


def test_conversation_does_not_link_to_a_hidden_opt_out(message: Message, show: Show) -> None:
    OptOutFactory.create(contact=CUSTOMER)
    show(OptOut, lambda rows: rows.none())
    html = page_of(staff("view_message", "view_optout"), "message", "conversation", message.pk)
    assert "cellcast-opt-out-page" not in html


# Handing over


def data_of(client: Client, message: Message, **days: date) -> dict[str, Any]:
    response = client.post(url_of("message", "customer_data", message.pk), days)
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(b"".join(response))
    return found


def test_file_has_what_is_stored_about_the_customer(officer: Client, message: Message) -> None:
    event = WebhookEventFactory.create(reply=True, message=message)
    opted_out = OptOutFactory.create(contact=CUSTOMER)
    MessageFactory.create()
    found = data_of(officer, message)
    assert [row["id"] for row in found["messages"]] == [message.pk]
    assert [row["id"] for row in found["events"]] == [event.pk]
    assert [row["id"] for row in found["status_changes"]] == [event.status_change.pk]
    assert [row["id"] for row in found["opt_outs"]] == [opted_out.pk]
    assert found["log_entries"] == []


def test_download_is_logged_without_the_number(officer: Client, message: Message) -> None:
    url = url_of("message", "customer_data", message.pk)
    assert url in page_of(officer, "message", "conversation", message.pk)
    response = officer.post(url)
    assert response["Content-Type"] == "application/json"
    entry = LogEntry.objects.get()
    assert entry.object_id == str(message.pk)
    for words in (entry.object_repr, entry.change_message, response["Content-Disposition"]):
        assert "400000001" not in words


def test_file_has_log_entries_for_permitted_users(message: Message) -> None:
    viewer = staff(*OFFICER, "view_activity")
    first = data_of(viewer, message)
    assert [row["action"] for row in first["log_entries"]] == [
        LogEntry.objects.get().get_change_message()
    ]


@pytest.mark.parametrize("missing", OFFICER)
def test_file_requires_each_of_its_permissions(message: Message, missing: str) -> None:
    other = staff(*[name for name in OFFICER if name != missing])
    url = url_of("message", "customer_data", message.pk)
    assert other.post(url).status_code == 403
    conversation = other.get(url_of("message", "conversation", message.pk))
    assert "cellcast-customer-data" not in conversation.content.decode()
    assert not LogEntry.objects.exists()


def test_file_has_the_rows_of_these_days(officer: Client, message: Message) -> None:
    now, today = timezone.now(), timezone.localdate()
    _early, mine, _late = (
        MessageFactory.create(inbound=True, sender=CUSTOMER, created_at=now - timedelta(days=age))
        for age in (101, 1, 0)
    )
    days = {"from": today - timedelta(days=100), "to": today - timedelta(days=1)}
    assert [row["id"] for row in data_of(officer, message, **days)["messages"]] == [mine.pk]
    assert f"from {days['from']} until {days['to']}" in LogEntry.objects.get().get_change_message()


def test_what_makes_no_sense_is_refused(officer: Client, message: Message) -> None:
    url = url_of("message", "customer_data", message.pk)
    assert officer.get(url)["Location"] == reverse("admin:index")
    assert officer.post(url, {"from": "31/05/2026"}).status_code == 400
    nobody = MessageFactory.create(inbound=True, sender="")
    for pk in (nobody.pk, nobody.pk + 1):
        assert officer.post(url_of("message", "customer_data", pk)).status_code == 404
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("model", "key"),
    [(WebhookEvent, "events"), (OptOut, "opt_outs"), (StatusChange, "status_changes")],
)
def test_file_omits_rows_hidden_by_the_site(
    officer: Client, message: Message, show: Show, model: Any, key: str
) -> None:
    WebhookEventFactory.create(reply=True, message=message)
    OptOutFactory.create(contact=CUSTOMER)
    assert data_of(officer, message)[key]
    show(model, lambda rows: rows.none())
    assert data_of(officer, message)[key] == []


def test_file_has_status_history_even_without_its_admin_page(
    officer: Client, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    WebhookEventFactory.create(reply=True, message=message)
    registered: dict[Any, Any] = site._registry
    monkeypatch.delitem(registered, StatusChange)
    assert data_of(officer, message)["status_changes"]
