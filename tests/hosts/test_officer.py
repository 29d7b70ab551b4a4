"""A site with an access log and consent, as docs/privacy-and-spam.md says."""

import pytest

from tests.fresh_project import FreshProject
from tests.newcomers.following import follow
from tests.pages import ROOT

pytestmark = pytest.mark.hosts

PAGE = "docs/privacy-and-spam.md"
SETTINGS = """\
INSTALLED_APPS += ["cellcast_django", "cellcast_django.desk", "shop"]
ALLOWED_HOSTS = ["testserver"]
CELLCAST_SEND_WITH = "shop.sms.send_sms"
"""
URLS = """\
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("sms/", include("cellcast_django.urls")),
]
"""
SMS = """\
from itertools import count

numbers = count()
sent = []


def send_sms(receiver, body, sender="", *, reference=""):
    sent.append(receiver)
    return f"id {next(numbers)}"
"""
VISIT = """\
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from shop.breach import seen_by

began = timezone.now() - timedelta(minutes=1)
WebhookClient().reply(message="I have stopped the tablets")
reply = Message.objects.inbound().latest("pk")
user = get_user_model().objects.create_superuser("mia", password="x")
mia = Client()
mia.force_login(user)
base = "/admin/cellcast_django"
for page in (
    "message/", f"message/{reply.pk}/change/", f"message/{reply.pk}/conversation/",
    "message/to-answer/", "message/to-answer/news/", "message/999/change/", "webhookevent/",
):
    mia.get(f"{base}/{page}")
Client().get(f"{base}/message/{reply.pk}/change/")
for _, page, pk in seen_by("mia", began):
    print(page, pk.replace(str(reply.pk), "reply"))
user.delete()
from auditlog.models import LogEntry
rows = list(LogEntry.objects.values())
print(len(rows), seen_by("mia", began), str(rows).count("tablets"))
"""
OFFER = """\
from django.utils import timezone

from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from shop.models import Consent
from shop.offers import send_offer
from shop.sms import sent

number = "+61400000000"
send_offer(number, "Sale")
print(len(sent))
consent = Consent.objects.create(
    contact=number, purpose="offers", words="Yes", source="form", given_at=timezone.now()
)
send_offer(number, "Sale")
print(len(sent))
WebhookClient().reply(message="STOP")
send_offer(number, "Sale")
consent.refresh_from_db()
print(len(sent), consent.ended_at is not None)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FreshProject:
    project = FreshProject(tmp_path_factory.mktemp("officer"), "django>=6.1,<6.2", str(ROOT))
    project.append("shop/settings.py", SETTINGS)
    project.write("shop/urls.py", URLS)
    project.write("shop/sms.py", SMS)
    follow(PAGE, project)
    project.manage("makemigrations", "shop", "--verbosity=0")
    project.manage("migrate", "--verbosity=0")
    return project


def test_log_says_who_looked_at_what_and_no_more(project: FreshProject) -> None:
    *seen, last = project.manage("shell", "--verbosity=0", "--command", VISIT).splitlines()
    assert seen == [
        "cellcast_django_message_changelist ",
        "cellcast_django_message_change reply",
        "cellcast_django_message_conversation reply",
        "cellcast_django_message_to_answer ",
        "cellcast_django_webhookevent_changelist ",
    ]
    assert last == "5 [] 0", "an entry outlives its person, and quotes nobody"


def test_offer_needs_consent_which_ends_with_an_opt_out(project: FreshProject) -> None:
    assert project.manage("shell", "--verbosity=0", "--command", OFFER).split() == [
        "0",
        "1",
        "1",
        "True",
    ]
