"""The table of webhook URLs."""

from operator import attrgetter
from typing import Any

import pytest
from django.urls import resolve

from cellcast_django.payloads import Endpoint, Invalid, read
from cellcast_django.views import WebhookView
from cellcast_django.webhooks import WEBHOOKS, Webhook

each_webhook = pytest.mark.parametrize("webhook", WEBHOOKS, ids=attrgetter("slug"))


def test_every_endpoint_but_the_api_has_one_row() -> None:
    assert [each.endpoint for each in WEBHOOKS] == [e for e in Endpoint if e != Endpoint.API]


@each_webhook
@pytest.mark.parametrize("base_url", ["https://sms.example.com", "https://sms.example.com/"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_url_resolves_to_the_view_of_its_endpoint(
    webhook: Webhook, base_url: str, slash: str
) -> None:
    assert webhook.url(base_url) == f"https://sms.example.com{webhook.path()}"
    match: Any = resolve(webhook.path() + slash)
    assert match.func.view_class is WebhookView
    assert match.func.view_initkwargs == {"endpoint": webhook.endpoint}
    assert webhook.path() == f"/sms/{webhook.url_name}"


def test_view_needs_an_endpoint() -> None:
    with pytest.raises(TypeError, match="endpoint"):
        WebhookView.as_view()  # type: ignore[call-arg]


@each_webhook
def test_example_is_read_by_its_urls_reader(webhook: Webhook) -> None:
    [payload] = read(webhook.body, "application/json", webhook.endpoint)
    assert not isinstance(payload, Invalid)
