"""The command that says how receiving goes: to a person, and to the monitoring."""

import json
import re
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.health import Light
from cellcast_django.management.commands.cellcast_status import words
from cellcast_django.models import CommandRun, Message
from tests.commands import failure_of, output_of
from tests.many import add_copies
from tests.test_health import ago

pytestmark = pytest.mark.django_db


run = partial(output_of, "cellcast_status")


def complaint(*arguments: str) -> str:
    """Return what the command says when it exits with 1."""
    _printed, error = failure_of("cellcast_status", *arguments)
    assert error.returncode == 1
    return str(error)


@pytest.fixture
def traffic() -> None:
    """A reply, reports, and events that wait."""
    WebhookEventFactory.create(reply=True, received_at=ago(hours=3))
    WebhookEventFactory.create_batch(2, duplicate=True, received_at=ago(seconds=5))
    WebhookEventFactory.create_batch(
        2, pending=True, call__next_attempt_at=ago(minutes=12), received_at=ago(days=2)
    )
    WebhookEventFactory.create(failed=True, received_at=ago(days=2), history__status="expired")
    WebhookEventFactory.create(invalid=True, received_at=ago(days=2))


def test_command_prints_what_json_has(traffic: None) -> None:
    credit_read(ago(hours=3), mms=None)
    printed = run()
    for name, value in json.loads(run("--json")).items():
        assert name.replace("_", " ").capitalize() in printed
        for key in value if isinstance(value, dict) else ():
            assert key.replace("_", " ") in printed
    received = f"{timezone.localtime(ago(hours=3)):%F %H:}"
    assert re.search(rf"receive +at {received}[\d:]+ \(3 hours ago\)", printed)
    assert "ago" not in words(ago(hours=-1))
    assert re.search(r"delivery rate +0\.667\n", printed)
    assert "handler shop.handlers.confirm, seconds 0.25\n" in printed


def test_json_has_every_figure(traffic: None) -> None:
    MessageFactory.create(inbound=True, created_at=ago(hours=1))
    document = json.loads(run("--json"))
    receive, status, opt_out, *_ = document.pop("last_webhooks").values()
    assert datetime.fromisoformat(receive["at"]) < ago(hours=3)
    assert 10_800 <= receive["age_seconds"] < 10_900
    assert status["age_seconds"] < 100
    assert (opt_out["at"], opt_out["age_seconds"]) == (None, None)
    lights = [receive["light"], status["light"], opt_out["light"]]
    assert lights == [Light.RECEIVED, Light.RECEIVED, Light.NEVER]
    assert 720 <= document["handlers"].pop("overdue_seconds") < 800
    assert document["handlers"].pop("last_run_at") is None
    assert datetime.fromisoformat(document["handlers"].pop("oldest_due_at")) < ago(minutes=12)
    assert datetime.fromisoformat(document.pop("measured_at")) <= timezone.now()
    assert 0 <= document["received_as"].pop("cellcast")["age_seconds"] < 100
    assert datetime.fromisoformat(document["replies"].pop("oldest_at")) < ago(minutes=59)
    assert 3_600 <= document["replies"].pop("longest_wait_seconds") < 3_700
    [failing] = document.pop("failing_handlers")
    assert datetime.fromisoformat(failing.pop("since")) <= timezone.now()
    assert failing == {"handler": "shop.handlers.confirm", "retrying": 0, "failed": 1}
    assert document == {
        "received_as": {},
        "events": {"stored": 1, "duplicate": 2, "deferred": 0, "invalid": 0},
        "tests": 0,
        "invalid_of_any_age": 1,
        "deferred": {"count": 0, "oldest_at": None},
        "handlers": {"pending": 2, "waiting": 2, "retrying": 0, "failed": 1},
        "replies": {"waiting": 2, "stop_wishes": {"count": 0, "oldest_at": None}},
        "messages": {
            "sent": 5,
            "delivered": 2,
            "undelivered": 1,
            "although_opted_out": 0,
            "delivery_rate": 2 / 3,
        },
        "credit": None,
        "slowest_handlers": [{"handler": "shop.handlers.confirm", "seconds": 0.25}],
        "problems": [],
    }


def credit_read(at: datetime, sms: float = 500, mms: float | None = 20) -> None:
    credit = {"sms": sms, "mms": mms, "read_at": at.isoformat()}
    CommandRun.record(CommandRun.Command.RECOVER, {"credit": credit})


def test_command_shows_the_last_run_and_the_last_reading_of_the_credit() -> None:
    CommandRun.record(CommandRun.Command.RUN_HANDLERS, {})
    ran_at = CommandRun.objects.get().ran_at
    credit_read(read_at := ago(hours=3), sms=1234.5)
    document = json.loads(run("--json"))
    found, credit = document["handlers"]["last_run_at"], document["credit"]
    assert abs(datetime.fromisoformat(found) - ran_at) < timedelta(milliseconds=1)
    assert abs(datetime.fromisoformat(credit.pop("read_at")) - read_at) < timedelta(seconds=1)
    assert credit == {"sms": 1234.5, "mms": 20}


def test_credit_that_is_low_or_was_not_read_lately_is_a_problem() -> None:
    assert "never" in complaint("--min-credit", "0")
    CommandRun.record(CommandRun.Command.RECOVER, {"credit": None})
    assert "never" in complaint("--min-credit", "0")
    credit_read(ago(hours=25))
    assert "1 day" in complaint("--min-credit", "0")
    credit_read(ago(hours=23), mms=0)
    for least in ("0", "499", "500"):
        run("--min-credit", least)
    credit_read(ago(hours=1), sms=499.5, mms=5_000)
    assert re.search(r"SMS credits: 499\.5 \(limit: 500\)", complaint("--min-credit", "500"))


# Limits


@pytest.mark.parametrize(
    ("limits", "problems"),
    [
        (["--max-age", "15m"], []),
        (["--max-age", "receive=4h", "--max-age", "status=1m"], []),
        (["--max-pending", "2", "--max-failed", "1", "--max-silent", "6h"], []),
        (["--max-unanswered", "2h", "--max-stop-wish", "3d"], []),
        (["--max-age", "opt-out=1w"], ["Opt-Out URL"]),
        (["--max-pending", "1"], [r"pending: 2 \(limit: 1\)"]),
        (["--max-pending", "0"], [r"pending: 2 \(limit: 0\)"]),
        (
            ["--max-age", "15m", "--max-age", "receive=1h", "--max-failed", "0"],
            [r"Receive URL .*\b3 hours", r"failed: 1 \(limit: 0\)"],
        ),
    ],
)
def test_command_exits_with_1_beyond_a_limit(
    traffic: None, limits: list[str], problems: list[str]
) -> None:
    stdout = StringIO()
    with pytest.raises(CommandError) if problems else nullcontext() as raised:
        call_command("cellcast_status", "--json", *limits, stdout=stdout)
    said = json.loads(stdout.getvalue())["problems"]
    assert len(said) == len(problems)
    for sentence, problem in zip(said, problems, strict=True):
        assert re.search(problem, sentence)
    if raised:
        assert (raised.value.returncode, str(raised.value)) == (1, " ".join(said))


def test_messages_without_reports_fail_without_any_limit() -> None:
    add_copies(MessageFactory.create(status="", created_at=ago(hours=2)), 19)
    printed, error = failure_of("cellcast_status", "--json")
    document = json.loads(printed)
    assert document["last_webhooks"]["status"]["light"] == Light.UNREPORTED
    [problem] = document["problems"]
    assert problem == str(error)
    assert problem.partition(": ")[2] in failure_of("cellcast_status")[0]


@pytest.mark.parametrize(
    ("option", "limit", "body"), [("unanswered", 2, "Yes"), ("stop-wish", 72, "please stop")]
)
def test_command_fails_if_replies_or_wishes_to_stop_wait_too_long(
    option: str, limit: int, body: str
) -> None:
    for hours in (limit + 24, 1):
        MessageFactory.create(inbound=True, body=body, created_at=ago(hours=hours))
    run(f"--max-{option}", f"{limit + 25}h")
    waits = rf"\b2\b.*\b{(limit + 24) // 24} days?"
    assert re.search(waits, complaint(f"--max-{option}", f"{limit}h"))
    Message.objects.update(handled_at=timezone.now())
    run(f"--max-{option}", "1m")


def test_command_fails_if_messages_are_silent_or_webhooks_have_stopped() -> None:
    for cellcast_id in ("1", "2"):
        MessageFactory.create(cellcast_id=cellcast_id, status="", created_at=ago(hours=7))
    run("--max-silent", "8h")
    assert complaint("--max-silent", "6h").endswith(": 2.")
    assert complaint("--max-age", "15m")
    WebhookEventFactory.create(received_at=ago(minutes=20))
    assert "20 minutes" in complaint("--max-age", "15m")
    run("--max-age", "25m")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--max-age", "15"], '"15"'),
        (["--max-age", "replies=15m"], '"replies"'),
        (["--max-age", "=15m"], '""'),
        (["--max-pending", "few"], "few"),
    ],
)
def test_command_refuses_malformed_limits(arguments: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        run(*arguments)
