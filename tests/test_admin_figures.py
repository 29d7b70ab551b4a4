"""The figures: what is counted in a period, and where each figure leads."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.admin.pages import traffic as delivery_times
from cellcast_django.admin.pages.figures import in_words
from cellcast_django.factories import MessageFactory
from tests.admin_pages import staff, text_of
from tests.html import addresses, every, only, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

FIGURES = "admin:cellcast_django_figures"


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Noon of a Wednesday, so that no test runs into midnight."""
    noon = datetime(2026, 8, 12, 12, tzinfo=timezone.get_default_timezone())
    monkeypatch.setattr(timezone, "now", lambda: noon)
    return noon


@pytest.fixture
def reader(db: None) -> Client:
    """A member of staff who may view messages and opt-outs."""
    return staff("view_message", "view_optout")


def html_of(client: Client, **query: Any) -> str:
    response = client.get(reverse(FIGURES), query)
    assert response.status_code == 200
    return response.content.decode()


def section_of(html: str, heading: str) -> str:
    """Return the text of a section, which begins with its heading."""
    texts = map(words, every(html, "section"))
    [found] = [text for text in texts if text.startswith(heading)]
    return found.removeprefix(heading).strip()


# Messages


def periods_of(html: str) -> str:
    return words(only(html, "li/a[@aria-current='page']"))


@pytest.mark.parametrize(
    ("query", "chosen", "count"),
    [
        ({}, "7 days", 2),
        ({"period": "1"}, "Today", 1),
        ({"period": "7"}, "7 days", 2),
        ({"period": "30"}, "30 days", 3),
        ({"period": "90"}, "90 days", 4),
        ({"period": "365"}, "7 days", 2),
        ({"period": "'--"}, "7 days", 2),
    ],
)
def test_period_is_chosen_by_the_address(
    reader: Client, noon: datetime, query: dict[str, str], chosen: str, count: int
) -> None:
    for days in (0, 6, 29, 89, 90):
        MessageFactory.create(delivered=True, created_at=noon - timedelta(days=days))
    page = html_of(reader, **query)
    assert periods_of(page) == chosen
    assert f"delivered: {count}. The table below has all figures." in text_of(page)


def test_messages_are_charted_and_told_by_day_and_status(reader: Client, noon: datetime) -> None:
    for status in ("delivered", "delivered", "expired", "queued"):
        MessageFactory.create(status=status, created_at=noon)
    MessageFactory.create(inbound=True, created_at=noon - timedelta(days=1))
    page = html_of(reader)
    section = section_of(page, "Messages by time and status")
    assert section.startswith("Sent not delivered 1 in transit 1 delivered 2 4 messages a day ")
    assert "Replies replies 1 1 messages a day " in section
    assert section.endswith(
        "Time phone off or out of reach in transit delivered replies "
        "Thu 6 0 0 0 0 Fri 7 0 0 0 0 Sat 8 0 0 0 0 Sun 9 0 0 0 0 Mon 10 0 0 0 0 "
        "Tue 11 0 0 0 1 Wed 12 1 1 2 0 Total 1 1 2 1"
    )
    bars = every(page, "rect[@class][@x]")
    assert [(bar.get("class"), bar.get("y"), bar.get("height")) for bar in bars] == [
        ("cellcast-series-undelivered", "150.0", "50.0"),
        ("cellcast-series-under-way", "100.0", "50.0"),
        ("cellcast-series-delivered", "0.0", "100.0"),
        ("cellcast-series-replies", "0.0", "200.0"),
    ]


def test_bars_and_days_lead_to_their_messages(reader: Client, noon: datetime) -> None:
    for days in (0, 1):
        for status in ("delivered", "expired", "queued"):
            MessageFactory.create(status=status, created_at=noon - timedelta(days=days))
        MessageFactory.create(inbound=True, created_at=noon - timedelta(days=days))
    page = html_of(reader)
    messages = reverse("admin:cellcast_django_message_changelist")
    urls = [url for url in addresses(page) if url.startswith(f"{messages}?period=")]

    listed = {url: reader.get(url).context["cl"].result_count for url in urls}

    day = f"{messages}?period=2026-08-12"
    assert {url: count for url, count in listed.items() if url.startswith(day)} == {
        f"{day}&status=undelivered": 1,
        f"{day}&direction=outbound": 3,
        f"{day}&status=delivered": 1,
        f"{day}&direction=inbound": 1,
        day: 4,
    }
    assert "12 Aug 2026" in reader.get(day).content.decode()


def test_slots_are_called_as_they_are_long(reader: Client, noon: datetime) -> None:
    MessageFactory.create(created_at=noon)
    assert "12:00: in transit, 1" in html_of(reader, period=1)
    assert "Wed 12: in transit, 1" in html_of(reader, period=7)
    assert "12 Aug: in transit, 1" in html_of(reader, period=30)


def test_delivery_rate_and_times(reader: Client, noon: datetime) -> None:
    for seconds in (0, 4, 9, 75, 4000):
        values = {"submitted_at": noon, "status_changed_at": noon + timedelta(seconds=seconds)}
        MessageFactory.create(delivered=True, created_at=noon, **values)
    MessageFactory.create_batch(3, undelivered=True, created_at=noon)
    page = html_of(reader)
    assert section_of(page, "Messages Today").startswith(
        "7 days 30 days 90 days "
        "Delivery rate 62.5% of messages with a final result "
        "Median delivery time 9 s half arrived faster "
        "95th percentile 1 h 6 min 1 in 20 took longer"
    )
    assert section_of(page, "Delivery time Delivery time").startswith(
        "Messages under 5 s 2 5 s – 10 s 1 10 s – 30 s 0 30 s – 1 min 0 1 min – 5 min 1 "
        "5 min – 15 min 0 15 min – 1 h 0 1 h – 6 h 1 6 h – a day 0 a day or more 0"
    )
    assert page.count('width="1000.0"') == 1
    assert page.count('width="500.0"') == 3


def test_delivery_times_of_some_of_the_messages_are_said_to_be_those(
    reader: Client, noon: datetime
) -> None:
    times = {"created_at": noon, "submitted_at": noon, "status_changed_at": noon}
    message = MessageFactory.create(delivered=True, **times)
    add_copies(message, delivery_times.SAMPLE_SIZE - 1)
    assert "Based on" not in html_of(reader)
    cache.clear()
    add_copies(message, 1)
    assert "Based on 10,000 messages: the newest of each day." in text_of(html_of(reader))


def test_period_without_messages_says_so(reader: Client) -> None:
    text = text_of(html_of(reader))
    assert "Delivery rate –" in text
    assert "No messages in this period." in text
    assert "No delivery times for this period." in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_661, "1 h 1 min"),
        (86_399, "23 h 59 min"),
        (86_400, "a day or more"),
    ],
)
def test_times_in_words(seconds: int | None, words: str) -> None:
    assert in_words(seconds) == words
