"""The admin's pages open in every skin that many sites use."""

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT

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
    "none": [],
    "baton": ["baton"],
    "grappelli": ["grappelli"],
    "interface": ["admin_interface", "colorfield"],
    "jazzmin": ["jazzmin"],
    "unfold": ["unfold"],
}
WITH_URLS = {"baton", "grappelli"}

SETTINGS = """\
from shop.settings import *

INSTALLED_APPS = [*{apps!r}, *INSTALLED_APPS, "cellcast_django"]
DATABASES["default"]["NAME"] = BASE_DIR / "{skin}.sqlite3"
ROOT_URLCONF = "shop.urls_{skin}"
CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-password-for-tests"]
ALLOWED_HOSTS = ["testserver"]
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

CRAWL = """\
import re
from html import unescape
from urllib.parse import urljoin

from django.contrib.auth.models import User
from django.test import Client

from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient

Message.objects.record_sent("66b5b93b1e2c012dfe964000", receiver="+61400000001")
webhooks = WebhookClient()
webhooks.reply()
webhooks.status()
webhooks.opt_out()
webhooks.send("webhook-receiver", b"{")

client = Client()
client.force_login(User.objects.create_superuser("admin"))
waiting, seen = ["/admin/cellcast_django/"], set()
while waiting and len(seen) < 150:
    url = waiting.pop()
    if url in seen:
        continue
    seen.add(url)
    response = client.get(url, follow=True)
    assert response.status_code == 200, (url, response.status_code)
    if "html" in response["Content-Type"]:
        links = re.findall(r'href="([^"#]+)', response.text)
        found = {urljoin(url, unescape(link)) for link in links}
        waiting += sorted(each for each in found if each.startswith("/admin/cellcast_django/"))
print(len(seen), "pages")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FreshProject:
    """A project whose environment has all skins."""
    return FreshProject(tmp_path_factory.mktemp("host"), "django>=6.1,<6.2", str(ROOT), *PACKAGES)


@pytest.mark.parametrize("skin", SKINS)
def test_every_page_opens(skin: str, project: FreshProject) -> None:
    more = f'path("{skin}/", include("{skin}.urls")),' if skin in WITH_URLS else ""
    project.write(f"shop/urls_{skin}.py", URLS.format(more=more))
    project.write(f"shop/settings_{skin}.py", SETTINGS.format(skin=skin, apps=SKINS[skin]))
    project.environment["DJANGO_SETTINGS_MODULE"] = f"shop.settings_{skin}"
    project.manage("migrate")
    pages = project.manage("shell", "--verbosity=0", "--command", CRAWL)
    assert int(pages.split()[-2]) > 20
