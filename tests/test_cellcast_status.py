"""The command that says how receiving goes: to a person, and to the monitoring."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.models import CommandRun

pytestmark = pytest.mark.django_db


def ago(**duration: int) -> datetime:
    return timezone.now() - timedelta(**duration)


def run(*arguments: str) -> str:
    stdout = StringIO()
    call_command("cellcast_status", *arguments, stdout=stdout)
    return stdout.getvalue()


def complaint(*arguments: str) -> str:
    """Return what the command says when it exits with 1."""
    with pytest.raises(CommandError) as raised:
        run(*arguments)
    assert raised.value.returncode == 1
    return str(raised.value)


@pytest.fixture
def traffic() -> None:
    """A reply, reports, and events that wait."""
    WebhookEventFactory.create(reply=True, received_at=ago(hours=3))
    WebhookEventFactory.create_batch(2, duplicate=True, received_at=ago(seconds=5))
    WebhookEventFactory.create_batch(
        2, pending=True, next_run_at=ago(minutes=12), received_at=ago(days=2)
    )
    WebhookEventFactory.create(failed=True, received_at=ago(days=2), history__status="expired")
    WebhookEventFactory.create(invalid=True, received_at=ago(days=2))


def test_a_person_reads(traffic: None) -> None:
    MessageFactory.create(delivered=True)
    assert run() == (
        "Last webhook\n"
        "  Receive URL   3 hours ago\n"
        "  Status URL    5 s ago\n"
        "  Opt-Out URL   none\n"
        "Last webhook by username\n"
        "  cellcast      5 s ago\n"
        "Events of the last 24 hours\n"
        "  stored        1\n"
        "  duplicate     2\n"
        "  invalid       0 (1 of any age)\n"
        "Handlers\n"
        "  pending       2, the oldest due 12 minutes ago\n"
        "  failed        1\n"
        "Messages sent in the last 24 hours\n"
        "  delivered     3 (75.0% of those with a final status)\n"
        "  undelivered   1\n"
        "  in transit    2\n"
    )


def test_nothing_to_say_yet() -> None:
    output = run()
    assert "  pending       0\n" in output
    assert "  delivered     0\n" in output
    assert output.count("none") == 3


def test_event_that_is_not_due_yet_is_not_called_late() -> None:
    WebhookEventFactory.create(pending=True, next_run_at=timezone.now() + timedelta(minutes=5))
    assert "  pending       1\n" in run()


def test_json(traffic: None) -> None:
    document = json.loads(run("--json"))
    receive = document["last_webhooks"]["receive"]
    assert datetime.fromisoformat(receive["at"]) < ago(hours=3)
    assert 10_800 <= receive["age_seconds"] < 10_900
    assert 720 <= document["handler_results"].pop("overdue_seconds") < 800
    assert document["handler_results"].pop("last_run_at") is None
    oldest_due_at = document["handler_results"].pop("oldest_due_at")
    assert datetime.fromisoformat(oldest_due_at) < ago(minutes=12)
    assert datetime.fromisoformat(document.pop("measured_at")) <= timezone.now()
    assert document["last_webhooks"].pop("status")["age_seconds"] < 100
    del document["last_webhooks"]["receive"]
    assert 0 <= document["usernames"].pop("cellcast")["age_seconds"] < 100
    assert document == {
        "last_webhooks": {"opt_out": {"at": None, "age_seconds": None}},
        "usernames": {},
        "events": {"stored": 1, "duplicate": 2, "invalid": 0},
        "invalid_of_any_age": 1,
        "handler_results": {"pending": 2, "failed": 1},
        "messages": {"sent": 5, "delivered": 2, "undelivered": 1, "delivery_rate": 2 / 3},
        "problems": [],
    }


def test_last_run_of_the_command_that_runs() -> None:
    CommandRun.record(CommandRun.Command.RUN_HANDLERS, {})
    ran_at = CommandRun.objects.get().ran_at
    assert "  last run      0 s ago\n" in run()
    document = json.loads(run("--json"))
    found = datetime.fromisoformat(document["handler_results"]["last_run_at"])
    assert abs(found - ran_at) < timedelta(milliseconds=1)


# Limits


@pytest.mark.parametrize(
    "limits",
    [
        ["--max-age", "15m"],
        ["--max-age", "receive=4h", "--max-age", "status=1m"],
        ["--max-pending", "2"],
        ["--max-failed", "1"],
        ["--max-silent", "6h"],
    ],
)
def test_within_the_limits(traffic: None, limits: list[str]) -> None:
    assert run(*limits) == run()


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (["--max-age", "receive=2h"], "The last webhook on the Receive URL arrived 3 hours ago."),
        (["--max-age", "opt-out=1w"], "No webhook has arrived on the Opt-Out URL."),
        (["--max-pending", "1"], "Handlers pending: 2 (limit: 1)."),
        (["--max-pending", "0"], "Handlers pending: 2 (limit: 0)."),
        (["--max-failed", "0"], "Handlers failed: 1 (limit: 0)."),
        (
            ["--max-age", "15m", "--max-age", "receive=1h", "--max-failed", "0"],
            (
                "The last webhook on the Receive URL arrived 3 hours ago. "
                "Handlers failed: 1 (limit: 0)."
            ),
        ),
    ],
)
def test_beyond_the_limits(traffic: None, limits: list[str], problem: str) -> None:
    assert complaint(*limits) == problem


def test_messages_are_silent() -> None:
    for cellcast_id in ("1", "2"):
        MessageFactory.create(cellcast_id=cellcast_id, status="", created_at=ago(hours=7))
    run("--max-silent", "8h")
    problem = "Messages without a report for too long: 2."
    assert complaint("--max-silent", "6h") == problem


def test_webhooks_have_stopped() -> None:
    assert complaint("--max-age", "15m") == "No webhook has arrived on any URL."
    WebhookEventFactory.create(received_at=ago(minutes=20))
    assert complaint("--max-age", "15m") == "The last webhook on any URL arrived 20 minutes ago."


def test_json_is_printed_before_it_fails(traffic: None) -> None:
    stdout = StringIO()
    with pytest.raises(CommandError, match="Handlers pending: 2"):
        call_command("cellcast_status", "--json", "--max-pending", "1", stdout=stdout)
    assert json.loads(stdout.getvalue())["problems"] == ["Handlers pending: 2 (limit: 1)."]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--max-age", "15"], '"15" is not a duration'),
        (["--max-age", "replies=15m"], '"replies" is not one of the URLs: receive, status, opt-'),
        (["--max-age", "=15m"], '"" is not one of the URLs'),
        (["--max-pending", "few"], '"few" is not a whole number'),
        (["--max-pending", "-3"], '"-3" is not a whole number'),
        (["--max-failed", "1.5"], '"1.5" is not a whole number'),
    ],
)
def test_limits_that_cannot_be_read(arguments: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        run(*arguments)


def test_process_exits_with_1_and_says_why_on_stderr(tmp_path: Any) -> None:
    """As cron and monitoring run it, on a database of its own."""
    program = (
        "from django.conf import settings\n"
        "import django, sys\n"
        "from django.core.management import call_command, execute_from_command_line\n"
        f"settings.configure(DATABASES={{'default': {{'ENGINE': 'django.db.backends.sqlite3', "
        f"'NAME': {str(tmp_path / 'db')!r}}}}}, INSTALLED_APPS=['cellcast_django'], USE_TZ=True)\n"
        "django.setup()\n"
        "call_command('migrate', verbosity=0)\n"
        "execute_from_command_line(['manage.py', 'cellcast_status', '--json', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", program]
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["problems"] == []

    bad = subprocess.run(
        [*command, "--max-age", "15m"], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 1
    assert bad.stderr == "CommandError: No webhook has arrived on any URL.\n"
    assert json.loads(bad.stdout)["problems"] == ["No webhook has arrived on any URL."]
