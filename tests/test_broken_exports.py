"""Files that the database refuses to finish: whoever opens one sees it, and no report holds it."""

import csv
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.db import OperationalError
from django.test import AsyncRequestFactory, Client, RequestFactory

from cellcast_django.admin.lists import export
from cellcast_django.factories import MessageFactory
from tests.admin_pages import CUSTOMER, staff, url_of
from tests.database_faults import refusing
from tests.many import add_copies
from tests.test_error_reports import reported

TEXT = "my result?"


@pytest.fixture
def exporter() -> Client:
    return staff("view_message", "export_message")


@pytest.mark.django_db
def test_broken_file_says_so_in_its_last_line(exporter: Client) -> None:
    message = MessageFactory.create(inbound=True, sender=CUSTOMER, body=TEXT)
    add_copies(message, 2 * export.CHUNK_SIZE)
    response: Any = exporter.post(url_of("message", "export", q=CUSTOMER))
    parts = iter(response.streaming_content)
    received = [next(parts), next(parts)]
    with refusing(), pytest.raises(OperationalError) as caught:
        received.extend(parts)
    heading, *rows, last = csv.reader(StringIO(b"".join(received).decode()))
    assert len(rows) == export.CHUNK_SIZE
    assert {len(row) for row in rows} == {len(heading)}
    [notice] = last
    assert notice
    report = reported(caught.value)
    assert (TEXT in report, CUSTOMER[3:] in report) == (False, False)


class Broken:
    """A value that cannot be written."""

    def __str__(self) -> str:
        raise OperationalError("the server is gone")


@pytest.mark.django_db
@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_broken_file_ends_with_a_notice_and_the_error(
    rf: RequestFactory, async_rf: AsyncRequestFactory, is_asynchronous: bool
) -> None:
    request = async_rf.get("/") if is_asynchronous else rf.get("/")
    assert isinstance(request, ASGIRequest) == is_asynchronous
    parts: list[list[list[Any]]] = [[[TEXT]], [[CUSTOMER, Broken()]]]
    response: Any = export.csv_of(request, "a.csv", ["heading"], parts)
    received: list[bytes] = []

    async def receive() -> None:
        async for part in response.streaming_content:
            received.append(part)

    with pytest.raises(OperationalError) as caught:
        async_to_sync(receive)() if is_asynchronous else received.extend(response.streaming_content)
    assert TEXT.encode() in received[1]
    assert len(received) == 3
    report = reported(caught.value)
    assert (TEXT in report, CUSTOMER in report) == (False, False)
