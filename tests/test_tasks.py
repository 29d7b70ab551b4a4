"""Announcements on a Django Tasks backend."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from cellcast_django import tasks
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient

pytestmark = pytest.mark.django_db

BACKENDS = f"{tasks.task.__module__.rpartition('.')[0]}.backends"


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The texts that a handler of ``message_received`` has heard."""
    heard: list[str] = []

    def handler(message: Any, **kwargs: Any) -> None:
        heard.append(message.body)

    message_received.connect(handler)
    yield heard
    message_received.disconnect(handler)


@pytest.fixture
def task_mode(settings: Any) -> Any:
    """Announce by tasks, on a backend that runs them at once."""
    settings.CELLCAST_ANNOUNCE_VIA = "task"
    settings.TASKS = {"default": {"BACKEND": f"{BACKENDS}.immediate.ImmediateBackend"}}
    return settings


def test_task_announces_the_event(task_mode: Any, heard: list[str]) -> None:
    assert WebhookClient().reply(message="yes").status_code == 200
    assert heard == ["yes"]
    event = WebhookEvent.objects.get()
    assert event.announced_at is not None
    assert event.announce_attempts == 1


def test_task_takes_the_backend_that_the_setting_names(task_mode: Any, heard: list[str]) -> None:
    task_mode.TASKS = task_mode.TASKS | {"sms": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
    task_mode.CELLCAST_TASK_BACKEND = "sms"
    WebhookClient().reply()
    assert not heard
    assert WebhookEvent.objects.pending().exists()


def test_task_gets_the_primary_key_only(task_mode: Any, heard: list[str]) -> None:
    task_mode.TASKS = {"default": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
    WebhookClient().reply()
    event = WebhookEvent.objects.get()
    [result] = tasks.announce_event.using().get_backend().results  # type: ignore[attr-defined]
    assert (result.args, result.kwargs) == ([event.pk], {})


def test_task_that_runs_twice_announces_once(task_mode: Any, heard: list[str]) -> None:
    WebhookClient().reply()
    tasks.announce_event.enqueue(WebhookEvent.objects.get().pk)  # type: ignore[attr-defined]
    assert len(heard) == 1


def test_duplicate_enqueues_nothing(task_mode: Any, heard: list[str]) -> None:
    WebhookClient().reply()
    task_mode.TASKS = {"default": {"BACKEND": f"{BACKENDS}.dummy.DummyBackend"}}
    WebhookClient().reply()
    assert tasks.announce_event.using().get_backend().results == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "backends",
    [
        pytest.param({"default": {"BACKEND": "no.such.Backend"}}, id="broker is down"),
        pytest.param({}, id="no backend"),
    ],
)
def test_event_that_cannot_be_enqueued_is_due(
    task_mode: Any, heard: list[str], backends: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    task_mode.TASKS = backends
    assert WebhookClient().reply().status_code == 200
    event = WebhookEvent.objects.get()
    assert WebhookEvent.objects.due(timezone.now()).get() == event
    assert f"Event {event.pk} was not enqueued" in caplog.text


def test_without_django_tasks_the_function_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("django.tasks", "django_tasks"):
        monkeypatch.setitem(sys.modules, name, None)
    assert tasks._django_tasks() is None
    monkeypatch.setattr(tasks, "task", None)
    assert tasks._as_task(print) is print


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "settings.TASKS = {'other': {'BACKEND': 'no.such.Backend'}}", id="wrong setting"
        ),
        pytest.param(
            "sys.modules |= {'django.tasks': None, 'django_tasks': None}", id="no Django Tasks"
        ),
    ],
)
def test_app_works_without_a_tasks_backend(code: str) -> None:
    script = f"""
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["cellcast_django"])
{code}
import django
django.setup()
from cellcast_django import tasks, urls
print(callable(tasks.announce_event), hasattr(tasks.announce_event, "enqueue"))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "True False\n"
