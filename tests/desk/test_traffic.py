"""The messages of a period, as the database counts them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.desk.traffic import Month, Traffic, count_messages
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.statuses import UNDELIVERED, Status

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


def of_day(day: int, own: str = "") -> Traffic:
    def narrow(messages: Any) -> Any:
        return messages.filter(own_number=own) if own else messages

    return count_messages(Month.of(), narrow)[date(2026, 8, day)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "zone", ["Australia/Sydney", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"]
)
@pytest.mark.parametrize(("month", "day"), [(10, 4), (4, 5), (8, 14), (11, 1), (3, 8)])
def test_each_day_counts_from_midnight_to_midnight(
    monkeypatch: pytest.MonkeyPatch, zone: str, month: int, day: int
) -> None:
    """Also where clocks change on it, by an hour or by half of one."""
    set_clock(monkeypatch, datetime(2026, month, 28, 12, tzinfo=SYDNEY))
    with timezone.override(zone):
        start = datetime(2026, month, day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        end = datetime(2026, month, day + 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        moment = timedelta(microseconds=1)
        for at in (start - moment, start, end - moment, end):
            sent("delivered", at)
        counted = {day.day: each["delivered"] for day, each in count_messages(Month.of()).items()}
    # What comes before the first of a month is in the one before it.
    expected = {day - 1: 1, day: 2, day + 1: 1}
    assert {place: count for place, count in counted.items() if count} == {
        place: count for place, count in expected.items() if place
    }


@pytest.mark.django_db
def test_sent_messages_are_counted_by_status(noon: datetime) -> None:
    for status in (*Status.values, "delivered", "", "unknown"):
        sent(status, noon)
    on_the_way = sum(not each.final for each in Status) + 2
    assert of_day(14) == {"delivered": 2, **dict.fromkeys(UNDELIVERED, 1), "on_the_way": on_the_way}


# What it costs


@pytest.mark.django_db
def test_a_month_is_counted_in_one_query(noon: datetime) -> None:
    with CaptureQueriesContext(connection) as queries:
        count_messages(Month.of())
    assert len(queries) == 2  # the other: which messages are tests
