"""The admin of a site without an extension."""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import include, path

from cellcast_django.admin import register
from cellcast_django.factories import MessageFactory, OptOutFactory
from cellcast_django.models import Message, OptOut
from cellcast_django.testing import WebhookClient
from tests.admin_pages import CUSTOMER
from tests.html import addresses, every, only, words

pytestmark = pytest.mark.django_db

bare = admin.AdminSite("bare")
register(bare)
register(bare)
urlpatterns = [
    path("bare/", bare.urls),
    path("admin/", admin.site.urls),
    path("sms/", include("cellcast_django.urls")),
]
BASE = "/bare/cellcast_django"


@pytest.fixture(autouse=True)
def bare_site(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


def test_contact_leads_to_the_page_of_the_message(
    admin_client: Client, client: WebhookClient
) -> None:
    client.reply()
    url = f"{BASE}/message/{Message.objects.get().pk}/change/"
    for model in ("message", "webhookevent", "statuschange"):
        assert url in addresses(admin_client.get(f"{BASE}/{model}/").text)
    opt_out = OptOutFactory.create(contact=Message.objects.get().contact)
    assert url in addresses(admin_client.get(f"{BASE}/optout/{opt_out.pk}/change/").text)


def test_opting_out_from_a_reply_handles_it_and_returns_to_it(admin_client: Client) -> None:
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER, body="please stop texting")
    form = f"{BASE}/optout/add/?message={reply.pk}"
    assert form in addresses(admin_client.get(f"{BASE}/message/{reply.pk}/change/").text)

    response = admin_client.post(form, {"number": CUSTOMER, "reason": "asked"})

    assert response["Location"] == f"{BASE}/message/{reply.pk}/change/"
    page = admin_client.get(response["Location"]).text
    said = words(every(page, "section[@class='module cellcast-summary']/p")[0])
    assert said.index("done") < said.index("by admin") < said.index("opted out")
    assert OptOut.objects.get().is_active
    assert not Message.objects.unhandled().exists()


def test_history_is_reached_from_a_message_and_not_from_the_menu(
    admin_client: Client, client: WebhookClient
) -> None:
    client.status()
    menu = addresses(admin_client.get(f"{BASE}/").text)
    assert f"{BASE}/webhookevent/" in menu
    assert f"{BASE}/statuschange/" not in menu
    message = Message.objects.get()
    url = f"{BASE}/statuschange/?message__id__exact={message.pk}"
    assert url in addresses(admin_client.get(f"{BASE}/message/{message.pk}/change/").text)
    assert len(admin_client.get(url).context["cl"].result_list) == 1


def test_empty_list_offers_nothing_of_the_desk(admin_client: Client) -> None:
    page = admin_client.get(f"{BASE}/message/").text
    assert addresses(only(page, "p[@id='cellcast-nothing-here']")) == []
