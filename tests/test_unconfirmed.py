"""``cellcast_recover --unconfirmed``: what webhooks claimed and Cellcast's lists do not have."""

import re
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cellcast_django.factories import (
    HandlerCallFactory,
    WebhookEventFactory,
)
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.testing import WebhookClient
from tests.database_faults import refusing
from tests.fake_cellcast import REPLIES, FakeCellcast, Fault
from tests.test_take_back import newest, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "genuine")]

client = WebhookClient()

CONTACT = "+61491570156"
OTHER = "+61491570157"
NUMBER = "491570156"


def run(*arguments: str, **options: Any) -> list[list[str]]:
    """Run the command, and return the cells of its table without the heading."""
    stdout = StringIO()
    since = [] if "--since" in arguments else ["--since", "1h"]
    options = {"stdout": stdout, "stderr": StringIO()} | options
    call_command("cellcast_recover", "--unconfirmed", *since, *arguments, **options)
    return [line.split() for line in stdout.getvalue().splitlines()[1:]]


def found(*arguments: str, **options: Any) -> list[int]:
    return [int(cells[0]) for cells in run(*arguments, **options)]


@pytest.fixture
def genuine(fake_cellcast: FakeCellcast) -> None:
    """A reply, a report and an opt-out that are listed: without them a list accuses nobody."""
    now = timezone.now()
    client.reply(_id="genuine", sender="+61491570110", message="Genuine")
    fake_cellcast.add_reply(now, "491570110", "Genuine")
    client.status(_id="genuine", receiver="+61491570110")
    fake_cellcast.add_report("genuine", now, receiver="491570110")
    client.opt_out(contact="+61491570111")
    fake_cellcast.add_opt_out("491570111")


# What confirms an event


def test_older_replies_end_the_list(fake_cellcast: FakeCellcast) -> None:
    """Newest first: the page that has only older ones is the last that is read."""
    fake_cellcast.page_size = 2
    client.reply(sender=CONTACT, message="Yes")
    fake_cellcast.add_reply(timezone.now(), NUMBER, "Yes")
    for days in range(2, 9):
        fake_cellcast.add_reply(timezone.now() - timedelta(days=days), NUMBER, "Yes")
    assert found() == []
    assert [path for path, _, _ in fake_cellcast.requests].count(REPLIES) == 2


def test_listed_reply_confirms_one_message(fake_cellcast: FakeCellcast) -> None:
    """The one to a number of yours, which a forger has to guess; the file says which are alike."""
    Message.objects.record_sent("1", receiver=CONTACT, sender="+61491570300")
    client.reply(_id="1", sender=CONTACT, message="Yes", receiver="+61499666666")
    forged = newest()
    client.reply(_id="2", sender=CONTACT, message="Yes", receiver="+61491570300")
    client.reply(_id="3", sender=CONTACT, message="No", receiver="+61491570300")
    fake_cellcast.add_reply(timezone.now(), NUMBER, "Yes")
    assert [(cells[0], "alike" in cells) for cells in run()] == [
        (str(forged), True),
        (str(newest()), False),
    ]


@pytest.mark.parametrize(
    ("receiver", "reported", "listed", "is_confirmed"),
    [
        (CONTACT, "sent", "sent", True),
        (CONTACT, "sent", "delivered", True),
        (CONTACT, "delivered", "sent", False),
        (CONTACT, "failed", "delivered", False),
        (CONTACT, "delivered", "rejected", False),
        (CONTACT, "odd", "delivered", True),
        ("", "sent", "delivered", True),
        (OTHER, "sent", "delivered", False),
    ],
)
def test_report_is_confirmed_by_its_receiver_and_status_or_if_that_is_not_final(
    fake_cellcast: FakeCellcast, receiver: str, reported: str, listed: str, is_confirmed: bool
) -> None:
    client.status(_id="1", status=reported, receiver=receiver)
    for status in ("scheduled", listed, "queued"):
        fake_cellcast.add_report("1", timezone.now(), status=status, receiver=NUMBER)
    before = stored()
    assert found() == ([] if is_confirmed else [newest()])
    assert stored() == before, "the command changes nothing"


def test_stored_report_that_cannot_be_read_is_unconfirmed(fake_cellcast: FakeCellcast) -> None:
    client.status(_id="1", receiver=CONTACT)
    fake_cellcast.add_report("1", timezone.now(), receiver=NUMBER)
    WebhookEvent.objects.filter(cellcast_id="1").update(body="?")
    assert found() == [newest()]


def test_report_of_a_message_sent_days_ago_is_confirmed(fake_cellcast: FakeCellcast) -> None:
    at = timezone.now() - timedelta(days=20)
    cellcast_id = f"{int(at.timestamp()):08x}1e2c012dfe964000"
    client.status(_id=cellcast_id, receiver=CONTACT)
    client.status(_id="000000011e2c012dfe964000")  # made up: from 1970
    fake_cellcast.add_report(cellcast_id, at, receiver=NUMBER)
    assert found() == [newest()]


@pytest.mark.parametrize("is_reply", [True, False])
def test_opt_out_that_is_listed_is_confirmed(
    fake_cellcast: FakeCellcast, *, is_reply: bool
) -> None:
    for number in (CONTACT, OTHER):
        if is_reply:
            client.reply(_id=number, sender=number, message="STOP")
        else:
            client.opt_out(contact=number)
    forged = [newest()]
    client.reply(sender=CONTACT, message="which is no STOP")
    forged.append(newest())
    fake_cellcast.add_opt_out("0491 570 156")
    WebhookEventFactory.create(endpoint="api")  # which nobody can forge
    assert found() == forged
    assert found("--received-as", "nobody") == []


# The key of another account


def summary(*arguments: str) -> str:
    stderr = StringIO()
    run(*arguments, stderr=stderr)
    return stderr.getvalue()


def test_list_that_confirms_nothing_accuses_nobody(fake_cellcast: FakeCellcast) -> None:
    fake_cellcast.replies.clear()
    client.reply(sender=CONTACT)
    client.status(_id="1", receiver=CONTACT)
    assert found() == [newest()]
    assert "replies: Cellcast lists none of 2" in summary()
    fake_cellcast.opt_outs.clear()
    assert "opt-outs: Cellcast lists none of 1" in summary()


def test_opt_outs_are_judged_by_a_list_that_has_one(fake_cellcast: FakeCellcast) -> None:
    WebhookEvent.objects.filter(kind="opt_out").delete()
    client.opt_out(contact=OTHER)
    assert found() == [newest()]


@pytest.mark.parametrize("has_lists", [True, False])
def test_lists_of_another_account_are_an_error(
    fake_cellcast: FakeCellcast, tmp_path: Path, has_lists: bool
) -> None:
    for items in (fake_cellcast.replies, fake_cellcast.reports, fake_cellcast.opt_outs):
        items.clear()
    if has_lists:
        fake_cellcast.add_reply(timezone.now(), OTHER, "Somebody else's")
        fake_cellcast.add_report("somebody else's", timezone.now())
        fake_cellcast.add_opt_out(OTHER)
    with pytest.raises(CommandError, match="key of the account"):
        run("--output", str(tmp_path / "forged.csv"))
    assert list(tmp_path.iterdir()) == []


# Which events


def test_events_have_no_number_and_no_text(fake_cellcast: FakeCellcast) -> None:
    client.reply(sender=CONTACT, message="my result?")
    client.opt_out(contact=NUMBER)
    for event in WebhookEvent.objects.all():
        HandlerCallFactory.create(event=event, handler="shop.confirm")
        HandlerCallFactory.create(event=event, handler="shop.skipped", skipped=True, attempts=0)
    rows = run()
    assert [row[3:] for row in rows] == [
        ["reply", "cellcast", "shop.confirm"],
        ["opt_out", "cellcast", "shop.confirm"],
    ]
    assert NUMBER not in str(rows) and "result" not in str(rows)


def test_time_and_username_narrow_the_events(fake_cellcast: FakeCellcast) -> None:
    moments = [timezone.now() - days * timedelta(days=1) for days in (4, 3, 2, 1)]
    events = [WebhookEventFactory.create(received_at=moment).pk for moment in moments]
    for moment in moments:  # otherwise nobody is accused
        listed = WebhookEventFactory.create(received_at=moment)
        fake_cellcast.add_report(listed.cellcast_id, moment, receiver=listed.contact)
    WebhookEvent.objects.filter(received_at=moments[2]).update(received_as="new")
    since, until = (f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S.%f}" for moment in moments[1:3])
    assert found("--since", since, "--until", until) == events[1:3]
    assert found("--since", "5d", "--received-as", "new") == [events[2]]
    assert found("--since", "36h") == [events[3]]


def test_events_that_cannot_be_compared_are_counted(fake_cellcast: FakeCellcast) -> None:
    client.webhook({"status": "sent"}, "status")
    client.status(_id="1")
    WebhookEvent.objects.filter(cellcast_id="1").update(body="", contact="")
    client.reply(sender=CONTACT)
    Message.objects.inbound().filter(contact=CONTACT).delete()
    client.status(_id="2")
    WebhookEvent.objects.filter(cellcast_id="2").update(outcome="deferred", message=None)
    fake_cellcast.odd_items = [7]
    stderr = StringIO()
    assert found(stderr=stderr) == []
    confirmed, none, *others = stderr.getvalue().splitlines()
    assert re.findall(r"\d+", confirmed) == ["1", "1", "1"]
    assert re.findall(r"\d+", " ".join([none, *others])) == ["0", "1", "3", "3"]


# Reading and writing


@pytest.mark.parametrize("readable", [0, 1, 3])  # the third, of MMS, may be refused
def test_list_that_ends_early_accuses_nobody(
    fake_cellcast: FakeCellcast, tmp_path: Path, readable: int
) -> None:
    client.reply(sender=CONTACT)
    fake_cellcast.faults.extend([None] * readable + [Fault(status=400)])
    stdout = StringIO()
    with pytest.raises(CommandError):
        run("--output", str(tmp_path / "file.csv"), stdout=stdout)
    assert stdout.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept(fake_cellcast: FakeCellcast, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("mine")
    with pytest.raises(CommandError, match="--output"):
        run("--output", str(path))
    assert path.read_text() == "mine"


def test_refusing_database_is_an_error(fake_cellcast: FakeCellcast) -> None:
    client.reply(sender=CONTACT)
    with refusing("webhookevent"), pytest.raises(CommandError, match="database"):
        run()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--unconfirmed"], "--since"),
        (["--unconfirmed", "--since", "1h", "--replies"], "--replies"),
        (["--unconfirmed", "--since", "yesterday"], "2026-11-10T09:00"),
        (["--unconfirmed", "--since", "2091-01-01"], "--since"),
        (["--since", "2091-01-01"], "--since"),
        (["--until", "1h"], "--until needs --unconfirmed"),
        (["--received-as", "old"], "--received-as needs --unconfirmed"),
        (["--output", "x"], "--output needs --unconfirmed"),
        (["--unconfirmed", "--since", "1h", "--until", "2d"], "--until is before --since"),
    ],
)
def test_options_that_make_no_sense_are_errors(arguments: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        call_command("cellcast_recover", *arguments)
