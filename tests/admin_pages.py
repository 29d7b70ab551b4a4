"""What the tests of the admin share: people of the staff, addresses, and what a page says."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

from django.contrib.auth.models import Permission, User
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import (
    Direction,
    HandlerCall,
    Message,
    StatusChange,
    WebhookEvent,
)
from tests.html import parse, words
from tests.many import add_copies

Know = Callable[..., None]
"""A fixture of ``conftest``: what ``CELLCAST_DIRECTORY`` knows."""

CUSTOMER = "+61400000001"
ID = "66b5b93b1e2c012dfe964000"
MODELS = ("message", "statuschange", "webhookevent")
OWN_NUMBERS = ("+61480000000", "+61480000001")
STATUSES = ("delivered", "received", "failed", "queued", "", "dead")


def staff(*codenames: str) -> Client:
    user = User.objects.create_user(f"staff-{User.objects.count()}", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def url_of(model: str, page: str = "changelist", *args: Any, **query: Any) -> str:
    url = reverse(f"admin:cellcast_django_{model}_{page}", args=args)
    return f"{url}?{urlencode(query)}" if query else url


def page_of(client: Client, *args: Any, **query: Any) -> str:
    response = client.get(url_of(*args, **query))
    assert response.status_code == 200
    return response.content.decode()


def changelist_at(client: Client, url: str) -> Any:
    """Return what a list holds, without laying out its page: that takes most of the time."""
    with patch.object(SimpleTemplateResponse, "rendered_content", ""):
        response: Any = client.get(url)
    assert response.status_code == 200
    return response.context_data["cl"]


def listed(client: Client, model: str, **query: Any) -> list[Any]:
    return [row.pk for row in changelist_at(client, url_of(model, **query)).result_list]


def text_of(html: str) -> str:
    """Return the text of a page as it is read, without its markup."""
    return words(parse(html))


def make_invalid(body: str = "{broken", **values: Any) -> WebhookEvent:
    return WebhookEvent.objects.create(
        endpoint="receive",
        kind="unknown",
        outcome="invalid",
        error="The body is not JSON.",
        body=body,
        **values,
    )


def fill(count: int) -> None:
    """Add a busy time to the tables: something of everything, all of it older than before."""
    now = timezone.now()
    first = Message.objects.count()

    def time_of(number: int) -> datetime:
        return now - timedelta(seconds=number)

    def contact_of(number: int) -> str:
        return f"+6140000{number:04d}"

    def message_of(number: int) -> dict[str, Any]:
        number += first
        contact = contact_of(number)
        inbound = number % 5 == 0
        return {
            "cellcast_id": f"id-{number}",
            "direction": Direction.INBOUND if inbound else Direction.OUTBOUND,
            "sender": contact if inbound else "cellcast",
            "receiver": "" if inbound else contact,
            "contact": contact,
            "own_number": OWN_NUMBERS[number % 2],
            "status": STATUSES[number % 6],
            "created_at": time_of(number),
        }

    messages = add_copies(Message(), count, message_of)

    def event_of(number: int) -> dict[str, Any]:
        message = messages[number]
        number += first
        outcome = ["stored", "duplicate", "invalid"][number % 3]
        return {
            "kind": ["status", "status", "reply", "opt_out"][number % 4],
            "outcome": outcome,
            "contact": contact_of(number),
            "cellcast_id": f"id-{number}",
            "message_id": message,
            "received_at": time_of(number),
        }

    events = add_copies(WebhookEvent(endpoint="status", body="{}"), count, event_of)

    def call_of(number: int) -> dict[str, Any]:
        event = events[number]
        number += first
        state = {30: "waiting", 33: "retrying", 60: "failed"}.get(number, "done")
        is_open = state in HandlerCall.UNFINISHED
        return {
            "event_id": event,
            "state": state,
            "next_attempt_at": time_of(number) if is_open else None,
            "failing_since": time_of(number) if state in {"retrying", "failed"} else None,
            "error": "KeyError: 1" if state in {"retrying", "failed"} else "",
        }

    add_copies(HandlerCall(signal="status_changed", handler="shop.confirm"), count, call_of)

    def change_of(number: int) -> dict[str, Any]:
        message, event = messages[number], events[number]
        number += first
        return {
            "message_id": message,
            "event_id": event,
            "status": STATUSES[number % 6] or "received",
            "recorded_at": time_of(number),
        }

    add_copies(StatusChange(applied=True), count, change_of)
