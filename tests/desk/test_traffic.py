"""The messages of a period, as the database counts them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache.backends.base import BaseCache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.database.vendors import VENDORS
from cellcast_django.desk import traffic as delivery_times
from cellcast_django.desk.traffic import (
    MAX_DELIVERY_SECONDS,
    NOT_FINAL,
    DeliveryTimes,
    Period,
    count_delivery_times,
    count_messages,
)
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.statuses import FINAL, UNDELIVERED, Status
from cellcast_django.testing import WebhookClient
from tests.many import add_copies

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


@pytest.fixture(params=["known", "unknown"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time on this database, then as on one whose words for it are not known."""
    if request.param == "unknown":
        monkeypatch.delitem(VENDORS, connection.vendor)


def times_of_last_days(days: int) -> DeliveryTimes:
    return count_delivery_times(count_messages(Period.of_last_days(days)))


def clocks(starts: tuple[datetime, ...]) -> list[str]:
    return [f"{start.astimezone(SYDNEY):%m-%d %H:%M}" for start in starts]


# Periods


def test_period_covers_whole_days_including_today(noon: datetime) -> None:
    period = Period.of_last_days(3)
    assert clocks(period.starts) == ["08-12 00:00", "08-13 00:00", "08-14 00:00"]
    assert clocks((period.end,)) == ["08-15 00:00"]


def test_single_day_is_split_into_hours(noon: datetime) -> None:
    period = Period.of_last_days(1)
    assert len(period.starts) == 24
    assert clocks(period.starts)[::23] == ["08-14 00:00", "08-14 23:00"]


@pytest.mark.parametrize(
    ("day", "count"),
    [
        (datetime(2026, 10, 4, 12, tzinfo=SYDNEY), 23),
        (datetime(2026, 4, 5, 12, tzinfo=SYDNEY), 25),
    ],
)
def test_slots_cover_a_day_when_clocks_change(
    monkeypatch: pytest.MonkeyPatch, day: datetime, count: int
) -> None:
    set_clock(monkeypatch, day)
    assert len(Period.of_last_days(1).starts) == count
    assert clocks(Period.of_last_days(2).starts)[1].endswith("00:00")


def test_days_follow_the_current_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2026, 8, 13, 15, tzinfo=UTC))  # the 14th in Sydney
    with timezone.override("Australia/Adelaide"):
        assert clocks(Period.of_last_days(2).starts) == ["08-13 00:30", "08-14 00:30"]
    assert clocks(Period.of_last_days(2).starts) == ["08-13 00:00", "08-14 00:00"]


# Messages


@pytest.mark.django_db
def test_messages_count_on_the_day_they_were_created(noon: datetime) -> None:
    midnight = noon.replace(hour=0)
    for created_at in (midnight, noon, midnight - timedelta(seconds=1), noon - timedelta(days=3)):
        sent("delivered", created_at)
        MessageFactory.create(inbound=True, created_at=created_at)
    counted = count_messages(Period.of_last_days(3))
    assert counted.sent["delivered"] == [0, 1, 2]
    assert counted.replies == [0, 1, 2]


@pytest.mark.django_db
def test_sent_messages_are_counted_by_status(noon: datetime) -> None:
    for status in (*Status.values, "delivered", "", "unknown"):
        sent(status, noon)
    counted = count_messages(Period.of_last_days(2))
    assert {status: numbers[-1] for status, numbers in counted.sent.items()} == {
        "delivered": 2,
        **dict.fromkeys(UNDELIVERED, 1),
        NOT_FINAL: sum(not each.final for each in Status) + 2,
    }
    assert counted.replies == [0, 0]
    assert counted.delivery_rate == 2 / (2 + len(UNDELIVERED))


@pytest.mark.django_db
def test_todays_messages_are_counted_by_hour(noon: datetime) -> None:
    sent("delivered", noon + timedelta(minutes=59))
    sent("delivered", noon + timedelta(minutes=60))
    counted = count_messages(Period.of_last_days(1))
    assert counted.sent["delivered"][12:14] == [1, 1]
    assert sum(counted.sent["delivered"]) == 2


@pytest.mark.django_db
def test_delivery_rate_is_unknown_without_a_final_status(noon: datetime) -> None:
    sent("queued", noon)
    assert count_messages(Period.of_last_days(7)).delivery_rate is None


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
    assert times_of_last_days(7).counts == {seconds: 1}


@pytest.mark.django_db
@pytest.mark.usefixtures("vendor")
def test_delivery_times_of_the_period_are_counted_in_whole_seconds(noon: datetime) -> None:
    for milliseconds in (0, 999, 4_000, 4_500, 60_000):
        delivered_at = noon + timedelta(milliseconds=milliseconds)
        sent("delivered", noon, submitted_at=noon, status_changed_at=delivered_at)
    sent("delivered", noon - timedelta(days=7), submitted_at=noon, status_changed_at=noon)
    sent("expired", noon, submitted_at=noon, status_changed_at=noon)
    sent("delivered", noon, submitted_at=None)
    assert times_of_last_days(7).counts == {0: 2, 4: 2, 60: 1}


@pytest.mark.django_db
def test_delivery_times_are_bounded_whatever_the_clocks_say(noon: datetime) -> None:
    """The server's clock may be behind Cellcast's, and a report may come weeks late."""
    for seconds in (-5, 200_000, 300_000):
        delivered_at = noon + timedelta(seconds=seconds)
        sent("delivered", noon, submitted_at=noon, status_changed_at=delivered_at)
    assert times_of_last_days(7).counts == {0: 1, MAX_DELIVERY_SECONDS: 2}


@pytest.mark.parametrize(
    ("numbers", "median", "percentile_95"),
    [
        ({}, None, None),
        ({7: 1}, 7, 7),
        ({3: 1, 5: 1}, 3, 5),
        ({1: 50, 2: 45, 9: 5}, 1, 2),
        ({1: 50, 2: 44, 9: 6}, 1, 9),
        ({9: 60, 2: 40}, 9, 9),
    ],
)
def test_percentiles_are_observed_times(
    numbers: dict[int, int], median: int | None, percentile_95: int | None
) -> None:
    times = DeliveryTimes(numbers)
    assert (times.percentile(50), times.percentile(95)) == (median, percentile_95)


@pytest.mark.django_db
@pytest.mark.usefixtures("vendor")
def test_delivery_times_sample_the_newest_of_each_slot(
    noon: datetime,
) -> None:
    """A busy day gives more of them than a quiet one."""
    for day, most in ((0, 8_000), (1, 2_000)):
        newer = noon - timedelta(days=day)
        older = newer - timedelta(hours=1)
        for created_at, seconds, count in ((newer, 1 + day, most), (older, 9, most // 4)):
            delivered_at = created_at + timedelta(seconds=seconds)
            message = sent(
                "delivered", created_at, submitted_at=created_at, status_changed_at=delivered_at
            )
            add_copies(message, count - 1)
    times = times_of_last_days(7)
    assert times.counts == {1: 8_000, 2: 2_000}
    assert times.is_sample


@pytest.mark.django_db
def test_few_delivery_times_are_not_sampled(
    noon: datetime,
) -> None:
    message = sent("delivered", noon, submitted_at=noon, status_changed_at=noon)
    add_copies(message, delivery_times.SAMPLE_SIZE - 1)
    times = times_of_last_days(7)
    assert times.total == delivery_times.SAMPLE_SIZE
    assert not times.is_sample


@pytest.mark.django_db
def test_period_without_delivered_messages_has_no_delivery_times(noon: datetime) -> None:
    sent("expired", noon)
    assert times_of_last_days(7) == DeliveryTimes({})


# What it costs


@pytest.mark.django_db
@pytest.mark.parametrize(("days", "count"), [(1, 1), (7, 1), (30, 2), (90, 4)])
def test_delivery_times_take_one_query_per_24_slots(noon: datetime, days: int, count: int) -> None:
    sent("delivered", noon)
    with CaptureQueriesContext(connection) as queries:
        times_of_last_days(days)
    assert len(queries) == count + 1 + 3  # which statuses there are; twice if there are tests


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plans of SQLite")
@pytest.mark.parametrize("in_use", [[], ["delivered", "failed"], sorted(FINAL)], ids=len)
def test_counting_reads_only_covering_indexes(in_use: list[str], noon: datetime) -> None:
    for status in [*in_use, "queued"]:
        sent(status, noon)
    with CaptureQueriesContext(connection) as queries:
        count_messages(Period.of_last_days(1))
    for query, expected in zip(queries, (len(FINAL), 24 * (2 + len(in_use))), strict=False):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            reads = [row[-1] for row in cursor.fetchall() if "cellcast" in row[-1]]
        assert len(reads) == expected
        assert all("USING COVERING INDEX" in read for read in reads)


@pytest.mark.django_db
def test_settled_days_are_counted_once_a_day(
    noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delivered(*ages: int) -> list[int]:
        for days in ages:
            sent("delivered", noon - timedelta(days=days))
        return count_messages(Period.of_last_days(6)).sent["delivered"]

    assert delivered(0, 3, 4, 5) == [1, 1, 1, 0, 0, 1]
    assert delivered(0, 3, 4, 5) == [1, 1, 2, 0, 0, 2]
    set_clock(monkeypatch, noon + timedelta(days=1))
    assert delivered() == [2, 2, 0, 0, 2, 0]


@pytest.mark.django_db
def test_cached_counts_belong_to_one_database(
    noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sites may share a cache, and so may a site and its tests."""
    count_messages(Period.of_last_days(30))
    sent("delivered", noon - timedelta(days=20))
    monkeypatch.setitem(connection.settings_dict, "NAME", "another")
    assert sum(count_messages(Period.of_last_days(30)).sent["delivered"]) == 1


class BrokenCache(BaseCache):
    """A cache whose server is down."""

    def get(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError

    def set(self, *_: Any, **__: Any) -> None:
        raise ConnectionError


@pytest.mark.django_db
def test_figures_are_counted_when_the_cache_fails(noon: datetime, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.BrokenCache"}}
    sent("delivered", noon - timedelta(days=20))
    assert sum(count_messages(Period.of_last_days(30)).sent["delivered"]) == 1


# Test Sends


@pytest.mark.django_db
def test_counts_exclude_test_sends(noon: datetime, client: WebhookClient) -> None:
    today = Period.of_last_days(1)
    tester = WebhookClient(headers={"Cellcast-Test-Send": "1"})
    real_id, test_id = (f"{int(timezone.now().timestamp()) - 20:08x}{n:016x}" for n in (1, 2))
    client.status(_id=real_id)
    tester.status(_id=test_id)
    tester.status(_id="no-time-inside")
    tester.status(_id="on-its-way", status="queued")
    tester.reply()
    client.reply(message="a real one")
    Message.objects.update(created_at=today.start)
    WebhookEvent.objects.update(received_at=today.start)

    traffic = count_messages(today)

    assert sum(traffic.replies) == 1
    assert {status: sum(numbers) for status, numbers in traffic.sent.items() if any(numbers)} == {
        "delivered": 1
    }
    assert count_delivery_times(traffic).total == 1
