"""Who may change what: every address, asked as each permission alone, and with those to view."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from cellcast_django.desk import setup
from cellcast_django.diagnostics.test_send import Response
from cellcast_django.models import (
    Claim,
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.signals import message_received
from tests.admin_pages import staff
from tests.desk.every_page import (
    Form,
    addresses,
    forms,
    on_one_database,
    store_something_of_everything,
)
from tests.handlers import Calls, Connect

pytestmark = [pytest.mark.django_db, pytest.mark.exhaustive]

VIEWS = ("view_message", "view_statuschange", "view_webhookevent", "view_optout")

CHANGES: dict[str, set[Any]] = {
    "rerun_webhookevent": {HandlerCall},
    "reprocess_webhookevent": {WebhookEvent, HandlerCall, Message, StatusChange},
    "dismiss_webhookevent": {WebhookEvent},
    "answer_message": {Message},
    "write_message": {Message},
    "handle_message": {Message},
    "add_optout": {OptOut, OptOutChange},
    "end_optout": {OptOut, OptOutChange},
    # Deletes what tests have stored; what has come of it elsewhere stays, without its event.
    "set_up_webhookevent": {WebhookEvent, HandlerCall, StatusChange, OptOut, OptOutChange},
}
"""What each permission allows to change, with those to view; any other, nothing. It is recorded."""

NEEDS_NO_VIEW = ("add_optout", "set_up_webhookevent", "write_message")
TAKES_FILES = ("view_message",)
"""Who may view the figures may take them away as a file, which is logged."""
WRITES = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) .?(\w+)")
IGNORED = {Session, Claim}


def everything() -> dict[Any, Any]:
    models = [each for each in apps.get_models() if each not in IGNORED and not each._meta.proxy]
    return {each: list(each._base_manager.order_by("pk").values()) for each in models}


@contextmanager
def changes() -> Iterator[set[Any]]:
    """Note the models of which a row is changed meanwhile, and take that back.

    Also where one form undoes what another has done.
    """
    before, found = everything(), set[Any]()
    tables = {each._meta.db_table: each for each in before}

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        written = WRITES.match(sql)
        if written and written[1] in tables:
            found.add(tables[written[1]])
        return execute(sql, *rest)

    start: Any = connection.savepoint()  # not atomic(): the app would take it for a block of yours
    with connection.execute_wrapper(note):
        yield found
    after = everything()
    connection.savepoint_rollback(start)
    found |= {model for model, rows in before.items() if after[model] != rows}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log none of the refusals: that takes most of the time."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def urls(connect: Connect, settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address, once something of everything is stored."""
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    response = Response(url="https://sms.example.com/", status=500)
    monkeypatch.setattr(setup, "post_as_cellcast", lambda *arguments: response)
    connect(message_received, Calls("fails", error=ValueError("no luck")))
    store_something_of_everything()
    return addresses()


def permissions() -> list[str]:
    ours = Permission.objects.filter(content_type__app_label="cellcast_django")
    return sorted(ours.values_list("codename", flat=True))


def post(client: Client, posted: list[Form]) -> None:
    for form in posted:
        assert client.post(form.url, form.data).status_code < 500, form


def alone() -> list[list[str]]:
    """Return each permission by itself, but those together of which no two change anything."""
    special = [*CHANGES, *TAKES_FILES]
    others = [each for each in permissions() if each not in special]
    exports = [each for each in others if each.startswith("export_")]
    return [*([each] for each in special), exports, sorted({*others} - {*exports})]


@on_one_database
def test_no_page_changes_anything_by_being_opened(urls: list[str]) -> None:
    for codenames in ([], *alone(), permissions()):
        client = staff(*codenames)
        with changes() as changed:
            for url in urls:
                assert client.get(url).status_code < 500, url
        assert changed == set(), codenames


@pytest.fixture
def posted(urls: list[str], admin_client: Client) -> list[Form]:
    """What every button of every page sends."""
    return forms(admin_client, urls)


@on_one_database
def test_permission_without_a_view_changes_nothing(urls: list[str], posted: list[Form]) -> None:
    pressed = {form.url for form in posted}
    bare = [Form(url, {}) for url in urls if url not in pressed]
    for codenames in alone():
        client = staff(*codenames)
        with changes() as changed:
            post(client, [*posted, *bare])
        allowed = CHANGES[codenames[0]] if codenames[0] in NEEDS_NO_VIEW else set()
        is_logged = allowed or codenames[0] in TAKES_FILES
        assert changed == (allowed | {LogEntry} if is_logged else set()), codenames


def test_viewer_changes_what_one_more_permission_allows(posted: list[Form]) -> None:
    others = set(permissions()) - set(CHANGES)
    for codenames in (others, *([each] for each in CHANGES)):
        allowed = set().union(*(CHANGES.get(each, set()) for each in codenames))
        client = staff(*codenames, *VIEWS)
        with changes() as changed:
            post(client, posted)
        assert changed == allowed | {LogEntry}, codenames
