"""The filter "wish to stop": what a person should look at, among the newest replies."""

from typing import Any

import pytest
from django.test import Client

from cellcast_django import health
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_in, opt_out
from tests.admin_pages import CUSTOMER, listed, page_of, staff, url_of
from tests.many import add_copies

pytestmark = pytest.mark.django_db


def replies(*texts: str) -> list[Message]:
    return [MessageFactory.create(inbound=True, body=text) for text in texts]


def possible(client: Client, **query: str) -> list[int]:
    return listed(client, "message", stop="possibly", **query)


def test_stop_filter_finds_newest_first(reader: Client) -> None:
    first, _, second, _ = replies("Please stop texting me", "Yes", "no more texts!", "See you")
    MessageFactory.create(body="Reply STOP to opt-out")
    replies("Stop.")  # which is a stop word
    assert possible(reader) == [second.pk, first.pk]
    first.mark_handled()
    assert possible(reader) == [second.pk]
    assert len(listed(reader, "message", stop="x")) == 6
    assert "stop=possibly" in page_of(reader, "message")
    assert "stop=possibly" not in page_of(reader, "message", direction="outbound")


def test_stop_filter_skips_opted_out(reader: Client) -> None:
    message = MessageFactory.create(inbound=True, sender=CUSTOMER, body="dont text me, stop it")
    opt_out(CUSTOMER, note="asked by text")
    assert possible(reader) == []
    opt_in(CUSTOMER)
    assert possible(reader) == [message.pk]


def test_stop_filter_reads_only_the_newest_replies(reader: Client) -> None:
    _, found, last = replies("stop it", "stop that", "see you")
    add_copies(last, health.MAX_WAITING - 2)
    assert possible(reader) == [found.pk]


def test_stop_filter_knows_your_own_words(reader: Client, settings: Any) -> None:
    texts = [
        "请退订,谢谢",
        "أريد إلغاء الرسائل",
        "Xin TỪ CHỐI nhận tin",
        "Xin tu\u031b\u0300 cho\u0302\u0301i",
    ]
    wishes = replies(*texts)
    replies("See you at 5")
    assert possible(reader) == []
    settings.CELLCAST_STOP_HINTS = ["退订", "إلغاء", "từ chối"]
    assert set(possible(reader)) == {wish.pk for wish in wishes}


def test_message_leads_to_the_opt_out_form_for_permitted_users(reader: Client) -> None:
    [message] = replies("please stop")
    nameless = MessageFactory.create(inbound=True, sender="cellcast", body="stop")
    clerk = staff("view_message", "view_optout", "add_optout")
    url = url_of("optout", "add", message=message.pk)
    assert url in page_of(clerk, "message", "change", message.pk)
    assert "data-opt-out" not in page_of(clerk, "message", "change", nameless.pk)
    assert "data-opt-out" not in page_of(reader, "message", "change", message.pk)
    opt_out(message.contact)
    assert url not in page_of(clerk, "message", "change", message.pk)
