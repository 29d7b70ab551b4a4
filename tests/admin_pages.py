"""What the tests of the admin share: people of the staff, addresses, and what a page says."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Direction, Message, StatusChange, WebhookEvent
from tests.html import parse, words

CUSTOMER = "+61400000001"
ID = "66b5b93b1e2c012dfe964000"
MODELS = ("message", "statuschange", "webhookevent")


def staff(*codenames: str) -> Client:
    if not Permission.objects.exists():  # a flush has taken them
        create_permissions(apps.get_app_config("cellcast_django"))
    user = User.objects.create_user(f"staff-{User.objects.count()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
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


def listed(client: Client, model: str, **query: Any) -> list[Any]:
    response = client.get(url_of(model, **query))
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


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
    rows = []
    for number in range(first, first + count):
        inbound = number % 5 == 0
        time = now - timedelta(seconds=number)
        spelling = f"+6140000{number:04d}"
        message = Message.from_parts(
            Direction.INBOUND if inbound else Direction.OUTBOUND,
            cellcast_id=f"id-{number}",
            sender=spelling if inbound else "cellcast",
            receiver="" if inbound else spelling,
        )
        message.status = ["delivered", "received", "failed", "queued", "", "dead"][number % 6]
        message.created_at = time
        event = WebhookEvent(
            endpoint="status",
            kind=["status", "status", "reply", "opt_out"][number % 4],
            outcome=["stored", "duplicate", "invalid"][number % 3],
            body="{}",
            contact=message.contact,
            cellcast_id=message.cellcast_id,
            message=message,
            received_at=time,
        )
        if event.outcome == "stored" and number not in (30, 33, 60):
            event.announced_at = time
        elif event.outcome == "stored" and number != 60:
            event.announce_due_at = time
        status = message.status or "received"
        change = StatusChange(
            message=message, event=event, status=status, applied=True, recorded_at=time
        )
        rows.append((message, event, change))
    Message.objects.bulk_create([message for message, _, _ in rows])
    WebhookEvent.objects.bulk_create([event for _, event, _ in rows])
    StatusChange.objects.bulk_create([change for _, _, change in rows])
