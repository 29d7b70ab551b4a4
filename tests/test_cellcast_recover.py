"""``cellcast_recover``: what it takes, what it says, and how it ends. The task does the same."""

import re
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError
from django.utils import timezone

from cellcast_django import tasks
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.management.commands.cellcast_recover import describe_findings
from cellcast_django.models import Message
from cellcast_django.recovery import ApiList, Findings, RecoveryError
from cellcast_django.testing import WebhookClient
from tests.commands import failure_of, output_of
from tests.database_faults import refusing
from tests.fake_cellcast import KEY, FakeCellcast, Fault
from tests.test_cellcast_prune import Terminal

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

HOUR = timedelta(hours=1)


run = partial(output_of, "cellcast_recover")


@pytest.fixture
def outage(fake_cellcast: FakeCellcast) -> FakeCellcast:
    """Two replies and a report of which no webhook came."""
    at = timezone.now() - HOUR
    for number in range(2):
        fake_cellcast.add_reply(at, body=str(number))
    fake_cellcast.add_report("1", at)
    return fake_cellcast


def line(kind: ApiList, seen: int, missing: int) -> str:
    """Return how the command says that it has stored what was missing."""
    findings = Findings(kind, seen=seen, missing=missing, stored=missing)
    return describe_findings(findings, dry_run=False)


NO_OPT_OUTS = line(ApiList.OPT_OUTS, 0, 0)


def test_command_reports_what_was_missing_and_stored(outage: FakeCellcast) -> None:
    found = [line(ApiList.REPLIES, 2, 2), line(ApiList.STATUSES, 1, 1), NO_OPT_OUTS]
    assert run().splitlines() == found
    assert run().splitlines() == [
        line(ApiList.REPLIES, 2, 0),
        line(ApiList.STATUSES, 1, 0),
        NO_OPT_OUTS,
    ]
    assert Message.objects.count() == 3


def test_command_asks_whose_key_it_is(
    fake_cellcast: FakeCellcast, client: WebhookClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        client.status(_id=str(number))
    WebhookEventFactory.create(received_at=timezone.now() - 72 * HOUR)  # which does not count
    stderr = StringIO()
    assert "with 0 of the webhooks' 5" in run(stderr=stderr)
    assert "statuses" in stderr.getvalue() and "key of the account" in stderr.getvalue()
    stderr = StringIO()
    fake_cellcast.add_report("3", timezone.now() - HOUR)
    assert "with 1 of the webhooks' 5" in run(stderr=stderr)
    assert stderr.getvalue() == ""


def test_since_option_limits_how_far_back_to_read(outage: FakeCellcast) -> None:
    assert run("--since", "30m").splitlines()[0] == line(ApiList.REPLIES, 0, 0)
    assert run("--since", "2h").splitlines()[0] == line(ApiList.REPLIES, 2, 2)
    with pytest.raises(CommandError, match='"999999w"'):
        run("--since", "999999w")


def test_unreadable_list_fails_after_the_others(outage: FakeCellcast) -> None:
    outage.faults.append(Fault(status=404))
    printed, error = failure_of("cellcast_recover")
    assert re.fullmatch(r"replies: .*\b404\.", str(error))
    found = ["replies: not read", line(ApiList.STATUSES, 1, 1), NO_OPT_OUTS]
    assert printed.splitlines() == found


def test_wrong_key_is_reported_once(fake_cellcast: FakeCellcast, settings: Any) -> None:
    settings.CELLCAST_API_KEY = "another-key"
    printed, error = failure_of("cellcast_recover")
    assert "CELLCAST_API_KEY" in str(error)
    assert "\n" not in str(error)
    assert printed.splitlines() == [f"{kind}: not read" for kind in ApiList]
    fake_cellcast.requests.clear()
    settings.CELLCAST_API_KEY = ""
    with pytest.raises(CommandError, match="CELLCAST_API_KEY"):
        run()
    assert fake_cellcast.requests == []


def test_refusing_database_is_a_command_error(
    outage: FakeCellcast, capfd: pytest.CaptureFixture[str]
) -> None:
    with refusing("INSERT"), pytest.raises(CommandError, match="OperationalError") as raised:
        run()
    assert raised.value.__context__ is None
    assert run().splitlines()[0] == line(ApiList.REPLIES, 2, 2)


def test_progress_is_shown_on_a_terminal_and_wiped(
    outage: FakeCellcast, capfd: pytest.CaptureFixture[str]
) -> None:
    output = run(stdout=Terminal(), no_color=True, verbosity=3)
    printed = output + "".join(capfd.readouterr())
    assert KEY not in printed and "400000001" not in printed
    assert "\rreplies: 2 seen, 0 missing" in output
    assert "\rreplies: 2 seen, 2 missing" in output
    assert f"\r{' ' * 60}\r{line(ApiList.REPLIES, 2, 2)}" in output


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            {"waiting": 1, "invalid": 2, "not_listed": 3, "ended": 4},
            (
                "replies: 0 seen, 0 missing, 1 too recent to tell, 2 could not be understood, "
                "3 stored here but not listed by Cellcast, 4 listed by Cellcast but ended here"
            ),
        ),
        ({"error": "…"}, "replies: not read"),
        ({"seen": 50, "error": "…"}, "replies: 50 seen, 0 missing, not read to the end"),
        (
            {"seen": 1_340, "missing": 2, "stored": 2, "error": "…"},
            "replies: 1,340 seen, 2 missing, 2 stored, not read to the end",
        ),
    ],
)
def test_findings_are_described_in_words(counts: Any, expected: str) -> None:
    assert describe_findings(Findings(ApiList.REPLIES, **counts), dry_run=False) == expected


# The task


def test_task_recovers_and_fails_when_a_list_cannot_be_read(outage: FakeCellcast) -> None:
    outage.faults.append(Fault(status=404))
    with pytest.raises(RecoveryError, match=r"replies: .*\b404"):
        tasks.recover.call()
    assert Message.objects.count() == 1
    tasks.recover.call()
    assert Message.objects.count() == 3
