"""The command that hands over what is stored about one contact: it finds all, and nobody else's."""

import json
import stat
from datetime import date, datetime
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db.models import Model
from django.utils import timezone

from cellcast_django.factories import MessageFactory, OptOutFactory, WebhookEventFactory
from cellcast_django.management.commands.cellcast_export import UNFINISHED, output_file
from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange, WebhookEvent
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from cellcast_django.upkeep.contact_export import ContactData
from cellcast_django.upkeep.retention import Selection, prune
from tests.admin_pages import CUSTOMER
from tests.database_faults import refusing
from tests.handlers import Calls, Connect
from tests.test_cellcast_prune import assert_holds_no_number

pytestmark = pytest.mark.django_db

CONTACT = "+61491570156"
OTHER = "+61491570157"
LISTS = ("messages", "status_changes", "events", "opt_outs", "log_entries")


def export(number: str = CONTACT, **options: Any) -> dict[str, Any]:
    stdout = StringIO()
    call_command("cellcast_export", contact=number, stdout=stdout, stderr=StringIO(), **options)
    found: dict[str, Any] = json.loads(stdout.getvalue())
    return found


def keys_of(found: dict[str, Any], key: str) -> set[int]:
    return {row["id"] for row in found[key]}


def log(obj: Model, words: str) -> None:
    user, _ = User.objects.get_or_create(username="mia")
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(obj),
        object_id=str(obj.pk),
        object_repr=str(obj),
        action_flag=CHANGE,
        change_message=words,
    )


def store_something(client: WebhookClient, number: str) -> None:
    """Store what the app can file under a number."""
    client.status(_id=number, receiver=number)
    client.reply(_id=number, sender=number, message="Yes 👍 \u2028 “no”")
    client.reply(_id=number, sender=number, message="STOP")
    opt_in(number, note="Signed up again.", username="mia")


@pytest.mark.parametrize("spelling", [CONTACT, " 0491 570 156\n"])
def test_export_finds_what_erasure_removes_in_any_spelling(
    client: WebhookClient, spelling: str
) -> None:
    store_something(client, CONTACT)
    messages = set(Message.objects.values_list("pk", flat=True))
    events = set(WebhookEvent.objects.values_list("pk", flat=True))
    changes = set(StatusChange.objects.values_list("pk", flat=True))
    store_something(client, OTHER)
    found = export(spelling)
    assert list(found) == ["contact", *LISTS]
    assert found["contact"] == CONTACT
    assert keys_of(found, "messages") == messages
    assert keys_of(found, "events") == events
    assert keys_of(found, "status_changes") == changes
    [opted_out] = found["opt_outs"]
    assert [change["kind"] for change in opted_out["history"]] == ["begun", "ended"]
    assert opted_out["history"][1]["note"] == "Signed up again."
    pending = WebhookEventFactory.create(message__receiver=CONTACT, pending=True)
    assert keys_of(export(spelling), "events") == {*events, pending.pk}
    pending.calls.update(state="done", next_attempt_at=None)
    prune(Selection(number=CONTACT))
    left = export(spelling)
    assert (left["messages"], left["events"]) == ([], [])
    assert keys_of(left, "opt_outs") == {opted_out["id"]}


def test_export_holds_nothing_of_the_hosts_own(client: WebhookClient, connect: Connect) -> None:
    connect(message_received, Calls("shop.a_handler", error=ValueError("an error")))
    client.reply(sender=CONTACT, message="STOP")
    WebhookEvent.objects.update(received_as="half-of-a-secret", error="a table's name")
    output = json.dumps(export())
    words = ("shop.a_handler", "an error", "half-of-a-secret", "a table's name", "application/json")
    for internal in words:
        assert internal not in output


INTERNAL: dict[type[Model], set[str]] = {
    Message: {"key"},
    WebhookEvent: {"received_as", "content_type", "error"},
    OptOutChange: {"received_as"},
}


def columns_of(model: type[Model]) -> set[str]:
    columns = {field.attname for field in model._meta.concrete_fields}
    return columns - INTERNAL.get(model, set())


def test_export_has_every_column_but_internal_ones(client: WebhookClient) -> None:
    store_something(client, CONTACT)
    found = export()
    for key, model in zip(LISTS, (Message, StatusChange, WebhookEvent, OptOut), strict=False):
        assert set(found[key][0]) - {"history"} == columns_of(model)
    assert set(found["opt_outs"][0]["history"][0]) == columns_of(OptOutChange)
    [reply] = [row for row in found["messages"] if row["body"].startswith("Yes")]
    assert reply["body"] == "Yes 👍 \u2028 “no”"
    assert reply["created_at"] == Message.objects.get(pk=reply["id"]).created_at.isoformat()


def test_export_includes_log_entries_about_its_rows() -> None:
    event = WebhookEventFactory.create(message__receiver=CONTACT)
    opted_out = opt_out(CONTACT)
    assert event.message is not None
    log(event, "Looked at it.")
    log(event.message, "Looked at it.")
    log(opted_out, "Looked at it.")
    log(MessageFactory.create(receiver=OTHER), "Not this one.")
    log(event.message, "Nor another app's, of the same number.")
    others = ContentType.objects.create(app_label="shop", model="message")
    LogEntry.objects.filter(change_message__startswith="Nor").update(content_type=others)
    entries = export()["log_entries"]
    assert {(each["model"], each["username"]) for each in entries} == {
        ("message", "mia"),
        ("webhookevent", "mia"),
        ("optout", "mia"),
    }
    with patch.object(apps, "is_installed", return_value=False):  # a site without the admin
        assert export()["log_entries"] == []
    assert {each["action"] for each in entries} == {"Looked at it."}


def test_export_suits_an_output_of_any_encoding() -> None:
    """On Windows a redirected output is not UTF-8."""
    MessageFactory.create(inbound=True, sender=CUSTOMER, body="Très bien 🎉")
    output = BytesIO()
    text = TextIOWrapper(output, encoding="cp1252", write_through=True)
    call_command("cellcast_export", contact=CUSTOMER, stdout=text)
    assert [each["body"] for each in json.loads(output.getvalue())["messages"]] == ["Très bien 🎉"]


# The days


def at(moment: str) -> datetime:
    """Return a time in Sydney, the zone of these settings."""
    return timezone.make_aware(datetime.fromisoformat(moment))


MOMENTS = {
    "before": "2026-05-30T23:59:59.999999",
    "first": "2026-05-31T00:00",
    "last": "2026-06-01T23:59:59.999999",
    "after": "2026-06-02T00:00",
}


@pytest.fixture
def _two_people() -> None:
    """One number of two people: at each moment a message with all that hangs on it."""
    opted_out = OptOut.objects.create(
        contact=CONTACT, since=at(MOMENTS["before"]), source="person", note="private"
    )
    for words, moment in MOMENTS.items():
        event = WebhookEventFactory.create(
            message__receiver=CONTACT, message__body=words, message__created_at=at(moment)
        )
        WebhookEvent.objects.filter(pk=event.pk).update(received_at=at(moment), body=words)
        StatusChange.objects.filter(event=event).update(recorded_at=at(moment), reason=words)
        assert event.message is not None
        log(event.message, words)
        LogEntry.objects.filter(change_message=words).update(action_time=at(moment))
        change = OptOutChange(opt_out=opted_out, kind="begun", at=at(moment), note=words)
        change.save()
        WebhookEventFactory.create(invalid=True, received_at=at(moment))


@pytest.mark.usefixtures("_two_people")
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], "before first last after"),
        (["--since=2026-05-31", "--until=2026-06-01"], "first last"),
        (["--since=2026-06-01"], "last after"),
        (["--until=2026-05-31"], "before first"),
    ],
)
def test_file_has_the_rows_of_these_days(
    options: list[str], kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("cellcast_export", f"--contact={CONTACT}", *options)
    output = capsys.readouterr()
    found = json.loads(output.out)
    rows = {key: found[key] for key in ("messages", "events", "status_changes", "log_entries")}
    rows["opt_outs"] = found["opt_outs"][0]["history"]
    columns = ("body", "body", "reason", "action", "note")
    for (key, items), column in zip(rows.items(), columns, strict=True):
        assert [item[column] for item in items] == kept.split(), key
    assert output.err.startswith(f"{len(kept.split())} events could not")


@pytest.mark.usefixtures("_two_people")
def test_file_of_some_days_has_nothing_of_the_opt_out_on_others() -> None:
    [opted_out] = export(since=date(2026, 5, 31))["opt_outs"]
    assert opted_out.keys() == {"id", "contact", "history"}
    assert export(since=date(2026, 5, 30))["opt_outs"][0]["note"] == "private"
    assert "note" not in export(until=date(2026, 6, 1))["opt_outs"][0]
    with pytest.raises(CommandError, match="these days"):
        export(since=date(2026, 6, 3))


@pytest.mark.parametrize(
    "options",
    [
        ["--since=31/05/2026"],
        ["--until=2026-02-30"],
        ["--until=9999-12-31"],
        ["--until=2026-06-01", "--since=2026-06-02"],
    ],
)
def test_days_that_make_no_sense_are_an_error(options: list[str]) -> None:
    opt_out(CONTACT)
    with pytest.raises(CommandError, match=options[0][:7]):
        call_command("cellcast_export", f"--contact={CONTACT}", *options)


@pytest.mark.parametrize("options", [{}, {"output": "file"}])
@pytest.mark.parametrize("number", ["", " ", "\0"])
def test_export_without_a_number_is_an_error(number: str, options: Any) -> None:
    with pytest.raises(CommandError):
        export(number, **options)


# The file


def test_export_of_nothing_writes_no_file(tmp_path: Path) -> None:
    OptOutFactory.create(contact=OTHER)
    with pytest.raises(CommandError) as raised:
        export(output=str(tmp_path / "file.json"))
    assert CONTACT not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where to write what is stored about somebody who has opted out."""
    opt_out(CONTACT)
    return tmp_path / "file.json"


def run(path: Path, **options: Any) -> str:
    stderr = StringIO()
    call_command("cellcast_export", contact=CONTACT, output=str(path), stderr=stderr, **options)
    return stderr.getvalue()


def test_file_is_private_to_its_owner_from_its_first_byte(path: Path) -> None:
    with output_file(str(path), OutputWrapper(StringIO())) as file:
        file.write("first")
        file.flush()
        [unfinished] = path.parent.iterdir()
        assert unfinished.name == f"{path.name}{UNFINISHED}"
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600
    path.unlink()
    assert CONTACT not in run(path)
    assert json.loads(path.read_text())["contact"] == CONTACT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_command_counts_the_events_that_are_filed_under_nobody(path: Path) -> None:
    body = f'[{{"sender": "{OTHER}"}}, {{"sender": "{CONTACT}", "rec'
    WebhookEventFactory.create(invalid=True, body=body)
    WebhookEventFactory.create(invalid=True, body=body, dismissed_at=timezone.now())
    WebhookEventFactory.create(invalid=True, body="")  # redacted
    said = run(path, verbosity=0)
    assert said.startswith("2 events could not be understood")
    assert OTHER not in said and CONTACT not in said
    assert "rec" not in path.read_text()
    WebhookEvent.objects.all().delete()
    assert run(path.with_name("quiet.json"), verbosity=0) == ""


def test_export_never_overwrites_a_file(path: Path) -> None:
    def write_what_somebody_creates_meanwhile() -> None:
        with output_file(str(path), OutputWrapper(StringIO())) as file:
            path.write_text("theirs")
            file.write("mine")

    for write in (write_what_somebody_creates_meanwhile, lambda: run(path)):
        with pytest.raises(CommandError, match=r"--output.*exists"):
            write()
        assert path.read_text() == "theirs"
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("output", ["", ".", "/", "no such folder/file"])
def test_what_is_no_file_to_write_is_an_error(path: Path, output: str) -> None:
    with pytest.raises(CommandError, match="--output"):
        call_command("cellcast_export", contact=CONTACT, output=output)


def test_interrupted_export_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ContactData, "_log_entries", break_off)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    assert list(path.parent.iterdir()) == []


def test_next_run_names_what_a_killed_one_has_left(path: Path) -> None:
    left = path.with_name(f"other.json{UNFINISHED}")
    left.write_text("half")
    assert str(left) in run(path)
    assert set(path.parent.iterdir()) == {path, left}
    path.rename(path.with_name("earlier.json"))
    left = left.rename(path.with_name(f"{path.name}{UNFINISHED}"))
    with pytest.raises(CommandError, match="exists"):
        run(path)
    assert left.read_text() == "half"


def test_refusing_database_is_an_error_without_the_number(path: Path) -> None:
    with refusing("FROM"), pytest.raises(CommandError, match="database") as raised:
        run(path)
    assert_holds_no_number(raised.value)
    assert list(path.parent.iterdir()) == []
