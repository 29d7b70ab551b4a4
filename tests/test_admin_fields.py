"""The fields of the detail pages."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.utils.text import capfirst

from cellcast_django.factories import OptOutFactory, WebhookEventFactory
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from tests.admin_pages import page_of, text_of

pytestmark = pytest.mark.django_db

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Message, "created_at"),
        (StatusChange, "recorded_at"),
        (WebhookEvent, "received_at"),
        (OptOut, "since"),
    ],
)
def test_times_show_their_zone(admin_client: Client, model: type[Model], name: str) -> None:
    WebhookEventFactory.create()
    OptOutFactory.create()
    row = model._default_manager.get()
    model._default_manager.filter(pk=row.pk).update(**{name: AT})

    text = text_of(page_of(admin_client, str(model._meta.model_name), "change", row.pk))

    field: Any = model._meta.get_field(name)
    label, help_text = capfirst(str(field.verbose_name)), str(field.help_text)
    for words in (label, help_text, "2 Jan 2026, 14:04:05 AEDT"):
        assert words in text
