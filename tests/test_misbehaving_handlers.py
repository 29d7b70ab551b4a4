"""Handlers that misbehave: the response is 200, the others are called, and the error is kept."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from cellcast_django.handlers import run_due
from cellcast_django.handlers.work import Work, do_safely
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import message_received
from tests.handlers import Calls, connected, errors_of, make_due, ran, reply

pytestmark = pytest.mark.django_db


# What it raises


def test_keyboard_interrupt_is_recorded_and_propagates(first: Calls, second: Calls) -> None:
    first.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        reply()
    event = WebhookEvent.objects.get()
    assert errors_of(event) == {"first": "KeyboardInterrupt: "}
    assert not second

    make_due(event)
    with pytest.raises(KeyboardInterrupt):
        ran(run_due)
    assert (len(first), len(second)) == (2, 1)


# What it returns


def test_handler_that_is_a_generator_function_fails(first: Calls) -> None:
    """Nothing in it has run."""

    def generates(**kwargs: Any) -> Any:
        yield

    async def generates_too(**kwargs: Any) -> Any:
        yield

    with connected(message_received, plain=generates, awaited=generates_too):
        event = reply()
    assert sorted(errors_of(event)) == ["awaited", "plain"]
    assert all(error.startswith("TypeError: ") for error in errors_of(event).values())
    assert len(first) == 1


# What it leaves behind


def enter_atomic(**kwargs: Any) -> None:
    transaction.atomic().__enter__()


def begin(**kwargs: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")


def turn_autocommit_off(**kwargs: Any) -> None:
    transaction.set_autocommit(False)


def enter_atomic_and_raise(**kwargs: Any) -> None:
    enter_atomic()
    raise ValueError("no")


LEFT_OPEN = (
    "TransactionLeftOpenError: It left a transaction open on the database default, "
    "which was rolled back."
)


@pytest.mark.django_db(transaction=True)
def test_handler_is_not_blamed_for_a_transaction_that_was_open_before_it(first: Calls) -> None:
    connection.set_autocommit(False)
    try:
        assert do_safely(Work(first, {}, exactly_once=False)) is None
    finally:
        connection.set_autocommit(True)
    assert len(first) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("leave_open", "error"),
    [
        (enter_atomic, LEFT_OPEN),
        (turn_autocommit_off, LEFT_OPEN),
        (enter_atomic_and_raise, "ValueError: no"),
        *([(begin, LEFT_OPEN)] if connection.vendor != "mysql" else []),
    ],
)
def test_open_transaction_is_rolled_back_and_reported(
    first: Calls, second: Calls, leave_open: Callable[..., Any], error: str
) -> None:
    def write(**kwargs: Any) -> None:
        leave_open()
        Message.objects.create(key="left open")

    def fail(**kwargs: Any) -> None:
        write() if error == LEFT_OPEN else leave_open()

    first.during = fail
    event = reply()
    assert errors_of(event) == {"first": error}
    assert len(second) == 1
    assert not Message.objects.filter(key="left open").exists()
    assert connection.get_autocommit()
    assert not connection.in_atomic_block

    first.during = second.during
    assert reply(message="the next one").state == "done"
    make_due(event)
    ran(run_due)
    assert event.state == "done"


@pytest.mark.django_db(transaction=True)
def test_webhook_after_a_plain_begin_is_stored(first: Calls) -> None:
    """A session of MariaDB does not tell that a transaction is open."""
    first.during = begin
    reply()
    first.during = lambda **kwargs: None
    reply(message="the next one")
    connection.close()  # as at the end of a request, and what is not committed is gone
    assert WebhookEvent.objects.get(message__body="the next one").state == "done"
    assert WebhookEvent.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "close",
    [lambda **kwargs: connection.close(), lambda **kwargs: connection.connection.close()],
    ids=["Django's", "the driver's"],
)
def test_closed_connection_is_reopened(
    first: Calls, second: Calls, close: Callable[..., Any]
) -> None:
    first.during = close
    event = reply()
    assert len(second) == 1
    assert event.state == "done"
