"""What the database aborts is retried, with a new session and within a time limit."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

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

from cellcast_django.database import transactions as retries, transactions as sessions
from cellcast_django.database.vendors import VENDORS
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


def gone() -> OperationalError:
    """No server is there to write to."""
    return OperationalError("gone")


def test_write_skips_the_health_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django's, a round trip for each webhook. Whoever writes after us has a sound session."""
    connection.ensure_connection()
    monkeypatch.setattr(connection, "health_check_enabled", True)
    monkeypatch.setattr(connection, "health_check_done", False)
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    write = Failing()
    session = connection.connection
    with_retries(write)
    assert write.sessions == [session]


@pytest.mark.parametrize(
    "kind",
    [OperationalError, InterfaceError, InternalError, NotSupportedError, ProgrammingError],
)
def test_aborted_statement_is_tried_once_more_in_a_new_session(kind: type[Exception]) -> None:
    def aborted() -> Exception:
        error = kind("no such table")
        error.__cause__ = Exception(1146)
        return error

    write = Failing(aborted())
    assert with_retries(write) == "written to default"
    write = Failing(aborted(), aborted())
    with pytest.raises(kind):
        with_retries(write)
    assert len({id(session) for session in write.sessions}) == 2


@pytest.fixture
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database have a server that can be lost."""
    monkeypatch.setitem(VENDORS, connection.vendor, VENDORS["postgresql"])
    monkeypatch.setattr(retries, "is_idle", lambda _: True)


@pytest.mark.usefixtures("_server")
def test_lost_connection_is_tried_again_until_the_time_is_over(clock: Clock) -> None:
    assert with_retries(Failing(*[gone()] * 4)) == "written to default"
    began_at = clock.now
    with pytest.raises(OperationalError):
        with_retries(Failing(*[gone()] * 99))
    assert retries.LOST_SECONDS < clock.now - began_at <= retries.LOST_SECONDS + 1.2


@pytest.mark.usefixtures("_server")
def test_whatever_is_refused_is_tried_again_for_so_long_where_nobody_waits(clock: Clock) -> None:
    assert with_retries(Failing(*[refused_for_another()] * 30), for_seconds=60) is not None
    began_at = clock.now
    with pytest.raises(OperationalError):
        with_retries(Failing(*[refused_for_another()] * 99), for_seconds=10)
    assert 10 < clock.now - began_at <= 11.2


@pytest.mark.usefixtures("_server")
def test_what_is_read_again_anyway_is_tried_again_only_if_that_may_help_at_once(
    clock: Clock,
) -> None:
    by_a_trigger = error_of("P0001", InternalError)
    for error, tries in [(by_a_trigger, 1), (refused_for_another(), 2), (gone(), 2)]:
        write = Failing(error)
        with suppress(InternalError):
            with_retries(write, for_seconds=0)
        assert len(write.sessions) == tries


@pytest.mark.skipif(connection.vendor != "sqlite", reason="has no one lock")
def test_sqlites_one_lock_is_waited_for_once_unless_nobody_waits(clock: Clock) -> None:
    write = Failing(*[OperationalError("database is locked")] * 2)
    with pytest.raises(OperationalError):
        with_retries(write)
    assert len(write.sessions) == 1
    assert with_retries(write, for_seconds=60) == "written to default"


def test_refusal_is_tried_a_second_time_however_long_it_took(clock: Clock) -> None:
    """PostgreSQL finds a deadlock after a second, and the host's settings may say ten."""

    def write(using: str) -> str:
        clock.sleep(10)
        return failing(using)

    failing = Failing(refused_for_another())
    assert with_retries(write) == "written to default"


@pytest.mark.parametrize("is_connected", [True, False])
def test_error_of_the_operating_system_is_a_refusal(
    is_connected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(24, "Too many open files")
    if not is_connected:
        monkeypatch.setattr(connection, "get_autocommit", Mock(side_effect=error))
    with pytest.raises(OperationalError, match="Too many open files"):
        with_retries(Failing(*[error] * 99 * is_connected))


def error_of(code: Any, kind: type[Exception] = OperationalError) -> Exception:
    error, cause = kind(), Exception(code)
    if isinstance(code, str):
        cause.sqlstate = code  # type: ignore[attr-defined]
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError, InternalError])
@pytest.mark.parametrize(
    ("is_lost", "codes"),
    [(True, [None, "57P03", "08006", 2000, 2013, 1040, 24]), (False, ["53100", "40001", 1213])],
)
def test_code_tells_whether_the_server_is_there(
    is_lost: bool, codes: list[Any], kind: type[Exception]
) -> None:
    server: Any = SimpleNamespace(vendor="postgresql")
    for code in codes:
        assert retries.is_lost(server, error_of(code, kind)) is is_lost, code


@pytest.mark.parametrize(
    ("code", "is_refused"),
    [("40P01", True), ("40001", True), (1213, True), (1020, True), ("55P03", False), (1205, False)],
)
def test_code_tells_whether_another_transaction_came_first(code: Any, is_refused: bool) -> None:
    assert retries.is_refused(error_of(code)) is is_refused


@pytest.mark.parametrize("kind", [DataError, IntegrityError, ValueError])
def test_other_errors_are_raised_at_once(kind: type[Exception]) -> None:
    write = Failing(kind(), kind())
    with pytest.raises(kind):
        with_retries(write)
    assert len(write.sessions) == 1


@pytest.mark.usefixtures("_server")
def test_last_error_is_raised_and_its_session_discarded(clock: Clock) -> None:
    errors = [gone() for _ in range(99)]
    write = Failing(*errors)
    with pytest.raises(OperationalError) as raised:
        with_retries(write)
    assert raised.value is errors[len(write.sessions) - 1]
    assert connection.connection is not write.sessions[-1]


@pytest.mark.usefixtures("_server")
def test_pauses_grow_and_differ_between_colliding_writers(clock: Clock) -> None:
    with_retries(Failing(*[gone()] * 4))
    with_retries(Failing(*[gone()] * 4))
    first, second = clock.slept[:4], clock.slept[4:]
    assert first == sorted(first)
    assert all(
        pause <= slept <= 1.5 * pause for pause, slept in zip(retries.PAUSES, first, strict=False)
    )
    assert first != second


def test_hosts_write_is_repeated_only_if_refused_and_outside_a_transaction(clock: Clock) -> None:
    def write() -> str:
        clock.sleep(10)  # however long it took
        return failing("default")

    connection.close()  # or whether the first try connects
    failing = Failing(refused_for_another())
    assert retries.again_if_refused(write, using="default") == "written to default"
    for errors in ([refused_for_another()] * 2, [gone()]):
        failing = Failing(*errors)
        with pytest.raises(OperationalError):
            retries.again_if_refused(write, using="default")
        assert not failing.errors
    failing = Failing(refused_for_another())
    with pytest.raises(OperationalError, match="serialize"), transaction.atomic():
        retries.again_if_refused(write, using="default")
    assert len(failing.sessions) == 1
