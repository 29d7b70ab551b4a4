"""What a handler may ask for: to be called later, never again, or exactly once."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import (
    DatabaseError,
    OperationalError,
    connection,
    transaction,
)
from django.utils import timezone

from cellcast_django.handlers import run_due
from cellcast_django.handlers.work import Fact
from cellcast_django.models import HandlerCall, Message, OptOut, StatusChange
from cellcast_django.signals import RetryLater, exactly_once, message_received
from tests.clock import Clock
from tests.database_faults import refused_for_another, refusing
from tests.handlers import (
    Calls,
    call_of,
    connected,
    errors_of,
    make_due,
    pause_of,
    ran,
    reply,
    state_of,
)
from tests.logs import logged
from tests.test_error_reports import failing

# RetryLater


@pytest.mark.django_db
def test_retry_later_is_recorded_and_not_logged_as_an_error(
    first: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cellcast_django")
    first.error = RetryLater(timedelta(hours=8))
    event = reply()
    asked, _webhook = logged(caplog)
    assert asked == ("INFO", ("first", event.pk))
    assert errors_of(event) == {"first": "RetryLater: after 8:00:00"}
    assert timedelta(hours=7.9) < pause_of(event) <= timedelta(hours=8)


@pytest.mark.parametrize("after", [timedelta(seconds=-1), timedelta(days=366)])
def test_retry_later_takes_a_timedelta_up_to_a_year(after: timedelta) -> None:
    with pytest.raises(ValueError, match="0 to 365 days"):
        RetryLater(after)
    with pytest.raises(TypeError, match="timedelta, not int"):
        RetryLater(60)  # type: ignore[arg-type]


# Each handler has its own attempts and pauses


@pytest.mark.django_db
def test_failing_handler_uses_up_no_attempts_of_others_and_brings_no_call_forward(
    first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 3
    first.error, second.error = RetryLater(timedelta(hours=8)), ValueError("no")
    event = reply()
    for _ in range(2):
        HandlerCall.objects.filter(handler="second").update(next_attempt_at=timezone.now())
        run_due()
    assert (len(first), len(second)) == (1, 3)
    assert [call_of(event, name).attempts for name in ("first", "second")] == [1, 3]
    assert [call_of(event, name).state for name in ("first", "second")] == ["retrying", "failed"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("after", "calls"), [(timedelta(minutes=30), 42), (timedelta(hours=8), 12)], ids=str
)
def test_retry_later_is_granted_until_both_limits_have_passed(
    first: Calls, after: timedelta, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.error = RetryLater(after)
    event = reply()
    while at := call_of(event).next_attempt_at:
        monkeypatch.setattr(timezone, "now", lambda at=at: at)
        run_due()
    assert state_of(event) == "failed"
    assert calls - 1 <= len(first) <= calls + 1


# Which functions exactly_once takes


async def asynchronous(**kwargs: Any) -> None: ...


def generates(**kwargs: Any) -> Any:
    yield


async def generates_asynchronously(**kwargs: Any) -> Any:
    yield


class AsynchronousObject:
    async def __call__(self, **kwargs: Any) -> None: ...


class PlainObject:
    def __call__(self, **kwargs: Any) -> None: ...

    def method(self, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        *(asynchronous, partial(asynchronous), AsynchronousObject(), AsynchronousObject),
        *(generates, partial(generates), generates_asynchronously),
    ],
    ids=["function", "partial", "object", "class", "generator", "in partial", "of both kinds"],
)
def test_exactly_once_refuses_what_is_no_plain_function(handler: Any) -> None:
    with pytest.raises(TypeError, match="plain function"):
        exactly_once(handler)


def copy_of_plain() -> Callable[..., None]:
    def copy(**kwargs: Any) -> None: ...

    return copy


@pytest.mark.parametrize(
    "make",
    [
        lambda: exactly_once(copy_of_plain()),
        lambda: partial(exactly_once(copy_of_plain())),
        lambda: exactly_once(partial(copy_of_plain())),
        lambda: exactly_once(PlainObject()),
        lambda: partial(exactly_once(PlainObject())),
        exactly_once(type("Copy", (PlainObject,), {})),
        lambda: exactly_once(type("Copy", (PlainObject,), {"method": copy_of_plain()})().method),
    ],
    ids=["function", "in partial", "partial", "object", "object in partial", "class", "method"],
)
def test_exactly_once_marks_every_kind_of_plain_handler(make: Callable[[], Any]) -> None:
    with connected(message_received, marked=make(), plain=copy_of_plain(), mock=Mock()):
        works = Fact(message_received, Message, {}).work().values()
        assert [work.exactly_once for work in works] == [True, False, False]


# What exactly_once commits


class Once(Calls):
    """A handler that writes a row, and then fails when told to."""

    def __init__(self) -> None:
        super().__init__("once")
        self.first: Callable[[], object] = lambda: None
        self.then: Callable[[], object] = lambda: None

    def __call__(self, **kwargs: Any) -> None:
        super().__call__(**kwargs)
        self.first()
        Message.objects.create(key=f"written {len(self)}")
        self.then()


@pytest.fixture
def once() -> Iterator[Once]:
    """A handler marked ``exactly_once`` and named "once"."""
    handler = exactly_once(Once())
    with connected(message_received, once=handler):
        yield handler


def written() -> list[str]:
    rows = Message.objects.filter(key__startswith="written")
    return list(rows.order_by("key").values_list("key", flat=True))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("state", ["skipped", "running"], ids=["skipped", "taken over"])
def test_call_that_is_lost_meanwhile_is_rolled_back(
    once: Once, second: Calls, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    def lose() -> None:
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute(
                "UPDATE cellcast_django_handlercall SET version = version + 1, state = %s"
                " WHERE handler = 'once' OR %s = 'running'",
                [state, state],
            )
        other.close()

    once.first = lose
    event = reply()
    assert written() == []
    assert call_of(event, "once").state == state
    assert len(second) == (state == "skipped"), "somebody else has taken that one, too"
    assert logged(caplog) == [("WARNING", ("once", event.pk))]


@pytest.mark.django_db(transaction=True)
def test_failed_commit_is_the_handlers_error(once: Once) -> None:
    def break_a_constraint() -> None:  # which is looked at when the transaction ends
        StatusChange.objects.create(message_id=999_999, status="sent", applied=True)

    once.then = break_a_constraint
    event = reply()
    assert written() == []
    assert event.state == "pending"
    assert errors_of(event)["once"].startswith("IntegrityError: ")


@pytest.mark.django_db(transaction=True)
def test_on_commit_error_leaves_the_handler_finished(
    once: Once, second: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    once.then = lambda: transaction.on_commit(failing(ValueError("no mail today")))
    event = reply()
    assert written() == ["written 1"]
    assert event.state == "done"
    assert len(second) == 1
    [(level, (name, *_))] = logged(caplog)
    assert (level, name) == ("ERROR", "once")


ENDINGS = {
    "COMMIT": ["COMMIT"],
    "ROLLBACK": ["ROLLBACK"],
    "and begins another": ["COMMIT", "UPDATE cellcast_django_optout SET note = ''"],
}
if connection.vendor == "mysql":
    ENDINGS["by changing a table"] = ["CREATE OR REPLACE VIEW cellcast_test AS SELECT 1"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statements", ENDINGS.values(), ids=ENDINGS)
def test_exactly_once_handler_that_ends_its_transaction_is_called_once(
    once: Once, statements: list[str]
) -> None:
    def execute() -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    once.then = execute
    event = reply()
    assert (event.state, len(once)) == ("done", 1)
    once.then = lambda: None
    assert reply(message="the next one").state == "done"


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="elsewhere an error aborts nothing")
def test_suppressed_database_error_is_reported_as_an_aborted_transaction(
    once: Once,
) -> None:
    def fail() -> None:
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")

    once.then = fail
    error = errors_of(reply())["once"]
    assert error.startswith("InternalError: ")
    assert written() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("error", "refusals", "rows", "calls"),
    [
        (refused_for_another(), 1, 1, 2),
        (refused_for_another(), 2, 0, 2),
        (OperationalError("the server is gone"), 1, 0, 1),
    ],
)
def test_exactly_once_is_called_a_second_time_after_a_serialisation_failure_alone(
    once: Once, clock: Clock, error: Exception, refusals: int, rows: int, calls: int
) -> None:
    errors = [error] * refusals

    def refuse() -> None:
        if errors:
            raise errors.pop()

    once.then = refuse
    reply()
    assert (len(written()), len(once)) == (rows, calls)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="says so only where it serialises")
def test_slow_exactly_once_is_called_again_at_once_where_the_database_refuses(once: Once) -> None:
    row = OptOut.objects.create(contact="+61400000009", source="person")
    other = connection.copy()

    def change_what_another_has_changed() -> None:
        rows = OptOut.objects.filter(pk=row.pk)
        assert rows.exists()
        if len(once) == 1:
            with other.cursor() as cursor:
                cursor.execute("UPDATE cellcast_django_optout SET note = 'theirs'")
            time.sleep(0.5)
        rows.update(note="ours")

    once.first = lambda: connection.cursor().execute(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    )
    once.then = change_what_another_has_changed
    try:
        event = reply()
    finally:
        other.close()
    assert (call_of(event, "once").state, call_of(event, "once").attempts) == ("done", 1)
    assert len(written()) == 1


@pytest.mark.django_db(transaction=True)
def test_exactly_once_does_not_survive_a_deadlock_that_it_swallows(once: Once) -> None:
    """MariaDB has rolled back what came before; Django knows it only of a failed write."""

    def look() -> None:
        deadlock = refusing("^SELECT", error=refused_for_another())
        with deadlock, suppress(OperationalError):
            Message.objects.exists()

    once.then = look
    event = reply()
    assert written() == []
    assert event.state == "pending"
    once.then = lambda: None
    make_due(event)
    ran(run_due)
    assert len(written()) == 1
