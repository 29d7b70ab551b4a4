"""The admin works in every skin that many sites use (BROWSER_SCREENSHOTS=folder: with pictures)."""

import os
import re
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT, blocks

pytestmark = pytest.mark.hosts

PACKAGES = [
    "django-admin-interface",
    "django-baton",
    "django-grappelli",
    "django-jazzmin",
    "django-unfold",
]
# The apps that each skin's own documentation puts before Django's admin.
SKINS = {
    "baton": ["baton"],
    "grappelli": ["grappelli"],
    "interface": ["admin_interface", "colorfield"],
    "jazzmin": ["jazzmin"],
    "unfold": ["unfold"],
}
WITH_URLS = {"baton", "grappelli"}
VISITS_OF_A_PAGE = 2

SETTINGS = """\
from shop.settings import *

INSTALLED_APPS = [*{apps!r}, *INSTALLED_APPS, "cellcast_django", "cellcast_django.desk", "shop"]
DATABASES["default"]["NAME"] = BASE_DIR / "{skin}.sqlite3"
ROOT_URLCONF = "shop.urls_{skin}"
CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-password-for-tests"]
CELLCAST_PUBLIC_URL = "http://127.0.0.1"
CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
ALLOWED_HOSTS = ["testserver", "127.0.0.1"]
"""

URLS = """\
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("sms/", include("cellcast_django.urls")),
    {more}
]
"""

APP = """\
from django.apps import AppConfig, apps


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from shop import handlers

        if apps.is_installed("unfold"):
            from shop.unfold_admin import register_with_unfold

            register_with_unfold()
"""

HANDLERS = """\
from cellcast_django.signals import message_received
from django.dispatch import receiver


calls = []


@receiver(message_received)
def fail_twice(**kwargs):
    calls.append(kwargs)
    if len(calls) == 1:  # where the webhook comes, and in the server's process
        raise ValueError("not yet")
"""

FILL = """\
from django.contrib.auth.models import User
from django.test import Client

from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient

Message.objects.record_sent("66b5b93b1e2c012dfe964000", receiver="+61400000001")
webhooks = WebhookClient(raise_handler_errors=False)
webhooks.reply()
webhooks.status()
webhooks.opt_out()
webhooks.webhook(b"{", "receive")
client = Client()
client.force_login(User.objects.create_superuser("admin"))
print(client.cookies["sessionid"].value)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FreshProject:
    """A project whose environment has all skins."""
    folder = tmp_path_factory.mktemp("host")
    project = FreshProject(folder, "django>=6.1,<6.2", str(ROOT), *PACKAGES)
    project.write("shop/apps.py", APP)
    project.write("shop/handlers.py", HANDLERS)
    [recipe] = [
        block.code
        for block in blocks("docs/admin.md", "python")
        if block.first_line == "# shop/unfold_admin.py"
    ]
    project.write("shop/unfold_admin.py", recipe)
    return project


@pytest.mark.parametrize("skin", SKINS)
def test_pages_open_and_buttons_work_in_each_skin(
    skin: str, project: FreshProject, page: Any
) -> None:
    more = f'path("{skin}/", include("{skin}.urls")),' if skin in WITH_URLS else ""
    project.write(f"shop/urls_{skin}.py", URLS.format(more=more))
    project.write(f"shop/settings_{skin}.py", SETTINGS.format(skin=skin, apps=SKINS[skin]))
    project.environment["DJANGO_SETTINGS_MODULE"] = f"shop.settings_{skin}"
    project.manage("migrate")
    session = project.manage("shell", "--verbosity=0", "--command", FILL).split()[-1]
    with project.server() as url:
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
        admin = f"{url}/admin/cellcast_django"
        assert len(crawl(page, admin)) > 20
        assert fields_without_edges(page, admin, skin) == []
        retry_from_the_page_of_the_event(page, admin, skin)
        retry_from_the_list(page, admin, skin)


def crawl(page: Any, admin: str) -> set[str]:
    """Open every page of the app's that a link leads to, each with a few of its queries."""
    waiting, seen = [f"{admin}/"], set[str]()
    visits: Counter[str] = Counter()
    while waiting:
        address = waiting.pop()
        path = urlsplit(address).path
        if address in seen or visits[path] >= VISITS_OF_A_PAGE:
            continue
        seen.add(address)
        visits[path] += 1
        response = page.request.get(address)
        assert response.ok, address
        if "html" in response.headers["content-type"]:
            links = re.findall(r'href="([^"#]+)', response.text())
            found = {urljoin(address, unescape(link)) for link in links}
            waiting += sorted(each for each in found if each.startswith(f"{admin}/"))
    return seen


FORMS = {
    "new": ("message/new/", "#cellcast-number"),
    "opt-out": ("optout/add/", "#id_number"),
    "opt-in": ("optout/1/end/", "#id_reason"),
    "conversation": ("message/2/conversation/", "#cellcast-data-from"),
    "to-answer": ("message/to-answer/", "#cellcast-search"),
    "setup": ("webhookevent/setup/", "textarea"),
}
"""Where our forms are, and a field of each."""

WITHOUT_EDGES = """() => {
    document.querySelectorAll("details").forEach((each) => { each.open = true; });
    const fields = document.querySelectorAll(
        "form:has([name=csrfmiddlewaretoken], .cellcast-button) :is(" +
        "textarea, select, input:not([type=hidden], [type=checkbox], [type=radio], [type=submit]))"
    );
    const isBare = (field) => {
        const { borderBottomWidth: width, borderBottomColor: color } = getComputedStyle(field);
        const behind = getComputedStyle(field.parentElement).backgroundColor;
        return width === "0px" || /^rgba.* 0\\)$/.test(color) || color === behind;
    };
    const bare = [...fields].filter((each) => each.checkVisibility() && isBare(each));
    return bare.map((each) => each.id);
}"""


def fields_without_edges(page: Any, admin: str, skin: str) -> list[tuple[str, str, str]]:
    """Return the fields of our forms that cannot be seen, in light and in dark."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name, (address, field) in FORMS.items():
            page.goto(f"{admin}/{address}")
            found += [(scheme, name, each) for each in page.evaluate(WITHOUT_EDGES)]
            assert page.locator(field).first.is_visible(), name
            take(page, skin, f"{name}-{scheme}")
    page.emulate_media(color_scheme="light")
    return found


def retry_from_the_page_of_the_event(page: Any, admin: str, skin: str) -> None:
    page.goto(f"{admin}/webhookevent/1/change/")
    take(page, skin, "event")
    page.get_by_role("link", name="Run again", exact=True).click()
    take(page, skin, "confirmation")
    button = page.get_by_role("button", name="Run again", exact=True)
    assert button.bounding_box()["width"] > 60  # its text can be read
    button.click()
    page.wait_for_url(f"{admin}/webhookevent/1/change/**")


LINKS = ("To answer", "Overview", "Setup")


def retry_from_the_list(page: Any, admin: str, skin: str) -> None:
    page.goto(f"{admin}/webhookevent/")
    take(page, skin, "list")
    for role, name in (("button", "Export CSV"), *(("link", name) for name in LINKS)):
        assert page.get_by_role(role, name=name).last.bounding_box()["y"] >= 0
    page.locator("tr", has_text="fail_twice").get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option("run_again")
    page.locator("button[name=index]").click()
    page.get_by_role("button", name="Run again").click()
    page.get_by_text("1 done").first.wait_for()


def take(page: Any, skin: str, name: str) -> None:
    if folder := os.environ.get("BROWSER_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{skin}-{name}.png", full_page=True)
