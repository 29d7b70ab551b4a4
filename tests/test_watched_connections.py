"""Connections that somebody watches: each webhook is stored, and each statement is seen."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection
from django.dispatch import Signal

from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.testing import (
    WebhookClient,
    status_payload,
)
from tests.handlers import SIGNALS, Listen

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = 12
ARRAY = 3


class Watcher:
    """Sees each statement, and those that the database refuses; subclasses do more."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refused: list[str] = []

    def __call__(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        self.seen.append(sql)
        return self.executed(execute, sql, *rest)

    def executed(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        try:
            return execute(sql, *rest)
        except DatabaseError:
            self.refused.append(sql)
            raise


class Adder(Watcher):
    """Puts a statement in front of each, as packages do that tell triggers who acts."""

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        self.seen.append(sql)
        if connection.vendor != "postgresql":  # these drivers take one statement at a time
            connection.connection.cursor().execute("SELECT 1")
            return self.executed(execute, sql, params, *rest)
        both = f"SELECT set_config('site.user', '7', true); {sql}"
        result = self.executed(execute, both, params, *rest)
        while rest[-1]["cursor"].nextset():
            pass
        return result


class Refuser(Watcher):
    """Raises now and then, as if the database had called the transaction off."""

    def __call__(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        self.seen.append(sql)
        if len(self.seen) % 40 == 0:
            raise OperationalError("a deadlock")
        return self.executed(execute, sql, *rest)


@pytest.fixture
def heard(listen: Listen) -> Callable[[], Counter[Signal]]:
    """How often each signal was heard."""
    calls = {signal: listen(signal) for signal in SIGNALS}
    return lambda: Counter({signal: len(calls[signal]) for signal in SIGNALS})


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("watcher", [Watcher, Adder, Refuser])
def test_execute_wrapper_sees_every_statement(
    watcher: type[Watcher], heard: Callable[[], Counter[Signal]]
) -> None:
    client, watching = WebhookClient(), watcher()
    with connection.execute_wrapper(watching):
        for number in range(COUNT):
            responses = [
                client.status(_id=f"report {number}"),
                client.reply(_id=f"reply {number}", message=f"Yes {number}"),
                client.reply(_id=f"stop {number}", message="STOP", sender=f"+6140000{number:04}"),
                client.webhook(
                    [status_payload(_id=f"{number}, {place}") for place in range(ARRAY)],
                    "status",
                ),
            ]
            assert {response.status_code for response in responses} == {200}
    assert not watching.refused, "a second try would hide it"
    reports, replies = COUNT * (1 + ARRAY), COUNT * 2
    assert Message.objects.count() == StatusChange.objects.count() == reports + replies
    assert WebhookEvent.objects.done().count() == reports + replies
    assert OptOut.objects.active().count() == COUNT
    assert heard() == {message_received: replies, status_changed: reports, opt_out_received: COUNT}
    for model, webhooks in [(Message, 4), (StatusChange, 4), (WebhookEvent, 4), (OptOut, 1)]:
        insert = re.compile(rf"INSERT INTO [\"`]{model._meta.db_table}[\"`]")
        assert sum(bool(insert.search(sql)) for sql in watching.seen) >= COUNT * webhooks
