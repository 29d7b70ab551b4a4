"""The page about copying rows elsewhere: a transaction that commits late, and what is personal."""

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections
from django.db.models import Max
from django.utils import timezone

from cellcast_django import inbox
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.models import StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, read
from cellcast_django.recovery import recover
from cellcast_django.retention import Selection, prune
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.fake_cellcast import FakeCellcast
from tests.handlers import Calls, connected
from tests.pages import ROOT, blocks

GENERATED = runpy.run_path(str(ROOT / "docs" / "generated.py"))
PERSONAL = GENERATED["PERSONAL"]


@pytest.fixture
def new_rows() -> Any:
    namespace: dict[str, Any] = {}
    [block] = blocks("docs/exporting-rows.md", "python")
    block.run(namespace)
    return namespace["new_rows"]


@contextmanager
def webhook_that_commits_late(payload: bytes) -> Iterator[None]:
    """Store a reply over another connection, which commits when the block ends."""
    written, may_commit = Event(), Event()
    errors: list[BaseException] = []

    def wait(event_ids: list[int]) -> None:
        written.set()
        assert may_commit.wait(60)

    def store() -> None:
        try:
            payloads = read(payload, "application/json", Endpoint.RECEIVE)
            inbox.store(payloads, endpoint=Endpoint.RECEIVE, before_commit=wait)
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = Thread(target=store)
    thread.start()
    try:
        assert written.wait(60)
        yield
    finally:
        may_commit.set()
        thread.join()
    assert not errors


@pytest.mark.django_db(transaction=True)
def test_row_that_commits_late_is_in_the_window(new_rows: Any, client: WebhookClient) -> None:
    late = b'{"_id": "late", "type": "receive", "message": "late", "sender": "+61400000001"}'
    with connected(message_received, handler=Calls()):
        client.reply(_id="first", message="first")
        with webhook_that_commits_late(late):
            if connection.vendor != "sqlite":  # where a second writer would wait for the first
                client.reply(_id="overtakes", message="overtakes")
            last_run, last_id = timezone.now(), newest_id()
            assert not WebhookEvent.objects.filter(cellcast_id="late").exists()
        client.reply(_id="after", message="after")

    by_id = WebhookEvent.objects.filter(pk__gt=last_id)
    by_time = WebhookEvent.objects.filter(received_at__gt=last_run)
    assert ids_of(by_id) == ({"late", "after"} if connection.vendor == "sqlite" else {"after"})
    assert ids_of(by_time) == {"after"}
    events, messages, changes = new_rows(last_run)
    assert ids_of(events) == ids_of(messages) >= {"late", "after"}
    assert {change.message.cellcast_id for change in changes} == ids_of(messages)


def newest_id() -> int:
    newest: int = WebhookEvent.objects.aggregate(Max("pk"))["pk__max"]
    return newest


def ids_of(rows: Any) -> set[str]:
    return set(rows.values_list("cellcast_id", flat=True))


@pytest.mark.django_db
def test_what_was_recovered_is_in_the_window(new_rows: Any, fake_cellcast: FakeCellcast) -> None:
    last_run, yesterday = timezone.now(), timezone.now() - timedelta(days=1)
    fake_cellcast.add_reply(yesterday)
    fake_cellcast.add_report("1", yesterday)
    recover()
    _, messages, changes = new_rows(last_run)
    assert messages.count() == changes.count() == 2
    an_hour_ago = last_run - timedelta(hours=1)
    assert changes.filter(recorded_at__lt=an_hour_ago).exists()
    assert messages.filter(created_at__lt=an_hour_ago).exists()


# What is personal


def values_of(row: Any) -> dict[str, Any]:
    return dict(type(row).objects.filter(pk=row.pk).values().get())


@pytest.mark.django_db
def test_personal_columns_are_those_that_redaction_empties() -> None:
    error = {"at": "", "error": "ValueError: +61400000001", "attempts": 1}
    event = WebhookEventFactory.create(handler_results={"handler": error}, done_at=timezone.now())
    change = StatusChange.objects.get()
    rows: list[Any] = [event.message, event, change]
    for row in rows:
        empty = [name for name in PERSONAL[type(row)] if not getattr(row, name)]
        values = {name: ["https://a.example"] if name == "media" else "a" for name in empty}
        type(row).objects.filter(pk=row.pk).update(**values)
    before = [values_of(row) for row in rows]
    prune(Selection(before=timezone.now() + timedelta(days=1), redact=True))
    for row, old in zip(rows, before, strict=True):
        emptied = {name for name, value in values_of(row).items() if value != old[name]}
        assert emptied == set(PERSONAL[type(row)])


def test_every_model_with_a_contact_is_listed() -> None:
    models = apps.get_app_config("cellcast_django").get_models()
    referring = {
        model
        for model in models
        if any(field.related_model in PERSONAL for field in model._meta.fields)
        or "contact" in {field.name for field in model._meta.fields}
    }
    assert referring == set(PERSONAL)


def test_publication_has_every_key_and_nothing_personal() -> None:
    statement = GENERATED["publication_sql"]()
    for model, names in PERSONAL.items():
        [line] = [each for each in statement.splitlines() if f" {model._meta.db_table} (" in each]
        columns = line.partition("(")[2].rpartition(")")[0].split(", ")
        assert model._meta.pk.column in columns
        assert not {model._meta.get_field(name).column for name in [*names]} & set(columns)


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="only it has publications")
def test_publication_is_accepted() -> None:
    with connection.cursor() as cursor:
        cursor.execute(GENERATED["publication_sql"]())
        cursor.execute("SELECT COUNT(*) FROM pg_publication_tables WHERE pubname = 'warehouse'")
        assert cursor.fetchone() == (len(PERSONAL),)
