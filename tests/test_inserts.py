"""Inserts of our own write what ``bulk_create`` would."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cellcast_django.database.inserts import insert, insert_or_lock
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message, OptOut

pytestmark = pytest.mark.django_db


def messages(count: int) -> list[Message]:
    texts = {"body": "50 % – Ça va 👍 ?", "media": ["https://media.example.com/ü?a='1'"]}
    return MessageFactory.build_batch(count, inbound=True, **texts)


NAMES = [field.name for field in Message._meta.fields if not field.primary_key]


def rows() -> list[Any]:
    return list(Message.objects.order_by("pk").values_list(*NAMES))


def ids() -> list[int]:
    return list(Message.objects.order_by("pk").values_list("pk", flat=True))


def test_rows_are_those_of_bulk_create() -> None:
    given = messages(3)
    insert("default", given)
    assert [message.pk for message in given] == ids()
    written = rows()
    Message.objects.all().delete()
    for message in given:
        message.pk = None
    Message.objects.bulk_create(given)
    assert rows() == written


def test_inserted_objects_can_be_saved() -> None:
    [message] = given = messages(1)
    insert("default", given)
    message.body = "changed"
    message.save()
    assert Message.objects.get().body == "changed"


def test_what_is_too_much_for_one_statement_takes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connection.ops), "bulk_batch_size", lambda *_: 2)
    given = messages(5)
    with CaptureQueriesContext(connection) as queries:
        insert("default", given)
    assert len(queries) == 3
    assert [message.pk for message in given] == ids()


def test_nothing_to_insert_takes_no_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        insert("default", [])
    assert len(queries) == 0


def test_row_that_is_there_is_left_as_it_is() -> None:
    OptOut.objects.create(contact="a", note="there", source=OptOut.Source.PERSON)
    given = [OptOut(contact=contact, note="new") for contact in "abc"]
    insert_or_lock("default", given, unique="contact")
    assert list(OptOut.objects.order_by("contact").values_list("contact", "note")) == [
        ("a", "there"),
        ("b", "new"),
        ("c", "new"),
    ]
