"""The messages of a period, as the database counts them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.desk import traffic
from cellcast_django.desk.traffic import (
    NOT_FINAL,
    DeliveryTimes,
    Month,
    count_messages,
    measure_delivery_times,
)
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.statuses import UNDELIVERED, Status
from cellcast_django.testing import WebhookClient

SYDNEY = ZoneInfo("Australia/Sydney")


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Noon in Sydney, which has been reached at this moment."""
    return set_clock(monkeypatch, datetime(2026, 8, 14, 12, tzinfo=SYDNEY))


def set_clock(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> datetime:
    monkeypatch.setattr(timezone, "now", lambda: moment)
    return moment


def sent(status: str, created_at: datetime, **values: Any) -> Message:
    return MessageFactory.create(status=status, created_at=created_at, **values)


def times() -> DeliveryTimes:
    return measure_delivery_times(Month.of())


def starts_of(month: Month) -> list[str]:
    return [f"{start.astimezone(SYDNEY):%m-%d %H:%M}" for start, _end in month.slots]


# Months


def test_month_covers_whole_days(noon: datetime) -> None:
    month = Month.of()
    assert starts_of(month) == [f"08-{day:02} 00:00" for day in range(1, 32)]
    assert month.end == datetime(2026, 9, 1, tzinfo=SYDNEY)


@pytest.mark.parametrize(("month", "day", "hours"), [(10, 4, 23), (4, 5, 25), (8, 14, 24)])
def test_day_ends_at_midnight_when_clocks_change(
    monkeypatch: pytest.MonkeyPatch, month: int, day: int, hours: int
) -> None:
    set_clock(monkeypatch, datetime(2026, month, day, 12, tzinfo=SYDNEY))
    start, end = Month.of().slots[day - 1]
    assert end.astimezone(UTC) - start.astimezone(UTC) == timedelta(hours=hours)


def test_days_follow_the_current_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2026, 7, 31, 14, 15, tzinfo=UTC))  # August in Sydney
    with timezone.override("Australia/Adelaide"):
        assert starts_of(Month.of())[0] == "07-01 00:30"
    assert starts_of(Month.of())[0] == "08-01 00:00"


# Messages


@pytest.mark.django_db
def test_messages_count_on_the_day_they_were_created(noon: datetime) -> None:
    midnight = noon.replace(hour=0)
    for created_at in (midnight, noon, midnight - timedelta(seconds=1), noon - timedelta(days=3)):
        sent("delivered", created_at)
        MessageFactory.create(inbound=True, created_at=created_at)
    counted = count_messages(Month.of())
    assert counted.sent["delivered"][10:14] == counted.replies[10:14] == [1, 0, 1, 2]


@pytest.mark.django_db
def test_sent_messages_are_counted_by_status(noon: datetime) -> None:
    for status in (*Status.values, "delivered", "", "unknown"):
        sent(status, noon)
    counted = count_messages(Month.of())
    assert {status: numbers[13] for status, numbers in counted.sent.items()} == {
        "delivered": 2,
        **dict.fromkeys(UNDELIVERED, 1),
        NOT_FINAL: sum(not each.final for each in Status) + 2,
    }
    assert not any(counted.replies)
    assert counted.delivery_rate == 2 / (2 + len(UNDELIVERED))


@pytest.mark.django_db
def test_one_own_number_is_counted_alone(noon: datetime) -> None:
    own, yesterday = "+61480000001", noon - timedelta(days=1)
    for status in ("delivered", "failed", ""):
        sent(status, yesterday, sender=own, own_number=own)
    sent("delivered", yesterday)
    MessageFactory.create(inbound=True, receiver=own, own_number=own, created_at=noon)
    WebhookClient(headers={"Cellcast-Test-Send": "1"}).reply(receiver=own)

    counted = count_messages(Month.of(), own)

    used = {status: numbers[12:14] for status, numbers in counted.sent.items() if any(numbers)}
    assert used == {"delivered": [1, 0], "failed": [1, 0], NOT_FINAL: [1, 0]}
    assert counted.replies[12:14] == [0, 1]
    assert count_messages(Month.of()).total_sent == 4


@pytest.mark.django_db
def test_delivery_rate_is_unknown_without_a_final_status(noon: datetime) -> None:
    sent("queued", noon)
    assert count_messages(Month.of()).delivery_rate is None


# Delivery times


@pytest.mark.django_db
def test_counted_delivery_time_equals_the_messages(client: WebhookClient) -> None:
    submitted_at = timezone.now() - timedelta(seconds=90)
    client.status(_id=f"{int(submitted_at.timestamp()):08x}1e2c012dfe964000", status="failed")
    message = Message.objects.get()
    client.status(_id=message.cellcast_id, status="delivered")
    client.status(_id=message.cellcast_id, status="expired")  # it comes late, and moves nothing
    message.refresh_from_db()
    assert message.delivery_time is not None
    seconds = int(message.delivery_time.total_seconds())
    assert times().seconds == [seconds]


@pytest.mark.django_db
def test_delivery_times_of_the_period_are_counted_in_whole_seconds(noon: datetime) -> None:
    for milliseconds in (0, 999, 4_000, 4_500, 60_000):
        delivered_at = noon + timedelta(milliseconds=milliseconds)
        sent("delivered", noon, submitted_at=noon, status_changed_at=delivered_at)
    sent("delivered", noon - timedelta(days=14), submitted_at=noon, status_changed_at=noon)
    sent("expired", noon, submitted_at=noon, status_changed_at=noon)
    sent("delivered", noon, submitted_at=None)
    assert times().seconds == [0, 0, 4, 4, 60]


@pytest.mark.django_db
def test_delivery_time_is_never_negative(noon: datetime) -> None:
    """The server's clock may be behind Cellcast's."""
    delivered_at = noon - timedelta(seconds=5)
    sent("delivered", noon, submitted_at=noon, status_changed_at=delivered_at)
    assert times().seconds == [0]


@pytest.mark.parametrize(
    ("seconds", "half", "nearly_all"),
    [
        ([], "", ""),
        ([7], "7 s", "7 s"),
        ([0, 5], "0 s", "5 s"),
        ([1] * 50 + [2] * 45 + [9] * 5, "1 s", "2 s"),
        ([1] * 50 + [2] * 44 + [9] * 6, "1 s", "9 s"),
        ([59, 60], "59 s", "1 min"),
        ([3_661, 86_399], "1 h 1 min", "23 h 59 min"),
        ([200_000], "2 d 7 h", "2 d 7 h"),
    ],
)
def test_percentiles_are_observed_times(seconds: list[int], half: str, nearly_all: str) -> None:
    found = DeliveryTimes(seconds)
    assert (found.half, found.nearly_all) == (half, nearly_all)


@pytest.mark.django_db
def test_delivery_times_sample_the_newest(noon: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "SAMPLE_SIZE", 3)
    for age in range(3):
        at = noon - timedelta(days=age)
        sent("delivered", at, submitted_at=at, status_changed_at=at + timedelta(seconds=age))
    assert times() == DeliveryTimes([0, 1, 2])
    at = noon + timedelta(seconds=1)
    sent("delivered", at, submitted_at=at, status_changed_at=at + timedelta(seconds=9))
    assert times() == DeliveryTimes([0, 1, 9], is_sample=True)


@pytest.mark.django_db
def test_delivery_times_are_those_of_one_number(noon: datetime) -> None:
    for own, seconds in (("+61480000001", 3), ("+61480000002", 60)):
        delivered_at = noon + timedelta(seconds=seconds)
        sent("delivered", noon, own_number=own, submitted_at=noon, status_changed_at=delivered_at)
    assert measure_delivery_times(Month.of(), "+61480000001").seconds == [3]


# What it costs


@pytest.mark.django_db
@pytest.mark.parametrize("number", ["", "+61480000001"])
def test_days_are_counted_in_one_query(noon: datetime, number: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        count_messages(Month.of(), number)
    assert len(queries) == 3  # statuses, directions, and which messages are tests


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plans of SQLite")
def test_counting_reads_only_covering_indexes(noon: datetime) -> None:
    for status in ["delivered", "failed", "queued"]:
        sent(status, noon)
    with CaptureQueriesContext(connection) as queries:
        count_messages(Month.of())
    for query in [each["sql"] for each in queries if "COUNT" in each["sql"]]:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query}")
            reads = [row[-1] for row in cursor.fetchall() if "cellcast" in row[-1]]
        assert len(reads) == 31
        assert all("USING COVERING INDEX" in read for read in reads)


@pytest.mark.django_db
def test_late_status_is_counted_at_once(noon: datetime) -> None:
    message = sent("", noon - timedelta(days=40))
    assert count_messages(Month.of("2026-07")).delivered == 0
    Message.objects.filter(pk=message.pk).update(status="delivered")
    assert count_messages(Month.of("2026-07")).delivered == 1


# Test Sends


@pytest.mark.django_db
def test_counts_exclude_test_sends(noon: datetime, client: WebhookClient) -> None:
    month = Month.of()
    tester = WebhookClient(headers={"Cellcast-Test-Send": "1"})
    real_id, test_id = (f"{int(timezone.now().timestamp()) - 20:08x}{n:016x}" for n in (1, 2))
    client.status(_id=real_id)
    tester.status(_id=test_id)
    tester.status(_id="no-time-inside")
    tester.status(_id="on-its-way", status="queued")
    tester.reply()
    client.reply(message="a real one")
    Message.objects.update(created_at=noon)
    WebhookEvent.objects.update(received_at=noon)

    counted = count_messages(month)

    assert sum(counted.replies) == 1
    assert {status: sum(numbers) for status, numbers in counted.sent.items() if any(numbers)} == {
        "delivered": 1
    }
    assert len(measure_delivery_times(month).seconds) == 1
