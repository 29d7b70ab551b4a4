"""The list of the status history: what it finds, and of which messages."""

import pytest
from django.contrib.admin import AdminSite, site
from django.test import Client, RequestFactory

from cellcast_django.admin.history import StatusChangeAdmin
from cellcast_django.factories import MessageFactory, StatusChangeFactory
from cellcast_django.models import Message, StatusChange
from tests.admin_pages import listed, staff

pytestmark = pytest.mark.django_db

SHOWN, HIDDEN = "+61400000009", "+61400000010"


@pytest.fixture
def changes() -> list[StatusChange]:
    """One of a message that the site shows, and one of a message that it hides."""
    found = []
    for contact in (SHOWN, HIDDEN):
        message = MessageFactory.create(receiver=contact)
        found.append(StatusChangeFactory.create(message=message))
    return found


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Message.objects.exclude(contact=HIDDEN)
    admin = site.get_model_admin(Message)
    monkeypatch.setattr(admin, "get_queryset", lambda request: rows.all())


@pytest.fixture
def historian() -> Client:
    return staff("view_statuschange", "view_message")


def test_search_says_nothing_of_messages_that_the_site_hides(
    historian: Client, changes: list[StatusChange], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, hidden = changes
    assert listed(historian, "statuschange", q=HIDDEN) == [hidden.pk]
    hide(monkeypatch)
    assert listed(historian, "statuschange", q=HIDDEN) == []
    assert listed(historian, "statuschange", q=SHOWN) == [shown.pk]


def test_site_without_messages_finds_every_number(changes: list[StatusChange]) -> None:
    alone = AdminSite(name="alone")
    request = RequestFactory().get("/")
    admin = StatusChangeAdmin(StatusChange, alone)
    rows, _ = admin.get_search_results(request, StatusChange.objects.all(), HIDDEN)
    assert list(rows) == [changes[1]]
