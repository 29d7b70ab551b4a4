"""Replies that somebody has to deal with: one row for each customer, and the button *Done*."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone

from cellcast_django.admin import MessageAdmin
from cellcast_django.admin.pages.to_answer import MAX_REPLIES
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_out
from tests.admin_pages import CUSTOMER, page_of, staff, text_of, url_of
from tests.many import add_copies

pytestmark = pytest.mark.django_db

OTHER = "+61400000002"
OVERVIEW = "admin:cellcast_django_overview"


@pytest.fixture
def receptionist() -> Client:
    """A member of staff who may read messages and say which are dealt with."""
    return staff("view_message", "handle_message")


def ask(minutes_ago: int, body: str, sender: str = CUSTOMER) -> Message:
    time = timezone.now() - timedelta(minutes=minutes_ago)
    return MessageFactory.create(inbound=True, sender=sender, body=body, created_at=time)


def rows(client: Client) -> list[str]:
    """Return the texts of the page, one for each customer."""
    response = client.get(url_of("message", "to_answer"))
    assert response.status_code == 200
    return [row["text"] for row in response.context["rows"]]


def press_done(client: Client, message: Message, back: str = "") -> Any:
    return client.post(url_of("message", "handle", message.pk), {"back": back})


def test_each_customer_has_one_row_and_the_longest_waiting_comes_first(reader: Client) -> None:
    ask(20, "Are you open?", OTHER)
    ask(30, "Hello?")
    ask(10, "Anybody there?")
    MessageFactory.create(receiver=CUSTOMER, body="Our newsletter")

    assert rows(reader) == ["Anybody there?", "Are you open?"]
    words = text_of(page_of(reader, "message", "to_answer"))
    assert "0400 000 001 Anybody there? · 2 replies" in words
    assert "30 minutes ago" in words


def test_customers_who_opted_out_and_what_is_done_are_left_out(reader: Client) -> None:
    ask(30, "STOP", OTHER)
    opt_out(OTHER)
    ask(20, "Thanks").mark_handled()

    assert rows(reader) == []
    assert "Nobody is waiting for an answer." in page_of(reader, "message", "to_answer")


def test_reply_without_a_text_or_a_number_waits_too(reader: Client) -> None:
    ask(20, "", sender="")

    words = text_of(page_of(reader, "message", "to_answer"))

    assert "(no number) (no text)" in words


def test_page_says_when_more_wait_than_it_shows(
    reader: Client,
) -> None:
    ask(20, "first")
    later = ask(10, "later")
    add_copies(later, 99, lambda number: {"contact": f"+614000100{number:02}"})
    assert len(rows(reader)) == 100
    assert "These are the" not in text_of(page_of(reader, "message", "to_answer"))

    add_copies(later, 1, lambda number: {"contact": OTHER})

    assert rows(reader) == ["later"] * 100
    assert "These are the 100 customers" in text_of(page_of(reader, "message", "to_answer"))


def test_of_many_replies_the_oldest_are_read(reader: Client) -> None:
    ask(50, "first")
    ask(40, "second", OTHER)
    add_copies(ask(30, "again"), MAX_REPLIES - 3)
    assert f"· {MAX_REPLIES - 1} replies" in text_of(page_of(reader, "message", "to_answer"))

    ask(20, "the newest")
    ask(10, "not among the oldest", "+61400000003")

    with CaptureQueriesContext(connection) as queries:
        assert rows(reader) == ["the newest", "second"]
    assert any(f"LIMIT {MAX_REPLIES + 1}" in query["sql"] for query in queries)
    words = text_of(page_of(reader, "message", "to_answer"))
    assert "These are the 2 customers who have waited longest. There are more." in words
    assert "replies Done" not in words
    assert "2+ customers are waiting" in text_of(reader.get(reverse(OVERVIEW)).content.decode())


def test_page_needs_the_permission_to_view_messages() -> None:
    assert staff("view_webhookevent").get(url_of("message", "to_answer")).status_code == 403


def test_page_asks_as_many_questions_for_many_as_for_few(reader: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            rows(reader)
        return len(captured)

    ask(20, "one")
    few = queries()
    for number in range(20):
        ask(10, "more", f"+6140000{number:04d}")

    assert queries() == few


# Done


@pytest.mark.parametrize(
    ("back", "page"),
    [("", "to_answer"), ("x", "to_answer"), ("change", "change"), ("conversation", "conversation")],
)
def test_done_is_one_click_that_leads_back(receptionist: Client, back: str, page: str) -> None:
    earlier, message = ask(20, "Hello?"), ask(10, "Anybody there?")

    response = press_done(receptionist, message, back)

    arguments = [] if page == "to_answer" else [message.pk]
    assert response["Location"] == url_of("message", page, *arguments)
    assert not Message.objects.unhandled().exists()
    earlier.refresh_from_db()
    assert earlier.handled_at is not None
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(message.pk), "Marked it as handled.")


def test_every_page_about_a_reply_offers_it_until_it_is_done(receptionist: Client) -> None:
    message = ask(10, "Hello?")
    sent_to = f'action="{url_of("message", "handle", message.pk)}"'
    pages = [
        url_of("message", "to_answer"),
        url_of("message", "change", message.pk),
        url_of("message", "conversation", message.pk),
    ]

    assert all(sent_to in receptionist.get(page).content.decode() for page in pages)
    assert "… new" in text_of(page_of(receptionist, "message"))
    press_done(receptionist, message)
    assert not any(sent_to in receptionist.get(page).content.decode() for page in pages)
    assert "• done" in text_of(page_of(receptionist, "message"))


def test_done_needs_its_permission_and_a_post(reader: Client, receptionist: Client) -> None:
    message = ask(10, "Hello?")
    sent = MessageFactory.create()

    assert press_done(reader, message).status_code == 403
    assert press_done(staff("handle_message"), message).status_code == 403
    assert receptionist.get(url_of("message", "handle", message.pk)).status_code == 405
    assert press_done(receptionist, sent).status_code == 404
    assert Message.objects.unhandled().count() == 1
    for page in ("conversation", "change"):
        assert "Done" not in page_of(reader, "message", page, message.pk)
    assert "Done" not in page_of(reader, "message", "to_answer")


def test_several_replies_are_done_from_the_list(receptionist: Client, reader: Client) -> None:
    messages = [ask(20, "one"), ask(10, "two", OTHER), MessageFactory.create()]
    form = {
        "action": "mark_done",
        "_selected_action": [message.pk for message in messages],
        "index": 0,
    }

    reader.post(url_of("message"), form)
    assert Message.objects.unhandled().count() == 2
    response = receptionist.post(url_of("message"), form, follow=True)

    assert [str(each) for each in response.context["messages"]] == ["2 replies marked as done."]
    assert not Message.objects.unhandled().exists()
    assert LogEntry.objects.count() == 2


# Overview


def test_overview_says_first_how_many_wait(reader: Client) -> None:
    ask(60, "one")
    ask(50, "two")
    ask(10, "three", OTHER)

    page = reader.get(reverse(OVERVIEW)).content.decode()

    assert page.index("cellcast-to-answer-heading") < page.index("cellcast-lights-heading")
    assert f'href="{url_of("message", "to_answer")}">2</a>' in page
    assert "customers are waiting for an answer. The oldest reply came 1 hour ago" in text_of(page)


def test_overview_says_since_when_a_single_customer_waits(reader: Client) -> None:
    ask(10, "three", OTHER)
    page = text_of(reader.get(reverse(OVERVIEW)).content.decode())
    assert (
        "To answer 1 customer is waiting for an answer. The oldest reply came 10 minutes ago"
        in page
    )


def test_overview_says_when_nobody_waits_and_nothing_to_those_who_may_not_view() -> None:
    page = staff("view_message").get(reverse(OVERVIEW)).content.decode()
    assert "Nobody is waiting for an answer." in page

    page = staff("view_webhookevent").get(reverse(OVERVIEW)).content.decode()
    assert "waiting for an answer" not in page
    assert "to-answer" not in page


class OnePractice(MessageAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(contact=CUSTOMER)


practice = admin.AdminSite("practice")
practice.register(Message, OnePractice)
urlpatterns = [path("admin/", admin.site.urls), path("practice/", practice.urls)]


@override_settings(ROOT_URLCONF=__name__)
def test_restricted_site_shows_and_marks_its_own_replies_alone(admin_client: Client) -> None:
    ask(20, "ours")
    theirs = ask(10, "theirs", OTHER)
    base = "/practice/cellcast_django/message/"

    assert [row["text"] for row in admin_client.get(f"{base}to-answer/").context["rows"]] == [
        "ours"
    ]
    assert admin_client.get(f"{base}overview/").context["to_answer"]["count"] == 1
    assert admin_client.post(f"{base}{theirs.pk}/handle/").status_code == 404
