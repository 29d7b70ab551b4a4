"""Walking through rows newest first, page by page, whatever share of them was stored at once."""

from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from cellcast_django.admin.lists.paging import chunks
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def messages() -> list[Message]:
    """Seven messages, newest first; three of them are of one moment."""
    minutes = [0, 1, 2, 2, 2, 3, 4]
    made = [MessageFactory.create(created_at=NOON + timedelta(minutes=m)) for m in minutes]
    return made[::-1]


@pytest.mark.django_db
@pytest.mark.parametrize("order", ["-created_at", "-pk"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_yield_every_row_once_newest_first(
    messages: list[Message], order: str, size: int
) -> None:
    lists = list(chunks(Message.objects.all(), order, size))
    assert list(chain(*lists)) == messages
    assert all(len(rows) == size for rows in lists[:-1])
