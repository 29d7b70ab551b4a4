"""With django-prometheus' engine every statement is counted, and a webhook still takes one."""

from pathlib import Path

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT

pytestmark = pytest.mark.hosts

SETTINGS = """\
DATABASES = {{
    "default": {{
        "ENGINE": "django_prometheus.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": {port},
        "CONN_MAX_AGE": 60,
        "OPTIONS": {{"options": "-c lock_timeout=2s"}},
    }}
}}
INSTALLED_APPS += ["django_prometheus", "cellcast_django"]
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-password-for-tests"]
"""

URLS = """\
from django.urls import include, path

urlpatterns = [path("sms/", include("cellcast_django.urls"))]
"""

SEND = """\
from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from django_prometheus.db import execute_total

WEBHOOKS = 20


def statements():
    samples = [sample for metric in execute_total.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


client = WebhookClient()
client.status(_id="the first opens the connection")
before = statements()
for number in range(WEBHOOKS):
    assert client.status(_id=str(number)).status_code == 200
counted = statements() - before
assert counted == 3 * WEBHOOKS, counted
assert Message.objects.delivered().count() == WEBHOOKS + 1
"""


def test_each_statement_of_a_webhook_is_counted(port: int, tmp_path: Path) -> None:
    project = FreshProject(
        tmp_path, "django>=6.1,<6.2", str(ROOT), "django-prometheus", "psycopg[binary]"
    )
    project.append("shop/settings.py", SETTINGS.format(port=port))
    project.write("shop/urls.py", URLS)
    project.manage("migrate")
    project.manage("shell", "--verbosity=0", "--command", SEND)
