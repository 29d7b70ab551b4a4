"""The conversation: all messages with one contact, newest in view, loaded in pages."""

from datetime import timedelta
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.formats import date_format

from cellcast_django.admin import own_numbers
from cellcast_django.admin.display.texts import readable_number
from cellcast_django.desk import conversation
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.statuses import Status
from tests.admin_pages import CUSTOMER, Know, listed, page_of, staff, text_of, url_of
from tests.desk.conftest import Show
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


@pytest.mark.parametrize("named", ["", "Ms Kim Lee", ("Ms Kim Lee", "/customers/1/")])
def test_heading_isolates_number_and_name(reader: Client, know: Know, named: Any) -> None:
    know(names=lambda contacts: dict.fromkeys(contacts, named))
    say("Hello")

    heading = only(reader.get(address()).text, "h1")

    isolated = [words(each) for each in every(heading, "bdi")]
    assert isolated == ["0400 000 001", *(["Ms Kim Lee"] if named else [])]


def test_sent_messages_show_status_and_reason_and_every_message_is_linked(reader: Client) -> None:
    answer = MessageFactory.create(
        receiver=CUSTOMER,
        status="failed",
        history__reason="no such <number>",
    )
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)

    page = reader.get(address()).text

    assert text_of(page).count(str(Status.FAILED.label)) == 1
    assert str(Status.RECEIVED.label) not in text_of(page)
    assert "no such <number>" in words(only(page, "p[@class='cellcast-reason']"))
    for message in (answer, question):
        assert f'href="{url_of("message", "change", message.pk)}"' in page


def test_each_day_in_the_current_time_zone_has_a_heading(reader: Client) -> None:
    time = timezone.now().replace(year=2024, month=8, day=9, hour=23)  # the tenth in Sydney
    MessageFactory.create(receiver=CUSTOMER, created_at=time)
    say("today")

    page = reader.get(address()).text

    assert page.count('class="cellcast-day"') == 2
    assert '<time datetime="2024-08-10"><bdi>10 Aug 2024</bdi></time>' in page


def test_headings_mark_today_and_yesterday() -> None:
    days = [timezone.localdate() - timedelta(days=age) for age in range(3)]
    headings = [conversation.day_words(day) for day in days]

    plain = [date_format(day, "j M Y") for day in days]
    beginnings = [heading.removesuffix(day) for heading, day in zip(headings, plain, strict=True)]
    assert len(set(beginnings)) == 3
    assert beginnings[2] == ""


def test_each_side_and_its_missing_text_is_labelled_in_words(reader: Client) -> None:
    picture = "https://media.example.com/1.jpg"
    say("", "")
    MessageFactory.create(inbound=True, sender=CUSTOMER, body="", media=[picture])

    bubbles = every(reader.get(address()).text, BUBBLE)

    sides = [each.get("class", "").split()[1] for each in bubbles]
    assert sides == ["cellcast-inbound", "cellcast-outbound", "cellcast-inbound"]
    for part in (HIDDEN, NO_TEXT):
        customer, you = (words(every(each, part)[0]) for each in bubbles[:2])
        assert customer and you and customer != you
    assert not every(bubbles[2], NO_TEXT)
    names = [words(every(each, "p[@class='cellcast-bubble-foot']/a")[0]) for each in bubbles]
    assert not [name for name in names if name.endswith(":")]
    link = only(bubbles[2], f"a[@href='{picture}']")
    assert (link.get("rel"), link.get("target")) == ("noopener noreferrer", "_blank")


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "نعم، سأكون هناك", "😀" * 10, "y" * 5_000, "a\n  b"]
)
def test_any_text_is_shown_unchanged(reader: Client, text: str) -> None:
    say(text)

    assert thread(reader) == [text]


@pytest.mark.parametrize("contact", ["+61400000001", "#SharedNum#", "a/b?c=d&e", "نعم"])
def test_url_does_not_contain_the_number(reader: Client, contact: str) -> None:
    say("hello", contact=contact)
    message = Message.objects.get()

    for page in (page_of(reader, "message"), page_of(reader, "message", "change", message.pk)):
        links = {address for address in addresses(page) if "/conversation/" in address}
        assert links == {f"/admin/cellcast_django/message/{message.pk}/conversation/"}
        conversation = reader.get(links.pop()).text
        assert bodies(conversation) == ["hello"]
        assert readable_number(contact) in words(only(conversation, "title"))


@pytest.mark.parametrize("pk", [77, int("9" * 30)])
def test_pruned_conversation_is_empty(reader: Client, pk: int) -> None:
    response = reader.get(url_of("message", "conversation", pk))

    assert response.status_code == 200
    assert only(response.content.decode(), NOTHING) is not None


def test_page_requires_permission_to_view_messages(reader: Client) -> None:
    say("hello")

    for url in (address(), url_of("message", "to_answer"), url_of("message", "news")):
        assert staff("view_webhookevent").get(url).status_code == 403
        assert Client().get(url).status_code == 302


# Pages


@pytest.mark.parametrize("at_once", [True, False])
def test_pages_lead_from_the_newest_messages_to_the_oldest_and_back(
    reader: Client, monkeypatch: pytest.MonkeyPatch, *, at_once: bool
) -> None:
    monkeypatch.setattr(conversation, "PER_PAGE", 3)
    say("another's", contact="+61400000002")
    if at_once:
        first = MessageFactory.create(receiver=CUSTOMER, body="0")
        add_copies(first, 6, lambda number: {"body": f"{number + 1}"})
    else:
        say(*"0123456")

    def follow(page: str, link_id: str) -> str:
        return reader.get(only(page, f"a[@id='{link_id}']").get("href", "")).text

    newest = reader.get(address()).text
    older = follow(newest, "cellcast-older")
    oldest = follow(older, "cellcast-older")

    assert [bodies(page) for page in (newest, older, oldest)] == [[*"456"], [*"123"], ["0"]]
    assert "cellcast-newest" not in newest and "cellcast-older" not in oldest
    assert bodies(follow(oldest, "cellcast-newest")) == [*"456"]


# Your numbers


NUMBERS = ("+61480000001", "+61480000002")


def offered(reader: Client) -> list[str]:
    """Return the own numbers that *To answer* can be narrowed to."""
    options = every(page_of(reader, "message", "to_answer"), "select[@id='cellcast-own']/option")
    return [each.get("value", "") for each in options[1:]]


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


def test_own_numbers_are_named_if_there_are_several(reader: Client, settings: Any) -> None:
    settings.CELLCAST_OWN_NUMBERS = ["0480 000 001", NUMBERS[1], "0480 000 005"]
    write_to(*NUMBERS)
    MessageFactory.create(receiver=CUSTOMER, sender="BrightTeeth", body="of a name")

    page = reader.get(address()).text

    links = every(page, "ul[@class='cellcast-periods']/li/a")
    assert len(links) == 3
    assert words(only(page, "div[@id='content-main']")).count("0480 000 001") == 2
    of_the_first = reader.get(links[1].get("href", "")).text
    assert bodies(of_the_first) == [f"to {NUMBERS[0]}", "of a name"]
    assert thread(reader, own="+61480000009") == [*(f"to {each}" for each in NUMBERS), "of a name"]


@pytest.mark.parametrize("configured", [[], [*NUMBERS], [NUMBERS[0], "0480 000 001"]])
def test_single_own_number_is_not_named(
    reader: Client, settings: Any, configured: list[str]
) -> None:
    settings.CELLCAST_OWN_NUMBERS = configured
    write_to(NUMBERS[0])
    MessageFactory.create(receiver=CUSTOMER, sender="BrightTeeth")

    page = reader.get(address()).text

    assert not every(page, "ul[@class='cellcast-periods']")
    assert "0480 000 001" not in page


def test_without_the_setting_own_numbers_are_those_sent_from(
    reader: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever webhooks claim, and however much of it."""
    for number in NUMBERS:
        Message.objects.record_sent(f"from {number}", receiver=CUSTOMER, sender=number)
    write_to(*NUMBERS, *(f" {number:02}" for number in range(40)), "+61400555444")
    MessageFactory.create(receiver=CUSTOMER, sender="+61400555445", recorded_at=None)

    assert offered(reader) == [*NUMBERS]
    monkeypatch.setattr(own_numbers, "MAX_VALUES", 2)
    Message.objects.record_sent("3", receiver=CUSTOMER, sender="+61480000003")
    assert offered(reader) == [*NUMBERS]
    settings.CELLCAST_OWN_NUMBERS = [NUMBERS[0], "BrightTeeth"]
    assert offered(reader) == [NUMBERS[0], "BrightTeeth"]


@pytest.mark.usefixtures("two_numbers")
def test_message_list_and_to_answer_show_own_numbers_and_filter_by_them(reader: Client) -> None:
    write_to(*NUMBERS)
    for number in NUMBERS:
        message = Message.objects.get(own_number=number)
        assert listed(reader, "message", own_number=number) == [message.pk]
        page = reader.get(url_of("message", "to_answer", own=number))
        assert [row.reply for row in page.context["page"].rows] == [message]
        [row] = every(page.text, "form[@class='cellcast-waiting']//table/tbody/tr")
        [link] = [url for url in addresses(row) if "/conversation/" in url]
        assert bodies(reader.get(link).text) == [f"to {number}"]
    assert offered(reader) == [*NUMBERS]
    MessageFactory.create(inbound=True, sender=CUSTOMER, receiver="")
    table = only(page_of(reader, "message"), "table[@id='result_list']")
    assert len(every(table, "tbody/tr")) == 3
    assert words(table).count("to 0480 000 00") == 2


# Opt-outs, and by whom


@pytest.mark.parametrize("page", ["conversation", "change"])
def test_message_sent_although_opted_out_is_marked(reader: Client, page: str) -> None:
    opt_out(CUSTOMER)
    although = Message.objects.record_sent("although", receiver=CUSTOMER, body="Hello")
    opt_in(CUSTOMER)
    Message.objects.record_sent("although", receiver=CUSTOMER)  # again: it was sent when it was
    before = Message.objects.record_sent("allowed", receiver=CUSTOMER, body="Hello")

    for message, count in ((although, 1), (before, 0)):
        html = page_of(reader, "message", page, message.pk)
        summary = every(html, "section[@class='module cellcast-summary']")
        marked = every(summary[0] if summary else html, "span[@data-although-opted-out='']")
        assert len(marked) == (count if summary else 1)


def dividers(page: str) -> list[str]:
    return [words(each) for each in every(page, "li[@class='cellcast-divider']")]


def test_dividers_appear_on_the_page_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = staff("view_message", "view_optout")
    monkeypatch.setattr(conversation, "PER_PAGE", 1)
    say("before", days_ago=3)
    opt_out(CUSTOMER)
    MessageFactory.create(receiver=CUSTOMER, body="after")
    after = Message.objects.get(body="after")

    assert len(dividers(client.get(address()).text)) == 0
    url = address(before=after.pk)
    assert len(dividers(client.get(url).text)) == 1
    assert dividers(staff("view_message").get(url).text) == []


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
    sent = MessageFactory.create(
        receiver=first.sender, created_at=now - timedelta(seconds=90), status=""
    )

    assert next_of(client, first) == next_of(client, sent) == second
    assert next_of(client, second) == third
    assert next_of(client, third, order="longest") == second
    oldest = next_of(client, first, order="longest")
    assert oldest is not None and oldest.contact == ""
    handle = url_of("message", "handle")
    response = client.post(handle, {"one": first.pk, "back": "next"})
    assert response["Location"] == url_of("message", "conversation", second.pk)
    assert next_of(client, first) == second
    Message.objects.filter(pk__lte=third.pk).update(handled_at=now)  # by a colleague
    response = client.post(handle, {"one": second.pk, "back": "next"})
    assert response["Location"] == url_of("message", "conversation", oldest.pk)
    assert next_of(client, oldest) is None
    response = client.post(handle, {"one": oldest.pk, "back": "next"})
    assert response["Location"] == url_of("message", "to_answer")


def test_restricted_site_shows_only_its_own_messages(reader: Client, show: Show) -> None:
    show(Message, lambda rows: rows.exclude(body="secret"))
    say("one", "secret", "three")
    hidden = Message.objects.get(body="secret")

    assert thread(reader) == ["one", "three"]
    page = page_of(reader, "message", "conversation", hidden.pk)
    assert only(page, NOTHING) is not None
