"""Who waits, on PostgreSQL before it has looked at a table that has grown: nothing is quadratic.

A restored dump, a burst of replies or a site that has just started is in that state. What counts is
how many rows each statement reads, not how long that takes.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_out
from tests.admin_pages import CUSTOMER, url_of
from tests.many import add_copies
from tests.plans import gather_statistics

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="asks its planner"),
]

WAITING = 2_000
A_FEW_TIMES = 50 * WAITING
"""Each step of a plan sees each row of two tables once; a quadratic one sees 2,000 * WAITING."""


@pytest.fixture
def waiting() -> Message:
    """The reply of one of many customers, in a table of which the database knows five rows."""
    first = MessageFactory.create(inbound=True, sender=CUSTOMER, created_at=timezone.now())
    add_copies(first, 4)
    opted_out = opt_out("+61400999999")
    gather_statistics()
    add_copies(first, WAITING, lambda number: {"contact": f"+61400{number:06}"})
    add_copies(opted_out, WAITING, lambda number: {"contact": f"+61401{number:06}"})
    return first


def rows_read(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}")
        return sum(_visited(cursor.fetchone()[0][0]["Plan"]))


def _visited(node: dict[str, Any]) -> Iterator[int]:
    removed = [count for name, count in node.items() if name.startswith("Rows Removed by")]
    yield int(node["Actual Loops"] * (node["Actual Rows"] + sum(removed)))
    for each in node.get("Plans", ()):
        yield from _visited(each)


def most_read(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    statements = [query["sql"] for query in captured if query["sql"].startswith("SELECT")]
    assert any("handled_at" in statement for statement in statements)
    return max(map(rows_read, statements))


@pytest.mark.parametrize("order", ["", "longest"])
@pytest.mark.parametrize("query", [{}, {"q": "May I come later?"}])
def test_to_answer_reads_each_row_a_few_times(
    admin_client: Client, waiting: Message, order: str, query: dict[str, str]
) -> None:
    url = url_of("message", "to_answer", order=order, **query)
    assert most_read(admin_client, url) < A_FEW_TIMES


def test_deep_page_reads_each_row_a_few_times(admin_client: Client, waiting: Message) -> None:
    after = str(waiting.pk + WAITING // 2)
    assert most_read(admin_client, url_of("message", "to_answer", after=after)) < A_FEW_TIMES


@pytest.mark.parametrize("page", ["index", "overview", "conversation", "news"])
def test_other_pages_read_each_row_a_few_times(
    admin_client: Client, waiting: Message, page: str
) -> None:
    url = {
        "index": reverse("admin:app_list", args=["cellcast_django"]),
        "overview": reverse("admin:cellcast_django_overview"),
        "conversation": url_of("message", "conversation", waiting.pk),
        "news": url_of("message", "news"),
    }[page]
    assert most_read(admin_client, url) < A_FEW_TIMES
