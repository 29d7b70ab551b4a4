"""The conversation: all messages with one contact, newest in view, loaded in pages."""

from datetime import timedelta
from itertools import chain
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone
from django.utils.formats import date_format

from cellcast_django.admin import MessageAdmin, own_numbers
from cellcast_django.desk import conversation
from cellcast_django.desk.admin import register as give_desk_to
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.statuses import Status
from cellcast_django.testing import WebhookClient
from tests.admin_pages import CUSTOMER, listed, page_of, staff, text_of, url_of
from tests.html import addresses, every, only, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

BUBBLE = "ol[@class='cellcast-thread']/li"
HIDDEN = "span[@class='cellcast-hidden']"
NO_TEXT = "p[@class='cellcast-no-text']"
NOTHING = "p[@class='cellcast-nothing']"


def thread(client: Client, contact: str = CUSTOMER, **query: Any) -> list[str]:
    """Return the texts of the page's messages, in their order."""
    return bodies(client.get(address(contact, **query)).content.decode())


def address(contact: str = CUSTOMER, **query: Any) -> str:
    """Return the address of the conversation: it names any message with the contact."""
    message = Message.objects.filter(contact=contact).latest("created_at")
    return url_of("message", "conversation", message.pk, **query)


def bodies(page: Element | str) -> list[str]:
    texts = every(page, "div[@class='cellcast-text'][@dir='auto']")
    return ["".join(text.itertext()) for text in texts]


def say(*texts: str, contact: str = CUSTOMER, days_ago: int = 0) -> None:
    """Let both sides say these, a minute after each other, the customer first."""
    start = timezone.now() - timedelta(days=days_ago, hours=1)
    for number, text in enumerate(texts):
        parts = {"inbound": True, "sender": contact} if number % 2 == 0 else {"receiver": contact}
        MessageFactory.create(body=text, created_at=start + timedelta(minutes=number), **parts)


def test_messages_are_in_chronological_order(reader: Client) -> None:
    say("one", "two", "three")
    say("another", contact="+61400000002")

    assert thread(reader) == ["one", "two", "three"]


def test_each_side_is_labelled_in_words(reader: Client) -> None:
    say("Are you open?", "Until five.")

    page = reader.get(address()).content.decode()

    bubbles = every(page, BUBBLE)
    assert [each.get("class", "").split()[1] for each in bubbles] == [
        "cellcast-inbound",
        "cellcast-outbound",
    ]
    customer, you = (words(every(each, HIDDEN)[0]) for each in bubbles)
    assert customer and you and customer != you


def test_sent_messages_show_status_and_every_message_is_linked(reader: Client) -> None:
    answer = MessageFactory.create(receiver=CUSTOMER, undelivered=True)
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)

    page = reader.get(address()).content.decode()

    assert text_of(page).count(str(Status(answer.status).label)) == 1
    assert str(Status.RECEIVED.label) not in text_of(page)
    for message in (answer, question):
        assert f'href="{url_of("message", "change", message.pk)}"' in page


def test_each_day_has_a_heading(reader: Client) -> None:
    say("long ago", days_ago=3)
    say("today")

    page = reader.get(address()).content.decode()

    assert page.count('class="cellcast-day"') == 2


def test_headings_mark_today_and_yesterday() -> None:
    days = [timezone.localdate() - timedelta(days=age) for age in range(3)]
    headings = [conversation.day_words(day) for day in days]

    plain = [date_format(day, "j M Y") for day in days]
    beginnings = [heading.removesuffix(day) for heading, day in zip(headings, plain, strict=True)]
    assert len(set(beginnings)) == 3
    assert beginnings[2] == ""


def test_days_follow_the_current_time_zone(reader: Client) -> None:
    time = timezone.now().replace(year=2024, month=8, day=9, hour=23)  # the tenth in Sydney
    MessageFactory.create(receiver=CUSTOMER, created_at=time)

    page = reader.get(address()).content.decode()

    assert '<time datetime="2024-08-10"><bdi>10 Aug 2024</bdi></time>' in page


def test_missing_text_is_marked_for_each_side(reader: Client) -> None:
    MessageFactory.create(receiver=CUSTOMER, body="")
    MessageFactory.create(inbound=True, sender=CUSTOMER, body="")

    page = reader.get(address()).content.decode()

    sent, received = (words(only(each, NO_TEXT)) for each in every(page, BUBBLE))
    assert sent and received and sent != received


def test_picture_is_linked_and_its_text_is_not_missing(reader: Client) -> None:
    picture = "https://media.example.com/1.jpg"
    MessageFactory.create(inbound=True, sender=CUSTOMER, body="", media=[picture])

    page = reader.get(address()).content.decode()

    assert not every(page, NO_TEXT)
    assert f'<a href="{picture}" rel="noopener noreferrer" target="_blank"' in page


def test_failure_is_shown_with_its_reason(reader: Client) -> None:
    MessageFactory.create(receiver=CUSTOMER, status="failed", history__reason="no such number")

    [bubble] = every(reader.get(address()).content.decode(), BUBBLE)

    assert str(Status.FAILED.label) in words(bubble)
    assert "no such number" in words(only(bubble, "p[@class='cellcast-reason']"))


def test_reply_quotes_the_start_of_its_question(reader: Client) -> None:
    MessageFactory.create(
        inbound=True, sender=CUSTOMER, body="YES", original_body="See you at nine? " * 10
    )

    quote = only(reader.get(address()).content.decode(), "p[@class='cellcast-quote']/bdi")

    assert words(quote).count("See you at nine?") == 4


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "نعم، سأكون هناك", "😀" * 10, "y" * 5_000, "a\n  b"]
)
def test_any_text_is_shown_unchanged(reader: Client, text: str) -> None:
    say(text)

    [shown] = thread(reader)

    assert shown == text


@pytest.mark.parametrize("contact", ["+61400000001", "#SharedNum#", "a/b?c=d&e", "نعم"])
def test_url_does_not_contain_the_number(reader: Client, contact: str) -> None:
    say("hello", contact=contact)
    message = Message.objects.get()

    for page in (page_of(reader, "message"), page_of(reader, "message", "change", message.pk)):
        links = {address for address in addresses(page) if "/conversation/" in address}
        assert links == {f"/admin/cellcast_django/message/{message.pk}/conversation/"}
        assert bodies(reader.get(links.pop()).content.decode()) == ["hello"]


def test_title_names_the_contact(reader: Client) -> None:
    say("hello")

    page = reader.get(address()).content.decode()

    assert "0400 000 001" in words(only(page, "title"))


@pytest.mark.parametrize("pk", [77, int("9" * 30)])
def test_pruned_conversation_is_empty(reader: Client, pk: int) -> None:
    response = reader.get(url_of("message", "conversation", pk))

    assert response.status_code == 200
    assert only(response.content.decode(), NOTHING) is not None


def test_message_without_a_number_has_its_own_conversation(reader: Client) -> None:
    messages = [MessageFactory.create(inbound=True, sender="", body=body) for body in "ab"]

    assert bodies(page_of(reader, "message", "conversation", messages[0].pk)) == ["a"]


def test_page_requires_permission_to_view_messages(reader: Client) -> None:
    say("hello")
    url = address()

    assert staff("view_webhookevent").get(url).status_code == 403
    assert Client().get(url).status_code == 302


# Pages


def test_first_page_has_newest_messages_and_links_to_older(
    reader: Client,
) -> None:
    say(*map(str, range(conversation.PER_PAGE * 2 + 1)))

    def follow(page: str, link_id: str) -> str:
        link = only(page, f"a[@id='{link_id}']")
        return reader.get(link.get("href", "")).content.decode()

    newest = reader.get(address()).content.decode()
    assert bodies(newest) == [str(number) for number in range(51, 101)]
    assert "cellcast-newest" not in newest
    older = follow(newest, "cellcast-older")
    assert bodies(older) == [str(number) for number in range(1, 51)]
    oldest = follow(older, "cellcast-older")
    assert bodies(oldest) == ["0"]
    assert "cellcast-older" not in oldest
    assert bodies(follow(oldest, "cellcast-newest"))[-1] == "100"


def test_paging_neither_skips_nor_repeats_simultaneous_messages(
    reader: Client,
) -> None:
    message = MessageFactory.create(receiver=CUSTOMER, body="first")
    add_copies(message, 2 * conversation.PER_PAGE, lambda number: {"body": f"{number}"})

    pages, url = [], address()
    while url:
        response = reader.get(url)
        pages.append(bodies(response.content.decode()))
        url = response.context["page"].thread.older_url

    assert [len(page) for page in pages] == [50, 50, 1]
    assert list(chain(*pages[::-1])) == ["first", *map(str, range(100))]


@pytest.mark.parametrize("before", ["x", "-1", "²", "9" * 40, "123456"])
def test_unknown_before_shows_newest_page(reader: Client, before: str) -> None:
    say("one")

    assert thread(reader, before=before) == ["one"]


def test_before_ignores_another_contacts_message(reader: Client) -> None:
    say("one")
    other = MessageFactory.create(created_at=timezone.now() - timedelta(days=9))

    assert thread(reader, before=other.pk) == ["one"]


def test_query_count_does_not_grow(reader: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            thread(reader)
        return len(captured)

    say("one", "two", "three")
    few = queries()
    say(*map(str, range(200)))

    assert queries() == few
    assert few < 20


# Your numbers


NUMBERS = ("+61480000001", "+61480000002")


def write_to(*numbers: str) -> None:
    for place, number in enumerate(numbers):
        MessageFactory.create(
            inbound=True,
            sender=CUSTOMER,
            receiver=number,
            body=f"to {number}",
            cellcast_id=f"{place}",
        )


@pytest.fixture
def two_numbers(settings: Any) -> None:
    settings.CELLCAST_OWN_NUMBERS = ["0480 000 001", NUMBERS[1]]


@pytest.mark.usefixtures("two_numbers")
def test_own_numbers_are_named_if_there_are_several(reader: Client) -> None:
    write_to(*NUMBERS)
    MessageFactory.create(receiver=CUSTOMER, sender="BrightTeeth", body="of a name")

    page = reader.get(address()).text

    links = every(page, "ul[@class='cellcast-periods']/li/a")
    assert len(links) == 3
    assert words(only(page, "div[@id='content-main']")).count("0480 000 001") == 2
    of_the_first = reader.get(links[1].get("href", "")).text
    assert bodies(of_the_first) == [f"to {NUMBERS[0]}", "of a name"]
    assert thread(reader, own="+61480000009") == [*(f"to {each}" for each in NUMBERS), "of a name"]


@pytest.mark.parametrize("configured", [[], [NUMBERS[0]], [NUMBERS[0], "0480 000 001"]])
def test_single_own_number_is_not_named(
    reader: Client, settings: Any, configured: list[str]
) -> None:
    settings.CELLCAST_OWN_NUMBERS = configured
    write_to(NUMBERS[0])
    MessageFactory.create(receiver=CUSTOMER, sender="BrightTeeth")

    page = reader.get(address()).text

    assert not every(page, "ul[@class='cellcast-periods']")
    assert "0480 000 001" not in page


def test_configured_names_are_own_numbers(reader: Client, settings: Any) -> None:
    settings.CELLCAST_OWN_NUMBERS = [NUMBERS[0], "BrightTeeth"]
    write_to(NUMBERS[0])

    page = reader.get(url_of("message", "to_answer")).text

    options = every(page, "select[@id='cellcast-own']/option")
    assert [each.get("value") for each in options] == ["", NUMBERS[0], "BrightTeeth"]


def test_without_the_setting_own_numbers_are_those_sent_from(reader: Client) -> None:
    """Whatever webhooks claim, and however much of it."""
    for number in NUMBERS:
        Message.objects.record_sent(f"from {number}", receiver=CUSTOMER, sender=number)
    write_to(*NUMBERS, *(f" {number:02}" for number in range(40)), "+61400555444")
    MessageFactory.create(receiver=CUSTOMER, sender="+61400555445", recorded_at=None)

    page = reader.get(url_of("message", "to_answer")).text

    options = every(page, "select[@id='cellcast-own']/option")
    assert [each.get("value") for each in options] == ["", *NUMBERS]


def test_claimed_own_numbers_are_not_named(reader: Client) -> None:
    for number in NUMBERS:
        WebhookClient().reply(sender=CUSTOMER, receiver=number)

    for model in ("message", "webhookevent", "statuschange"):
        assert "own_number=" not in page_of(reader, model)
        assert "0480 000 002" not in text_of(page_of(reader, model))


def test_own_numbers_are_capped(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_numbers, "MAX_VALUES", 2)
    for number in (*NUMBERS, "+61480000003"):
        Message.objects.record_sent(number, receiver=CUSTOMER, sender=number)
    write_to(NUMBERS[0])

    page = reader.get(url_of("message", "to_answer")).text

    options = every(page, "select[@id='cellcast-own']/option")
    assert [each.get("value") for each in options] == ["", *NUMBERS]


@pytest.mark.usefixtures("two_numbers")
def test_list_shows_own_numbers_and_filters_by_them(reader: Client) -> None:
    for number in NUMBERS:
        WebhookClient().reply(sender=CUSTOMER, receiver=number)
    newest, oldest = listed(reader, "message")

    assert listed(reader, "message", own_number=NUMBERS[0]) == [oldest]
    assert listed(reader, "message", own_number=NUMBERS[1]) == [newest]
    WebhookClient().reply(sender=CUSTOMER, receiver="")
    table = only(page_of(reader, "message"), "table[@id='result_list']")
    assert len(every(table, "tbody/tr")) == 3
    assert words(table).count("to 0480 000 00") == 2


@pytest.mark.parametrize("model", ["message", "webhookevent", "statuschange"])
def test_lists_do_not_name_a_single_own_number(reader: Client, model: str) -> None:
    WebhookClient().reply(sender=CUSTOMER, receiver=NUMBERS[0])

    assert len(listed(reader, model)) == 1
    assert "0480 000 001" not in page_of(reader, model)


@pytest.mark.usefixtures("two_numbers")
def test_message_list_and_to_answer_filter_by_own_number(reader: Client) -> None:
    write_to(*NUMBERS)
    first = Message.objects.get(own_number=NUMBERS[0])

    assert listed(reader, "message", own_number=NUMBERS[0]) == [first.pk]
    page = reader.get(url_of("message", "to_answer", own=NUMBERS[0]))
    assert [row.reply for row in page.context["page"].rows] == [first]
    assert len(every(page.text, "select[@id='cellcast-own']/option")) == 3
    [row] = every(page.text, "form[@class='cellcast-waiting']//table/tbody/tr")
    [link] = [url for url in addresses(row) if "/conversation/" in url]
    assert bodies(reader.get(link).text) == [f"to {NUMBERS[0]}"]


# Opt-outs, and by whom


@pytest.mark.parametrize("page", ["conversation", "change"])
def test_message_sent_although_opted_out_is_marked(reader: Client, page: str) -> None:
    opt_out(CUSTOMER)
    although = Message.objects.record_sent("although", receiver=CUSTOMER, body="Hello")
    opt_in(CUSTOMER)
    before = Message.objects.record_sent("allowed", receiver=CUSTOMER, body="Hello")

    for message, count in ((although, 1), (before, 0)):
        html = page_of(reader, "message", page, message.pk)
        summary = every(html, "section[@class='module cellcast-summary']")
        marked = every(summary[0] if summary else html, "span[@data-although-opted-out='']")
        assert len(marked) == (count if summary else 1)


def dividers(page: str) -> list[str]:
    return [words(each) for each in every(page, "li[@class='cellcast-divider']")]


def test_dividers_mark_where_an_opt_out_began_and_ended() -> None:
    client = staff("view_message", "view_optout")
    say("Please stop", days_ago=3)
    opt_out(CUSTOMER, username="reception")
    opt_in(CUSTOMER)
    MessageFactory.create(receiver=CUSTOMER, body="later")
    say("of somebody else", contact="+61400000002")
    opt_out("+61400000002")

    page = client.get(address()).text

    assert len(dividers(page)) == 2
    assert "reception" in dividers(page)[0]
    assert page.index("Please stop") < page.index("cellcast-divider") < page.index(">later<")
    assert dividers(staff("view_message").get(address()).text) == []


def test_dividers_appear_on_the_page_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = staff("view_message", "view_optout")
    monkeypatch.setattr(conversation, "PER_PAGE", 1)
    say("before", days_ago=3)
    opt_out(CUSTOMER)
    MessageFactory.create(receiver=CUSTOMER, body="after")
    after = Message.objects.get(body="after")

    assert len(dividers(client.get(address()).text)) == 0
    assert len(dividers(client.get(address(before=after.pk)).text)) == 1


def test_bubbles_name_who_sent_or_handled_them() -> None:
    client = staff("view_message")
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER)
    earlier = MessageFactory.create(
        inbound=True, sender=CUSTOMER, created_at=timezone.now() - timedelta(days=2), body="before"
    )
    reply.mark_handled(username="reception")
    MessageFactory.create(receiver=CUSTOMER, sent_by="colleague")
    Message.objects.filter(pk=earlier.pk).update(handled_by="")

    page = client.get(address()).text

    by = [words(each) for each in every(page, "span[@class='quiet cellcast-by']")]
    assert len(by) == 3
    assert "reception" not in by[0]
    assert timezone.localtime().strftime("%Y") in by[0]  # on another day
    assert "reception" in by[1]
    assert "colleague" in by[2]


# What comes next


def next_of(client: Client, message: Message, **query: Any) -> Message | None:
    page = client.get(url_of("message", "conversation", message.pk, **query))
    key = page.context["page"].next_url.partition("/conversation/")[0].rpartition("/")[2]
    return Message.objects.get(pk=key) if key else None


def test_next_walks_the_list_and_wraps_around() -> None:
    client = staff("view_message", "handle_message")
    now = timezone.now()
    first, second, third = (
        MessageFactory.create(
            inbound=True, sender=f"+6140000010{n}", created_at=now - timedelta(minutes=n)
        )
        for n in range(3)
    )
    MessageFactory.create(inbound=True, sender="", created_at=now - timedelta(days=1))

    assert next_of(client, first) == second
    assert next_of(client, third, order="longest") == second
    oldest = next_of(client, first, order="longest", after=third.pk)
    assert oldest is not None and oldest.contact == ""
    handle = url_of("message", "handle")
    response = client.post(handle, {"one": first.pk, "back": "next"})
    assert response["Location"] == url_of("message", "conversation", second.pk)
    assert next_of(client, first) == second
    Message.objects.filter(pk__lte=third.pk).update(handled_at=now)  # by a colleague
    response = client.post(handle, {"one": second.pk, "back": "next"})
    assert response["Location"] == url_of("message", "conversation", oldest.pk)
    response = client.post(handle, {"one": oldest.pk, "back": "next"})
    assert response["Location"] == url_of("message", "to_answer")


def test_next_is_absent_when_no_other_customer_waits() -> None:
    client = staff("view_message", "handle_message")
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER)

    assert next_of(client, reply) is None


# On the page of a message


class Restricted(MessageAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).exclude(body="secret")


restricted_site = admin.AdminSite("restricted")
restricted_site.register(Message, Restricted)
give_desk_to(restricted_site)
urlpatterns = [path("admin/", admin.site.urls), path("restricted/", restricted_site.urls)]


@override_settings(ROOT_URLCONF=__name__)
def test_second_site_links_to_itself_and_shows_only_its_own_rows(admin_client: Client) -> None:
    say("one", "secret", "three")
    shown, hidden = (
        f"/restricted/cellcast_django/message/{Message.objects.get(body=body).pk}/conversation/"
        for body in ("one", "secret")
    )

    page = admin_client.get(shown).content.decode()

    assert bodies(page) == ["one", "three"]
    assert only(admin_client.get(hidden).content.decode(), NOTHING) is not None
    assert 'href="/admin/' not in page
