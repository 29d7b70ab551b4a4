"""What the tests of the admin share: people of the staff, addresses, and what a page says."""

from collections.abc import Callable
from datetime import timedelta
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


def levels(response: Any) -> list[str]:
    """Return the levels of what the page says."""
    assert response.status_code == 200
    return [message.level_tag for message in response.context["messages"]]


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
    now, first = timezone.now(), Message.objects.count()
    numbers = [first + number for number in range(count)]
    times = [now - timedelta(seconds=number) for number in numbers]
    contacts = [f"+6140000{number:04d}" for number in numbers]

    def message_of(place: int) -> dict[str, Any]:
        number, contact = numbers[place], contacts[place]
        inbound = number % 5 == 0
        return {
            "cellcast_id": f"id-{number}",
            "direction": Direction.INBOUND if inbound else Direction.OUTBOUND,
            "sender": contact if inbound else "cellcast",
            "receiver": "" if inbound else contact,
            "contact": contact,
            "own_number": OWN_NUMBERS[number % 2],
            "status": STATUSES[number % 6],
            "created_at": times[place],
        }

    def event_of(place: int) -> dict[str, Any]:
        number = numbers[place]
        return {
            "kind": ["status", "status", "reply", "opt_out"][number % 4],
            "outcome": ["stored", "duplicate", "invalid"][number % 3],
            "contact": contacts[place],
            "cellcast_id": f"id-{number}",
            "message_id": messages[place],
            "received_at": times[place],
        }

    def call_of(place: int) -> dict[str, Any]:
        state = {30: "waiting", 33: "retrying", 60: "failed"}.get(numbers[place], "done")
        is_failing = state in {"retrying", "failed"}
        return {
            "event_id": events[place],
            "state": state,
            "next_attempt_at": times[place] if state in HandlerCall.UNFINISHED else None,
            "failing_since": times[place] if is_failing else None,
            "error": "KeyError: 1" if is_failing else "",
        }

    def change_of(place: int) -> dict[str, Any]:
        return {
            "message_id": messages[place],
            "event_id": events[place],
            "status": STATUSES[numbers[place] % 6] or "received",
            "recorded_at": times[place],
        }

    messages = add_copies(Message(), count, message_of)
    events = add_copies(WebhookEvent(endpoint="status", body="{}"), count, event_of)
    add_copies(HandlerCall(signal="status_changed", handler="shop.confirm"), count, call_of)
    add_copies(StatusChange(applied=True), count, change_of)
