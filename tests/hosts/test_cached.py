"""Sites that cache the ORM: nothing but the database says whether a customer may be texted."""

import json
from collections.abc import Iterator

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT
from tests.stress.databases import start_service

pytestmark = pytest.mark.hosts

PACKAGES = ("django-cachalot", "django-cacheops")

COMMON = """\
INSTALLED_APPS += ["cellcast_django"]
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "shop.sms"
CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-password-for-tests"]
CELLCAST_SEND_WITH = "ask.take"
"""

CACHED = {
    "cachalot": 'INSTALLED_APPS += ["cachalot"]\n',
    "cacheops": """\
INSTALLED_APPS += ["cacheops"]
CACHEOPS_REDIS = "{redis}"
CACHEOPS = {{"*.*": {{"ops": "all", "timeout": 3600}}}}
""",
    "cacheops-as-the-docs-say": """\
INSTALLED_APPS += ["cacheops"]
CACHEOPS_REDIS = "{redis}"
CACHEOPS = {{"cellcast_django.*": None, "*.*": {{"ops": "all", "timeout": 3600}}}}
""",
}

URLS = """\
from django.urls import include, path

urlpatterns = [path("sms/", include("cellcast_django.urls"))]
"""

ASK = """\
import json
import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = sys.argv[-1]
django.setup()
from cellcast_django.models import Message, OptOut
from cellcast_django.opt_outs import is_opted_out, opt_in, opted_out
from cellcast_django.sending import OptedOutError, send
from cellcast_django.testing import WebhookClient

NUMBER = "+61491570156"


def take(receiver, body, sender, *, reference):
    return "66b5b93b1e2c012dfe964000"


def sends():
    try:
        send(NUMBER, "Hello")
    except OptedOutError:
        return False
    return True


def ask():
    return [is_opted_out(NUMBER), opted_out([NUMBER]) == {NUMBER}, not sends()]


def ask_the_orm():
    return [OptOut.objects.active().exists(), Message.objects.delivered().count()]


if __name__ == "__main__":
    client = WebhookClient()
    found = {"before": ask(), "orm before": ask_the_orm()}
    assert client.reply(sender=NUMBER, message="STOP").status_code == 200
    assert client.status(_id="66b5b93b1e2c012dfe964000").status_code == 200
    found |= {"stopped": ask(), "orm stopped": ask_the_orm()}
    found["ended"] = opt_in(NUMBER)
    found["after"] = ask()
    assert client.reply(sender=NUMBER, message="Stop").status_code == 200
    found["again"] = ask()
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FreshProject:
    folder = tmp_path_factory.mktemp("cached")
    project = FreshProject(folder, "django>=6.1,<6.2", str(ROOT), *PACKAGES)
    project.write("shop/sms.py", URLS)
    project.write("ask.py", ASK)
    project.append("shop/settings.py", COMMON)
    project.manage("migrate")
    return project


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    process, url = start_service("redis", "BROKER_URL")
    yield url
    process.communicate(timeout=60)


@pytest.mark.parametrize("name", CACHED)
def test_stop_counts_although_the_orm_is_cached(
    project: FreshProject, redis: str, name: str
) -> None:
    module = f"shop.{name.replace('-', '_')}"
    settings = CACHED[name].format(redis=redis)
    project.write(f"{module.replace('.', '/')}.py", f"from shop.settings import *\n{settings}")
    project.manage("flush", "--no-input")
    found = json.loads(project.run("python", "ask.py", module).splitlines()[-1])
    assert found["before"] == [False, False, False]
    assert found["stopped"] == [True, True, True]
    assert found["ended"] is True
    assert found["after"] == [False, False, False]
    assert found["again"] == [True, True, True]
    assert found["orm before"] == [False, 0]
    # cacheops hears only of what save() writes.
    assert found["orm stopped"] == ([True, 0] if name == "cacheops" else [True, 1])
