"""Handlers on a Django Tasks backend."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from importlib import import_module
from runpy import run_path
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, ProgrammingError, connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from cellcast_django import receiving, tasks
from cellcast_django.models import (
    CommandRun,
    HandlerCall,
    Message,
    WebhookEvent,
)
from cellcast_django.receiving import tasks_package
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient, reply_payload
from tests.clock import Clock
from tests.handlers import connected
from tests.logs import logged

pytestmark = pytest.mark.django_db

BACKENDS = f"{tasks_package().__name__}.backends"


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The texts that a handler of ``message_received`` was called with."""
    heard: list[str] = []

    def handler(message: Any, **kwargs: Any) -> None:
        heard.append(message.body)

    with connected(message_received, handler=handler):
        yield heard


@pytest.fixture
def task_mode(settings: Any) -> Any:
    """Run handlers by tasks, on a backend that runs them immediately."""
    settings.CELLCAST_RUN_HANDLERS = "default"
    settings.TASKS = {"default": {"BACKEND": f"{BACKENDS}.immediate.ImmediateBackend"}}
    return settings


def test_task_runs_the_event_once(task_mode: Any, heard: list[str]) -> None:
    assert WebhookClient().reply(message="yes").status_code == 200
    assert heard == ["yes"]
    event = WebhookEvent.objects.get()
    tasks.run_handlers.enqueue(event.pk)
    assert heard == ["yes"]
    assert event.state == "done"
    assert event.calls.get().attempts == 1


def test_task_receives_only_the_primary_key(task_mode: Any, heard: list[str]) -> None:
    task_mode.TASKS = task_mode.TASKS | {"sms": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
    task_mode.CELLCAST_RUN_HANDLERS = "sms"
    WebhookClient().reply()
    assert not heard
    event = WebhookEvent.objects.get()
    assert event.state == "pending"
    [result] = tasks.run_handlers.using(backend="sms").get_backend().results
    assert (result.args, result.kwargs) == ([event.pk], {})


@pytest.mark.parametrize(
    "backends",
    [
        pytest.param({"default": {"BACKEND": "no.such.Backend"}}, id="broker is down"),
        pytest.param({}, id="no backend"),
    ],
)
def test_event_not_enqueued_is_due(
    task_mode: Any, heard: list[str], backends: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    task_mode.TASKS = backends
    assert WebhookClient().reply().status_code == 200
    event = WebhookEvent.objects.get()
    assert HandlerCall.objects.due().get().event == event
    [(level, (first, count, _cause))] = logged(caplog)
    assert (level, first, count) == ("ERROR", event.pk, 1)


def test_webhook_stops_enqueueing_after_the_first_refusal(
    task_mode: Any, heard: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    refuse = f"{BACKENDS}.dummy.DummyBackend.enqueue"
    with patch(refuse, side_effect=ConnectionError("30 seconds later")) as enqueue:
        task_mode.TASKS = {"default": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
        replies = [reply_payload(message=str(number)) for number in range(20)]
        assert WebhookClient().webhook(replies, "receive").status_code == 200
    assert enqueue.call_count == 1
    due = HandlerCall.objects.due().order_by("pk")
    assert len(due) == 20
    assert logged(caplog) == [("ERROR", (due[0].event_id, 20, "ConnectionError"))]


def test_scheduled_task_runs_due_events(task_mode: Any, heard: list[str]) -> None:
    task_mode.TASKS = {"default": {"BACKEND": "no.such.Backend"}}
    for text in ("one", "two"):
        WebhookClient().reply(message=text)
    task_mode.TASKS = {"default": {"BACKEND": f"{BACKENDS}.immediate.ImmediateBackend"}}
    tasks.run_due_handlers.enqueue()
    assert heard == ["one", "two"]
    assert not WebhookEvent.objects.pending().exists()
    record = CommandRun.objects.get()
    assert (record.command, record.summary["done"]) == (CommandRun.Command.RUN_HANDLERS, 2)


@pytest.fixture
def old_and_new() -> list[Message]:
    """A reply of 100 days ago, and one of now."""
    for text in ("old", "new"):
        WebhookClient().reply(message=text)
    at = timezone.now() - timedelta(days=100)
    WebhookEvent.objects.filter(message__body="old").update(received_at=at)
    Message.objects.filter(body="old").update(created_at=at)
    return list(Message.objects.order_by("pk"))


@pytest.mark.parametrize("redact", [False, True])
def test_task_prunes_what_is_older(redact: bool, old_and_new: list[Message]) -> None:
    tasks.prune.call("90d", redact=redact)
    left = list(Message.objects.order_by("pk").values_list("body", flat=True))
    assert left == (["", "new"] if redact else ["new"])


@pytest.mark.parametrize("age", ["90", "3m", "", "0d", None])
def test_task_refuses_a_bad_age_and_prunes_nothing(age: Any, old_and_new: list[Message]) -> None:
    with pytest.raises(ValueError, match="duration"):
        tasks.prune.call(age)
    assert Message.objects.count() == 2


# A queue in the same database


@pytest.fixture
def outbox(task_mode: Any) -> Any:
    """Run handlers by tasks that are rows of the same database."""
    task_mode.TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
    return task_mode


@pytest.fixture
def failing_commits() -> Callable[[int], AbstractContextManager[Any]]:
    """Makes this many commits fail."""
    database: Any = type(connections["default"])
    commit = database._commit
    failures = 0

    def fail_or_commit(self: Any) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OperationalError
        commit(self)

    def fail(times: int) -> AbstractContextManager[Any]:
        nonlocal failures
        failures = times
        return patch.object(database, "_commit", fail_or_commit)

    return fail


def enqueued() -> list[Any]:
    """The event ids of the tasks in the database."""
    return [task.args_kwargs["args"][0] for task in DBTaskResult.objects.order_by("enqueued_at")]


@pytest.mark.django_db(transaction=True)
def test_task_in_the_same_database_is_written_before_the_commit(
    outbox: Any, heard: list[str]
) -> None:
    WebhookClient().status()  # spends what a new connection costs
    with CaptureQueriesContext(connection) as queries:
        assert WebhookClient().reply().status_code == 200
    statements = [query["sql"] for query in queries]
    [of_task] = [n for n, sql in enumerate(statements) if DBTaskResult._meta.db_table in sql]
    [of_event] = [n for n, sql in enumerate(statements) if WebhookEvent._meta.db_table in sql]
    [begin] = [n for n, sql in enumerate(statements) if sql == "BEGIN"]
    [commit] = [n for n, sql in enumerate(statements) if sql == "COMMIT"]
    assert begin < of_event < of_task < commit
    assert enqueued() == [WebhookEvent.objects.latest("pk").pk]
    assert not heard


@pytest.mark.django_db(transaction=True)
def test_refused_webhook_leaves_no_task(
    outbox: Any, heard: list[str], failing_commits: Any, clock: Clock
) -> None:
    with failing_commits(9):
        assert WebhookClient().reply().status_code == 503
    assert not WebhookEvent.objects.exists()
    assert not enqueued()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("says", ["one status", "several things"])
def test_retried_transaction_leaves_one_task_per_event(
    says: str, outbox: Any, heard: list[str], failing_commits: Any
) -> None:
    replies = [reply_payload(message=text) for text in ("one", "two")]
    with failing_commits(1):
        WebhookClient().webhook(replies[0] if says == "one status" else replies, "receive")
    pks = list(WebhookEvent.objects.order_by("pk").values_list("pk", flat=True))
    assert len(pks) == (1 if says == "one status" else 2)
    assert enqueued() == pks


@pytest.mark.parametrize("body", [reply_payload(), [reply_payload()], {"_id": ""}])
def test_event_with_nothing_to_run_has_no_task(body: Any, outbox: Any, heard: list[str]) -> None:
    WebhookClient().status()  # nobody listens to it
    assert not enqueued()
    WebhookClient().reply()
    DBTaskResult.objects.all().delete()
    WebhookClient().webhook(body, "receive")
    assert WebhookEvent.objects.count() == 3
    assert not enqueued()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("failures", [1, 2])
def test_webhook_is_stored_even_if_the_queue_fails(
    failures: int, outbox: Any, heard: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """If it refuses after the commit too, a schedule has to run."""
    refusals = iter(range(failures))

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if DBTaskResult._meta.db_table in sql and next(refusals, None) is not None:
            raise ProgrammingError("no such table")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        assert WebhookClient().reply(message="yes").status_code == 200
    event = WebhookEvent.objects.get()
    assert Message.objects.get().status_history.count() == 1
    assert enqueued() == ([event.pk] if failures == 1 else [])
    assert len(logged(caplog)) == failures - 1
    tasks.run_due_handlers.call()
    assert heard == ["yes"]


class TasksElsewhere:
    """A router that keeps the tasks in another database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "tasks" if model is DBTaskResult else None


@pytest.mark.parametrize(
    ("changes", "is_outbox"),
    [
        pytest.param({}, True, id="the same database"),
        pytest.param({"DATABASE_ROUTERS": [TasksElsewhere()]}, False, id="another database"),
        pytest.param(
            {"TASKS": {"default": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}},
            False,
            id="another backend",
        ),
        pytest.param({"TASKS": {}}, False, id="no backend"),
    ],
)
def test_task_is_written_in_the_transaction_only_on_the_same_database(
    changes: dict[str, Any], is_outbox: bool, outbox: Any
) -> None:
    for name, value in changes.items():
        setattr(outbox, name, value)
    assert receiving.is_in_same_database() is is_outbox


class OwnBackend(import_module(f"{BACKENDS}.base").BaseTaskBackend):  # type: ignore[misc]
    """A backend that stands in an app which has models in our database."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError

    enqueue.__module__ = "django.contrib.auth.tasks"


class BackendWithResults(OwnBackend):
    supports_get_result = True


@pytest.mark.parametrize(
    ("backend", "is_outbox"), [(OwnBackend, False), (BackendWithResults, True)]
)
def test_backend_that_keeps_no_results_is_not_taken_for_one_in_the_database(
    backend: type, is_outbox: bool, outbox: Any
) -> None:
    outbox.TASKS = {"default": {"BACKEND": f"{__name__}.{backend.__name__}"}}
    assert receiving.is_in_same_database() is is_outbox


def nothing() -> None: ...


def test_task_needs_only_the_configured_backend(settings: Any) -> None:
    settings.TASKS = {"sms": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
    settings.CELLCAST_RUN_HANDLERS = "sms"
    assert tasks.as_task(nothing).backend == "sms"


@pytest.fixture(params=["wrong setting", "no Django Tasks"])
def no_backend(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    missing = {}
    if request.param == "wrong setting":
        settings.TASKS = {"other": {"BACKEND": "no.such.Backend"}}
    else:
        missing = {"django.tasks": None, "django_tasks": None}
    with patch.dict(sys.modules, missing):
        assert bool(tasks_package()) != bool(missing)
        yield


@pytest.mark.usefixtures("no_backend")
@pytest.mark.parametrize("name", tasks.__all__)
def test_tasks_are_plain_functions_without_a_backend(name: str) -> None:
    assert getattr(tasks, name).module_path == f"cellcast_django.tasks.{name}"
    function = run_path(str(tasks.__file__))[name]
    assert callable(function)
    assert not hasattr(function, "enqueue")
