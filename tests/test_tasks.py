"""Handlers on a Django Tasks backend."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from runpy import run_path
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone

from cellcast_django import tasks
from cellcast_django.models import (
    CommandRun,
    HandlerCall,
    Message,
    WebhookEvent,
)
from cellcast_django.receiving import tasks_package
from cellcast_django.testing import WebhookClient, reply_payload
from tests.handlers import Calls
from tests.logs import logged

pytestmark = pytest.mark.django_db

BACKENDS = f"{tasks_package().__name__}.backends"


@pytest.fixture
def task_mode(settings: Any) -> Any:
    """Run handlers by tasks, on a backend that runs them immediately."""
    settings.CELLCAST_RUN_HANDLERS = "default"
    settings.TASKS = {"default": {"BACKEND": f"{BACKENDS}.immediate.ImmediateBackend"}}
    return settings


def test_task_runs_the_event_once(task_mode: Any, first: Calls) -> None:
    assert WebhookClient().reply(message="yes").status_code == 200
    assert first.heard() == ["yes"]
    event = WebhookEvent.objects.get()
    tasks.run_handlers.enqueue(event.pk)
    assert first.heard() == ["yes"]
    assert event.state == "done"
    assert event.calls.get().attempts == 1


def test_task_receives_only_the_primary_key(task_mode: Any, first: Calls) -> None:
    task_mode.TASKS = task_mode.TASKS | {"sms": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
    task_mode.CELLCAST_RUN_HANDLERS = "sms"
    WebhookClient().reply()
    assert not first
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
    task_mode: Any, first: Calls, backends: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    task_mode.TASKS = backends
    assert WebhookClient().reply().status_code == 200
    event = WebhookEvent.objects.get()
    assert HandlerCall.objects.due().get().event == event
    [(level, (event_id, count, _cause))] = logged(caplog)
    assert (level, event_id, count) == ("ERROR", event.pk, 1)


def test_webhook_stops_enqueueing_after_the_first_refusal(
    task_mode: Any, first: Calls, caplog: pytest.LogCaptureFixture
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


def test_scheduled_task_runs_due_events(task_mode: Any, first: Calls) -> None:
    task_mode.TASKS = {"default": {"BACKEND": "no.such.Backend"}}
    for text in ("one", "two"):
        WebhookClient().reply(message=text)
    task_mode.TASKS = {"default": {"BACKEND": f"{BACKENDS}.immediate.ImmediateBackend"}}
    tasks.run_due_handlers.enqueue()
    assert first.heard() == ["one", "two"]
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
