"""The command that prunes: what it takes, and what it says."""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db.models import ProtectedError
from django.db.models.signals import pre_delete
from django.utils import timezone

from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    OptOutFactory,
    StatusChangeFactory,
    WebhookEventFactory,
)
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.testing import WebhookClient
from tests.commands import failure_of, output_of
from tests.database_faults import just_before, refusing
from tests.test_error_reports import frames_of, serialised

pytestmark = pytest.mark.django_db

CONTACT = "+61491570156"


class Terminal(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


run = partial(output_of, "cellcast_prune")


def counts(output: str) -> list[int]:
    """Return the numbers of messages and events of the first line."""
    first = output.splitlines()[0]
    return [int(count) for count in re.findall(r"(\d+) (?:message|event)", first)]


@pytest.fixture
def old() -> list[WebhookEvent]:
    """Three reports of a hundred days ago and their messages."""
    at = timezone.now() - timedelta(days=100)
    return [
        WebhookEventFactory.create(received_at=at, message__created_at=at, **changes)
        for changes in [{}, {"pending": True}, {"failed": True}]
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--older-than 90d, --contact NUMBER"),
        (["--redact"], "--older-than 90d, --contact NUMBER"),
        (["--opt-outs"], "--opt-outs needs --contact"),
        (["--opt-outs", "--older-than", "1d"], "--opt-outs needs --contact"),
        (["--contact", ""], "empty"),
        (["--contact", " "], "empty"),
        (["--older-than", "3m"], r"h \(hours\), d \(days\), w \(weeks\)"),
        (["--older-than", "-1d"], "--older-than"),
        (["--older-than", "999999d"], "--older-than: "),  # before the first date
        (["--older-than", "1d", "--end-opt-outs", "Forged."], "--end-opt-outs"),
    ],
)
def test_missing_selection_is_an_error(
    old: list[WebhookEvent], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        run(*arguments)
    assert WebhookEvent.objects.count() == 3


def test_command_reports_what_was_deleted_and_kept(old: list[WebhookEvent]) -> None:
    deleted, pending, failed = run("--older-than", "90d").splitlines()
    assert deleted.startswith("Deleted: ") and counts(deleted) == [1, 1]
    assert pending.startswith("Kept: 1 event ") and "cellcast_run_handlers" in pending
    assert failed.startswith("Kept: 1 event ") and "cellcast_run_handlers --failed" in failed
    assert "--include-failed" in failed
    assert set(WebhookEvent.objects.all()) == set(old[1:])
    output = run("--older-than", "90d", "--include-failed")
    assert counts(output) == [1, 1] and output.count("Kept: 1 event ") == 1
    assert WebhookEvent.objects.get() == old[1]


@pytest.mark.parametrize(("options", "verb"), [([], "deleted"), (["--redact"], "redacted")])
def test_dry_run_changes_nothing(old: list[WebhookEvent], options: list[str], verb: str) -> None:
    rows = list(WebhookEvent.objects.values()), list(Message.objects.values())
    output = run("--older-than", "90d", "--dry-run", *options)
    assert output.startswith(f"Would be {verb}: ") and counts(output) == [1, 1]
    assert "Kept: 1 event " in output
    assert (list(WebhookEvent.objects.values()), list(Message.objects.values())) == rows
    output = run("--older-than", "90d", *options)
    assert output.startswith(f"{verb.title()}: ") and counts(output) == [1, 1]
    if options:
        assert WebhookEvent.objects.count() == Message.objects.count() == 3
        assert WebhookEvent.objects.get(body="") == old[0]


def test_erasure_never_prints_the_contact() -> None:
    MessageFactory.create_batch(2, receiver=CONTACT)
    WebhookEventFactory.create(opt_out=True, contact=CONTACT)
    WebhookEventFactory.create()
    at = timezone.now() - timedelta(days=10)
    Message.objects.filter(receiver=CONTACT).update(created_at=at)
    assert counts(run("--contact", CONTACT, "--older-than", "1w", "--dry-run")) == [2, 0]
    output = run("--contact", "0491 570 156")
    assert counts(output) == [2, 1]
    assert "1570156" not in output and "570 156" not in output
    assert Message.objects.count() == WebhookEvent.objects.count() == 1
    assert counts(run("--contact", CONTACT)) == [0, 0]
    WebhookEventFactory.create(opt_out=True, contact="hello")
    assert counts(run("--contact", "hello")) == [0, 1]


def test_incomplete_erasure_fails() -> None:
    WebhookEventFactory.create(message__receiver=CONTACT, pending=True)
    MessageFactory.create(receiver=CONTACT)
    printed, _error = failure_of("cellcast_prune", "--contact", CONTACT)
    deleted, kept = printed.splitlines()
    assert counts(deleted) == [1, 0]
    assert "cellcast_run_handlers" in kept
    assert "Kept: 1" in run("--contact", CONTACT, "--dry-run")


@pytest.mark.parametrize("redact", [[], ["--redact"]])
def test_deferred_event_is_kept_and_said_to_be(redact: list[str]) -> None:
    at = timezone.now() - timedelta(days=100)
    deferred = {"outcome": "deferred", "message": None, "history": None, "next_read_at": at}
    event = WebhookEventFactory.create(contact=CONTACT, received_at=at, **deferred)
    printed, _error = failure_of("cellcast_prune", "--contact", CONTACT, *redact)
    assert "Kept: 1 event" in printed and "(deferred)" in printed
    assert "have not finished" not in printed
    assert "(deferred)" in run("--older-than", "90d", "--include-failed", *redact)
    assert WebhookEvent.objects.exclude(body="").get() == event


def test_erasure_says_how_many_events_are_filed_under_nobody(capsys: Any) -> None:
    event = WebhookEventFactory.create(invalid=True, body=f'[{{"sender": "{CONTACT}"}}, ')
    run("--contact", CONTACT)
    assert "1 event could not be understood" in capsys.readouterr().err
    assert WebhookEvent.objects.get() == event
    run("--older-than", "1d")
    assert capsys.readouterr().err == ""


def assert_holds_no_number(error: CommandError) -> None:
    """No frame below the caller's has it: error trackers report their variables."""
    for file, variables in frames_of(error):
        if "/tests/" not in file and not file.endswith("django/core/management/__init__.py"):
            assert "1570156" not in serialised(variables), file
    assert "1570156" not in str(error)


@pytest.mark.parametrize("options", [[], ["--redact"], ["--opt-outs"], ["--dry-run"]])
def test_refusing_database_is_an_error_without_the_number(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    MessageFactory.create(receiver=CONTACT)
    with (
        refusing("cellcast_django_message"),
        pytest.raises(CommandError, match="database") as raised,
    ):
        run("--contact", CONTACT, *options)
    assert_holds_no_number(raised.value)


def test_progress_is_shown_on_a_terminal_and_wiped(old: list[WebhookEvent]) -> None:
    output = run("--older-than", "90d", stdout=Terminal(), no_color=True)
    assert "\r1 of 2 rows" in output
    assert "\r2 of 2 rows" in output
    assert f"\r{' ' * 60}\rDeleted: 1 " in output


@pytest.fixture
def _protected() -> Iterator[None]:
    """A model of the host's that forbids deleting messages."""

    def protect(instance: Message, **kwargs: Any) -> None:
        raise ProtectedError("They are referenced by 'Appointment.message'.", {instance})

    pre_delete.connect(protect, sender=Message)
    yield
    pre_delete.disconnect(protect, sender=Message)


@pytest.mark.usefixtures("_protected")
def test_prune_keeps_and_names_protected_rows(old: list[WebhookEvent]) -> None:
    deleted, protected, *_ = run("--older-than", "90d").splitlines()
    assert counts(deleted) == [0, 1]
    assert protected.startswith("Kept: ") and "'Appointment.message'" in protected
    assert Message.objects.count() == 3


# Opt-outs


@pytest.fixture
def opted_out() -> OptOut:
    """The customer's opt-out of a hundred days ago, and somebody else's."""
    at = timezone.now() - timedelta(days=100)
    OptOutFactory.create(since=at)
    event = WebhookEventFactory.create(opt_out=True, contact=CONTACT, received_at=at)
    return OptOut.objects.get(event=event)


@pytest.mark.parametrize("options", [["--dry-run"], ["--redact"], []])
def test_erasing_a_contact_keeps_the_opt_out_and_says_so(
    opted_out: OptOut, options: list[str]
) -> None:
    said = run("--contact", "0491 570 156", *options)
    assert said.splitlines()[-1].startswith("Kept: the opt-out") and "--opt-outs" in said
    assert OptOut.objects.filter(contact=CONTACT).exists()
    assert CONTACT not in said


@pytest.mark.parametrize("options", [["--redact"], []])
def test_opt_outs_option_deletes_the_contacts_opt_out(
    opted_out: OptOut, options: list[str]
) -> None:
    WebhookEventFactory.create(pending=True)  # somebody else's keeps nothing
    planned = run("--contact", "0491 570 156", "--opt-outs", "--dry-run", *options)
    assert planned.endswith(": 1 opt-out.\n")
    assert OptOut.objects.filter(pk=opted_out.pk).exists()
    done = run("--contact", "0491 570 156", "--opt-outs", *options)
    assert done.endswith("Deleted: 1 opt-out.\n")
    assert OptOut.objects.count() == OptOut.objects.exclude(pk=opted_out.pk).count() == 1
    again = run("--contact", "0491 570 156", "--opt-outs", *options)
    assert again.endswith("Deleted: 0 opt-outs.\n")
    WebhookEventFactory.create(opt_out=True, contact=CONTACT, pending=True)
    with pytest.raises(CommandError):  # what handlers have not been told of yet
        run("--contact", CONTACT, "--opt-outs", *options)
    assert OptOut.objects.filter(contact=CONTACT).exists()


# Events that are taken back


@pytest.fixture
def forged() -> list[WebhookEvent]:
    """Three reports, each of a message of its own."""
    events: list[WebhookEvent] = WebhookEventFactory.create_batch(3, message__recorded_at=None)
    return events


@pytest.mark.parametrize(
    "text",
    [
        "{0}\n{1}\n",
        "id\n{0}\n{1}",
        "id,at,kind\r\n{0},2026-11-10,reply\r\n{1},x,y\r\n",
        "\n {0} \n\n{1}",
    ],
)
def test_events_are_read_from_a_file(forged: list[WebhookEvent], tmp_path: Path, text: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text("\ufeff" + text.format(*(event.pk for event in forged)))
    assert counts(run("--events-from", str(path), "--event", str(forged[0].pk))) == [2, 2]
    assert WebhookEvent.objects.get() == forged[2]
    assert Message.objects.get() == forged[2].message


@pytest.mark.parametrize("content", [b"1\nx\n", b"\xff\xfe1", None])
def test_unusable_file_is_an_error(
    forged: list[WebhookEvent], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "events.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match="--events-from"):
        run("--events-from", str(path), "--event", str(forged[0].pk))
    assert WebhookEvent.objects.count() == 3


@pytest.mark.parametrize("key", ["999999", "0", "9223372036854775808"])
def test_event_that_has_gone_is_counted_and_passed_over(
    forged: list[WebhookEvent], key: str
) -> None:
    """An interrupted run is given the same list again."""
    output = run("--event", str(forged[0].pk), key, stdout=Terminal(), no_color=True)
    assert "\r1 of 1 events" in output
    done, gone = output.rpartition("\r")[2].splitlines()
    assert (counts(done), counts(gone)) == ([1, 1], [1])
    with pytest.raises(CommandError, match="None of these"):
        run("--event", str(forged[0].pk), key)


def test_event_that_is_being_read_meanwhile_is_left_and_an_error() -> None:
    event = WebhookEventFactory.create(invalid=True)

    def read() -> None:
        WebhookEvent.objects.update(outcome="stored", message=MessageFactory.create())

    with just_before("^UPDATE .*webhookevent", read), pytest.raises(CommandError, match="1 event"):
        run("--event", str(event.pk))
    run("--event", str(event.pk))
    assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--contact", CONTACT],
        ["--older-than=1d"],
        ["--redact"],
        ["--opt-outs"],
        ["--include-failed"],
    ],
)
def test_events_are_taken_back_alone(forged: list[WebhookEvent], option: list[str]) -> None:
    with pytest.raises(CommandError, match=option[0].partition("=")[0]):
        run("--event", str(forged[0].pk), *option)
    assert WebhookEvent.objects.count() == 3


def test_dry_run_takes_nothing_back(forged: list[WebhookEvent]) -> None:
    Message.objects.filter(events=forged[0]).update(recorded_at=timezone.now())
    WebhookEventFactory.create(duplicate=True, message=forged[1].message)
    StatusChangeFactory.create(message=forged[2].message, status="expired")
    forged += [
        *WebhookEventFactory.create_batch(2, message__recorded_at=None),
        WebhookEventFactory.create(invalid=True),
    ]
    keys = [str(event.pk) for event in forged]
    output = run("--event", *keys, "--dry-run")
    assert output.startswith("Would be taken back") and counts(output) == [6]
    assert WebhookEvent.objects.count() == 7
    assert counts(run("--event", *keys)) == [2, 6]


def test_command_names_handlers_that_had_been_told() -> None:
    events = WebhookEventFactory.create_batch(2, message__recorded_at=None)
    HandlerCallFactory.create(event=events[0], handler="shop.confirm")
    HandlerCallFactory.create(event=events[0], handler="shop.skipped", skipped=True, attempts=0)
    HandlerCallFactory.create(event=events[1], handler="shop.pay", failed=True, error="KeyError: 1")
    for options in (["--dry-run"], []):
        output = run("--event", *(str(event.pk) for event in events), *options)
        assert "shop.confirm" in output and "shop.pay" in output
        assert "shop.skipped" not in output and "KeyError" not in output


@pytest.mark.parametrize("end", [[], ["--end-opt-outs", "Forged."]])
def test_command_says_how_many_opt_outs_ended_and_were_left(end: list[str]) -> None:
    events = [WebhookEventFactory.create(opt_out=True) for _ in range(3)]
    opt_out(CONTACT)
    opt_in(CONTACT)
    WebhookClient().opt_out(contact=CONTACT)
    events.append(WebhookEvent.objects.latest("pk"))
    opt_in(events[0].contact)
    opt_out(events[1].contact, note="Rang us.")
    keys = [str(event.pk) for event in events]
    assert re.findall(r"\d+", run("--event", *keys, *end, "--dry-run")) == ["4", "0", "3"]
    ended = 2 if end else 0
    said = run("--event", *keys, *end).splitlines()[-1]
    assert re.findall(r"\d+", said) == [str(ended), str(3 - ended)]
    assert OptOut.objects.active().count() == 3 - ended
    if end:
        alone = WebhookEventFactory.create(opt_out=True)
        run("--event", str(alone.pk), *end)
        assert OptOut.objects.active().count() == 1
        assert set(OptOut.objects.exclude(ended_at=None).values_list("note", flat=True)) == {
            "",
            "Forged.",
        }


@pytest.mark.usefixtures("_protected")
def test_what_another_model_protects_is_neither_erased_nor_taken_back(
    forged: list[WebhookEvent],
) -> None:
    message = MessageFactory.create(receiver=CONTACT)
    for arguments in (["--contact", CONTACT], ["--event", str(forged[0].pk)]):
        with pytest.raises(CommandError):
            run(*arguments)
    assert WebhookEvent.objects.count() == 3
    run("--contact", CONTACT, "--redact")
    assert Message.objects.get(pk=message.pk).contact == ""


def test_database_that_refuses_to_take_back_is_an_error(
    forged: list[WebhookEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellcast_django.upkeep.retention.BATCH_SECONDS", 0.1)
    with refusing("^UPDATE"), pytest.raises(CommandError, match="database"):
        run("--event", str(forged[0].pk))
