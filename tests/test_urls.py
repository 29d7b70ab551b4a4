"""The URLs: their names, with and without a slash, and that none ever redirects."""

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client, override_settings
from django.urls import Resolver404, resolve, reverse

from cellcast_django.models import WebhookEvent
from cellcast_django.testing import (
    WebhookClient,
    authorization,
    opt_out_payload,
    reply_payload,
    status_payload,
)
from tests.pages import blocks

_page: dict[str, Any] = {}
next(block for block in blocks("docs/reference/urls.md", "python")).run(_page)
urlpatterns = _page["urlpatterns"]
"""Those of *Another prefix*."""

PATHS = [
    ("webhook-receiver", "/sms/webhook-receiver"),
    ("webhook-status", "/sms/webhook-status"),
    ("webhook-opt-out", "/sms/webhook-opt-out"),
]


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_url_names_resolve_to_documented_paths(name: str, path: str) -> None:
    assert reverse(f"cellcast_django:{name}") == path
    assert resolve(path).view_name == resolve(path + "/").view_name == f"cellcast_django:{name}"


@pytest.mark.urls("tests.test_urls")
@pytest.mark.parametrize(("name", "path"), PATHS)
def test_documented_second_prefix_works_and_is_shown(
    name: str, path: str, client: WebhookClient
) -> None:
    new = path.replace("/sms/", "/webhooks/")
    assert reverse(f"cellcast_django:{name}") == new
    assert client.get(path).status_code == client.get(new).status_code == 200
    assert not [message for message in run_checks() if message.id == "urls.W005"]


@pytest.mark.parametrize(("name", "path"), PATHS)
@pytest.mark.parametrize("rest", ["//", "/x", "x", ".json", "/?/"])
def test_other_paths_are_not_found(name: str, path: str, rest: str) -> None:
    with pytest.raises(Resolver404):
        resolve(path + rest)


@pytest.mark.parametrize(("name", "path"), PATHS)
@pytest.mark.parametrize("method", ["get", "head", "post"])
def test_urls_never_redirect_with_or_without_slash(
    method: str, name: str, path: str, client: WebhookClient
) -> None:
    for append_slash in (True, False):
        with override_settings(APPEND_SLASH=append_slash):
            responses = [getattr(client, method)(path + slash) for slash in ("", "/")]
        for response in responses:
            assert response.status_code == (401 if method == "post" else 200)


@pytest.mark.django_db
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("path", "payload", "endpoint"),
    [
        (PATHS[0][1], reply_payload(), "receive"),
        (PATHS[1][1], status_payload(), "status"),
        (PATHS[2][1], opt_out_payload(), "opt_out"),
        (PATHS[0][1], status_payload(), "receive"),  # one URL pasted into two fields
        (PATHS[1][1], reply_payload(), "status"),
    ],
)
def test_event_records_its_url(
    path: str, payload: dict[str, Any], endpoint: str, slash: str
) -> None:
    response = Client().post(path + slash, payload, "application/json", headers=authorization())
    assert response.status_code == 200
    event = WebhookEvent.objects.get()
    assert (event.endpoint, event.outcome) == (endpoint, "stored")
