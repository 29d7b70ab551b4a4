"""The URLs and their table: names, with and without a slash, and that none ever redirects."""

import re
import runpy
import subprocess
import sys
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import Resolver404, resolve, reverse

from cellcast_django.models import base
from cellcast_django.testing import WebhookClient
from cellcast_django.views import WebhookView
from tests.pages import blocks

_page: dict[str, Any] = {}
next(block for block in blocks("docs/reference/urls.md", "python")).run(_page)
urlpatterns = _page["urlpatterns"]
"""Those of *Another prefix*."""

PATHS = ["/sms/webhook-receiver", "/sms/webhook-status", "/sms/webhook-opt-out"]


NOT_INSTALLED = """
from django.conf import settings
settings.configure()
__import__("django").setup()
import cellcast_django.urls
"""


def test_urls_of_an_app_that_is_not_installed_name_the_setting(monkeypatch: Any) -> None:
    run = subprocess.run([sys.executable, "-c", NOT_INSTALLED], capture_output=True, check=False)
    assert re.search(rb'ImproperlyConfigured: "cellcast_django".*INSTALLED_APPS', run.stderr)
    monkeypatch.setattr(apps, "is_installed", lambda name: False)  # where coverage sees it
    with pytest.raises(ImproperlyConfigured):
        runpy.run_path(str(base.__file__))


def test_view_needs_an_endpoint() -> None:
    with pytest.raises(TypeError, match="endpoint"):
        WebhookView.as_view()  # type: ignore[call-arg]


@pytest.mark.urls("tests.test_urls")
@pytest.mark.parametrize("path", PATHS)
def test_documented_second_prefix_works_and_is_shown(path: str, client: WebhookClient) -> None:
    new = path.replace("/sms/", "/webhooks/")
    assert reverse(f"cellcast_django:{path.removeprefix('/sms/')}") == new
    assert client.get(path).status_code == client.get(new).status_code == 200
    assert not [message for message in run_checks() if message.id == "urls.W005"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rest", ["//", "/x", "x", ".json"])
def test_other_paths_are_not_found(path: str, rest: str) -> None:
    with pytest.raises(Resolver404):
        resolve(path + rest)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("method", "status"), [("get", 200), ("head", 200), ("post", 401)])
def test_urls_never_redirect_with_or_without_slash(
    method: str, status: int, path: str, client: WebhookClient
) -> None:
    for append_slash in (True, False):
        with override_settings(APPEND_SLASH=append_slash):
            for slash in ("", "/"):
                assert getattr(client, method)(path + slash).status_code == status
