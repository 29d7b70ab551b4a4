"""What the database aborts is retried, with a new session and within a time limit."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)

from cellcast_django.database import (
    transactions,
    transactions as retries,
    transactions as sessions,
)
from tests.clock import Clock
from tests.database_faults import refused_for_another

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _sound_session(clock: Clock) -> Iterator[None]:
    """Leave a working session behind."""
    yield
    if not sessions.is_in_test(connection):
        connection.close()


class Failing:
    """Writes that fail with these errors, then succeed; records the session of each."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sessions: list[Any] = []

    def __call__(self, using: str) -> str:
        connection.ensure_connection()
        self.sessions.append(connection.connection)
        if self.errors:
            raise self.errors.pop(0)
        return f"written to {using}"


def with_retries(write: Callable[[str], Any], **kwargs: Any) -> Any:
    return retries.with_retries(write, using="default", **kwargs)


def test_write_skips_the_health_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django's, a round trip for each webhook. Whoever writes after us has a sound session."""
    connection.ensure_connection()
    monkeypatch.setattr(connection, "health_check_enabled", True)
    monkeypatch.setattr(connection, "health_check_done", False)
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    session = connection.connection

    def write(using: str) -> None:
        with transactions.own_transaction(using), connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    with_retries(write)
    assert connection.connection is session


@pytest.mark.parametrize(
    "kind", [OperationalError, InterfaceError, InternalError, NotSupportedError]
)
def test_cancelled_statement_is_retried_in_a_new_session(
    kind: type[Exception],
) -> None:
    write = Failing(kind(), kind())
    assert with_retries(write) == "written to default"
    assert len({id(session) for session in write.sessions}) == 3


@pytest.mark.parametrize("kind", [DataError, IntegrityError, ValueError])
def test_other_errors_are_raised_at_once(kind: type[Exception]) -> None:
    write = Failing(kind(), kind())
    with pytest.raises(kind):
        with_retries(write)
    assert len(write.sessions) == 1


def test_last_error_is_raised_and_its_session_discarded() -> None:
    write = Failing(*[OperationalError(str(number)) for number in range(99)])
    with pytest.raises(OperationalError) as raised:
        with_retries(write)
    assert str(raised.value) == str(len(write.sessions) - 1)
    assert connection.connection is not write.sessions[-1]


def test_pauses_grow_and_differ_between_colliding_writers(clock: Clock) -> None:
    with_retries(Failing(*[OperationalError()] * 4))
    with_retries(Failing(*[OperationalError()] * 4))
    first, second = clock.slept[:4], clock.slept[4:]
    assert first == sorted(first)
    assert all(
        pause <= slept <= 1.5 * pause for pause, slept in zip(retries.PAUSES, first, strict=False)
    )
    assert first != second


def test_quick_failures_are_retried_for_the_lock_timeout(
    clock: Clock,
) -> None:
    began_at = clock.now
    with pytest.raises(OperationalError):
        with_retries(Failing(*[OperationalError()] * 99))
    assert 1 < clock.now - began_at <= retries.BUDGET_SECONDS - retries.LOCK_SECONDS


def test_try_without_a_session_is_repeated_after_any_wait(clock: Clock) -> None:
    """An empty pool, or a server that restarts: no row was waited for."""
    tries: list[str] = []

    def wait_for_the_pool(using: str) -> str:
        tries.append(using)
        if len(tries) == 1:
            connection.close()
            clock.now += retries.LOCK_SECONDS
            raise OperationalError("couldn't get a connection")
        return "written"

    assert with_retries(wait_for_the_pool) == "written"


def test_error_from_another_schema_is_retried_once() -> None:
    write = Failing(ProgrammingError("no such table"))
    assert with_retries(write) == "written to default"
    write = Failing(*[ProgrammingError("no such table")] * 9)
    with pytest.raises(ProgrammingError):
        with_retries(write)
    assert len(write.sessions) == 2


def test_slow_first_try_is_not_repeated(
    clock: Clock,
) -> None:
    began_at = clock.now

    def wait_for_a_lock(using: str) -> None:
        clock.now += retries.LOCK_SECONDS
        raise OperationalError("lock timeout")

    with pytest.raises(OperationalError):
        with_retries(wait_for_a_lock)
    assert clock.now - began_at <= retries.BUDGET_SECONDS


def test_pause_counts_towards_the_time_limit(clock: Clock) -> None:
    write = Failing(*[OperationalError()] * 3)
    with pytest.raises(OperationalError):
        with_retries(write, for_seconds=retries.PAUSES[0] + retries.PAUSES[1] - 0.01)
    assert len(clock.slept) == 1


def test_background_job_may_retry_longer(clock: Clock) -> None:
    began_at = clock.now

    def wait_for_a_lock(using: str) -> str:
        clock.now += 20
        if clock.now - began_at < 60:
            raise OperationalError("lock timeout")
        return "written"

    assert with_retries(wait_for_a_lock, for_seconds=60) == "written"


@pytest.mark.django_db(transaction=False)
def test_test_case_retries_nothing() -> None:
    write = Failing(OperationalError())
    with pytest.raises(OperationalError):
        with_retries(write)
    assert len(write.sessions) == 1


def test_refused_write_is_repeated_only_outside_a_transaction(clock: Clock) -> None:
    def write() -> str:
        return failing("default")

    failing = Failing(refused_for_another())
    assert retries.again_if_refused(write, using="default") == "written to default"
    failing = Failing(refused_for_another())
    with pytest.raises(OperationalError, match="serialize"), transaction.atomic():
        retries.again_if_refused(write, using="default")
    assert len(failing.sessions) == 1
