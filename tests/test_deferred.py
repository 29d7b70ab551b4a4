"""What the database would not store for now is kept, and read as soon as it can be."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, InternalError, OperationalError, transaction
from django.test import Client
from django.utils import timezone

from cellcast_django import inbox, receiving
from cellcast_django.health import measure_health
from cellcast_django.inbox import deferring, writing
from cellcast_django.models import HandlerCall, Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out, opted_out
from cellcast_django.payloads import Endpoint, Reply
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.tasks import run_due_handlers
from cellcast_django.testing import (
    WebhookClient,
    opt_out_payload,
    reply_payload,
    run_handlers,
    status_payload,
)
from tests.clock import Clock
from tests.database_faults import just_before, refused_for_another, refusing
from tests.handlers import Listen, outcomes
from tests.killed import lines_of

pytestmark = pytest.mark.django_db(transaction=True)

CUSTOMER = "+61400000001"


@contextmanager
def unable(error: Exception | None = None) -> Iterator[None]:
    """Let messages not be stored, as when a row is locked; or for another reason."""
    error = error or DatabaseError("deferred for a test")
    with patch.object(writing, "write", side_effect=error):
        yield


@pytest.fixture(params=["status", "reply", "opt_out"])
def send(request: pytest.FixtureRequest, client: WebhookClient) -> Callable[[], Any]:
    """Send each kind of webhook."""
    if request.param == "status":
        return client.status
    if request.param == "reply":
        return lambda: client.reply(sender=CUSTOMER, message="STOP")
    return lambda: client.opt_out(contact=CUSTOMER)


def rows() -> list[Any]:
    """Everything that a webhook makes, without ids and times."""
    return [
        sorted(Message.objects.values_list("key", "status", "contact", "created_at")),
        sorted(StatusChange.objects.values_list("status", "applied", "recorded_at")),
        sorted(WebhookEvent.objects.values_list("kind", "outcome", "error", "next_read_at")),
        sorted(OptOut.objects.values_list("contact", "source", "since")),
    ]


def test_deferred_webhook_is_read_as_if_it_had_just_arrived(
    send: Callable[[], Any], listen: Listen, clock: Any
) -> None:
    told = [listen(signal) for signal in (message_received, status_changed, opt_out_received)]
    with unable():
        assert outcomes(send()) == ["deferred"]
    [event] = WebhookEvent.objects.deferred()
    assert event.state == WebhookEvent.State.PENDING
    assert (list(WebhookEvent.objects.pending()), list(WebhookEvent.objects.done())) == (
        [event],
        [],
    )
    assert event.error == "DatabaseError: deferred for a test"
    assert not Message.objects.exists()
    assert not any(told)

    call_command("cellcast_run_handlers")

    event.refresh_from_db()
    assert (event.outcome, event.error, event.next_read_at) == ("stored", "", None)
    assert WebhookEvent.objects.done().get() == event
    facts = sum(map(len, told))
    assert facts == HandlerCall.objects.done().count() == (2 if event.kind == "reply" else 1)
    for message in Message.objects.all():
        assert message.created_at == event.received_at
    for each in OptOut.objects.all():
        assert each.since == event.received_at
    assert outcomes(send()) == ["duplicate"]
    run_handlers()
    assert sum(map(len, told)) == facts


def test_failed_reading_in_a_transaction_that_is_open_postpones_nothing(
    client: WebhookClient,
) -> None:
    with unable():
        client.status()
        event = WebhookEvent.objects.get()
        with transaction.atomic(), pytest.raises(DatabaseError):
            inbox.read_deferred(event)
    assert WebhookEvent.objects.get().next_read_at == event.next_read_at


@pytest.mark.parametrize("read", [run_due_handlers.func, run_handlers], ids=["task", "test kit"])
def test_whatever_runs_handlers_reads_what_is_deferred(
    client: WebhookClient, read: Callable[[], object]
) -> None:
    with unable():
        client.status()
    read()
    assert Message.objects.delivered().count() == 1


def test_each_element_of_an_array_is_read_by_itself_and_may_be_a_duplicate(
    client: WebhookClient, listen: Listen
) -> None:
    told = listen(status_changed)
    with unable():
        array = [status_payload(), status_payload(), status_payload(_id="2"), {"type": "send"}]
        response = client.webhook(array, Endpoint.STATUS)
    assert outcomes(response) == ["deferred"] * 3 + ["invalid"]
    client.status()
    assert receiving.read_due() == 3
    run_handlers()
    stored = WebhookEvent.objects.order_by("pk").values_list("outcome", flat=True)
    assert list(stored) == ["duplicate", "duplicate", "stored", "invalid", "stored"]
    assert len(told) == 2


# Until it is read


@pytest.mark.parametrize(
    ("payload", "endpoint", "is_out"),
    [
        (reply_payload(sender="0400 000 001", message="Stop!"), Endpoint.RECEIVE, True),
        (opt_out_payload(contact="400000001"), Endpoint.OPT_OUT, True),
        (reply_payload(sender="0400 000 001", message="Don't stop"), Endpoint.RECEIVE, False),
        (status_payload(receiver="0400 000 001"), Endpoint.STATUS, False),
        ([reply_payload(sender=CUSTOMER, message="Stop")] * 2, Endpoint.RECEIVE, True),
    ],
    ids=["STOP", "opt-out", "other text", "report", "array"],
)
def test_stop_in_a_deferred_event_counts_at_once(
    client: WebhookClient,
    payload: Any,
    endpoint: Endpoint,
    is_out: bool,
    django_assert_num_queries: Any,
) -> None:
    with unable():
        WebhookClient(headers={"Cellcast-Test-Send": "1"}).webhook(payload, endpoint)
        assert not is_opted_out(CUSTOMER), "a test counts for nothing"
        client.webhook(payload, endpoint)
    with django_assert_num_queries(1):
        assert is_opted_out("0400 000 001") is is_out
    assert opted_out([CUSTOMER, "+61400000002"]) == ({CUSTOMER} if is_out else set())
    run_handlers()
    assert is_opted_out(CUSTOMER) is is_out
    opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER), "it is known by its row alone once it is read"


def test_stop_that_is_read_late_beats_an_opt_in_made_meanwhile(client: WebhookClient) -> None:
    """Whoever opted the customer in could not know of it."""
    opt_out(CUSTOMER)
    with unable():
        client.reply(sender=CUSTOMER, message="STOP")
    assert opt_in(CUSTOMER)
    run_handlers()
    assert is_opted_out(CUSTOMER)


# Read in vain


def test_pauses_double_up_to_six_hours(client: WebhookClient, clock: Any) -> None:
    with unable():
        client.status()
        event = WebhookEvent.objects.get()
        pauses = []
        for _ in range(12):
            event.refresh_from_db()
            assert event.next_read_at is not None
            began_at = event.next_read_at
            with patch.object(timezone, "now", lambda at=began_at: at):
                assert receiving.read_due() == 0
                assert receiving.read_due() == 0, "not again before its time"
            event.refresh_from_db()
            pauses.append((event.next_read_at - began_at) // timedelta(minutes=1))
    assert pauses[:4] == [1, 1, 2, 4]
    assert pauses[-1] == 360
    assert pauses == sorted(pauses)


def test_error_is_the_last_one_as_every_database_stores_it(client: WebhookClient) -> None:
    with unable(ValueError("a\0b" + "x" * 2_000)):
        client.status()
    event = WebhookEvent.objects.get()
    assert event.error == ("ValueError: ab" + "x" * 2_000)[:1_000]
    with unable(ValueError()):
        receiving.read_due()
    event.refresh_from_db()
    assert event.error == "ValueError: "


def test_of_a_databases_error_the_first_line_is_kept(client: WebhookClient) -> None:
    """What comes after it may quote the row of another customer in the same array."""
    with unable(DatabaseError("refused\nDETAIL:  Failing row contains (+61400000002).")):
        client.status()
        event = WebhookEvent.objects.get()
        assert event.error == "DatabaseError: refused"
        receiving.read_due()
    event.refresh_from_db()
    assert event.error == "DatabaseError: refused"


@contextmanager
def unable_to_store(word: str, clock: Clock) -> Iterator[None]:
    """Refuse what has this word in it, after a second: a trigger, or a row that is locked."""

    def write(using: str, drafts: Any, **options: Any) -> Any:
        if word in drafts[0].event["body"]:
            clock.now += 1
            raise DatabaseError
        return really_write(using, drafts, **options)

    really_write = writing.write
    with patch.object(writing, "write", write):
        yield


def test_event_that_another_process_reads_meanwhile_is_not_counted(client: WebhookClient) -> None:
    with unable():
        client.reply()
    events = WebhookEvent.objects.all()
    with just_before("^UPDATE .*_webhookevent", lambda: events.update(outcome="stored")):
        assert receiving.read_due() == 0


def test_what_stays_refused_holds_up_nothing_that_can_be_read(
    client: WebhookClient, clock: Clock
) -> None:
    with unable():
        refused = [reply_payload(_id=str(number), message="poison") for number in range(35)]
        client.webhook(refused, Endpoint.RECEIVE)
        client.reply(sender=CUSTOMER, message="Please cancel")
    now = timezone.now()
    with unable_to_store("poison", clock):
        for runs in range(1, 6):
            with patch.object(timezone, "now", lambda at=now + runs * timedelta(minutes=1): at):
                receiving.read_due()
            if Message.objects.exists():
                break
    assert runs == 4, "ten or so a run: those that have waited longest first"
    assert WebhookEvent.objects.deferred().count() == 35


def test_what_a_trigger_refuses_is_tried_once_a_run_and_for_a_person_twice(
    client: WebhookClient,
) -> None:
    """A second try would take a pause and a new session, and the next run tries it again."""
    error = InternalError("raised by a trigger")
    error.__cause__ = type("RaiseException", (Exception,), {"sqlstate": "P0001"})()
    with unable():
        client.reply()
    with refusing("INSERT INTO .*_message", error=error) as refusals:
        assert receiving.read_due() == 0
        assert refusals.count == 1
    event = WebhookEvent.objects.get()
    with refusing("INSERT INTO .*_message", error=refused_for_another(), times=1):
        assert receiving.read_due([event.pk]) == 1
    WebhookEvent.objects.update(outcome="invalid", message=None)
    Message.objects.all().delete()
    event.refresh_from_db()
    with refusing("INSERT INTO .*_message", error=error, times=1):
        assert [each.outcome for each in receiving.read_again(event)] == ["stored"]


def test_event_is_read_at_once_by_its_id_and_it_alone(client: WebhookClient) -> None:
    with unable():
        client.status(_id="1")
        client.status(_id="2")
        receiving.read_due()
    first, second = WebhookEvent.objects.order_by("pk")
    call_command("cellcast_run_handlers", event=[second.pk])
    assert WebhookEvent.objects.deferred().get() == first
    second.refresh_from_db()
    assert second.outcome == "stored"
    assert inbox.read_deferred(second) == []


def test_event_that_another_process_has_read_is_left_alone(client: WebhookClient) -> None:
    with unable():
        client.status()
    event = WebhookEvent.objects.get()
    receiving.read_due()
    assert list(inbox.read_deferred(event)) == []
    assert Message.objects.count() == 1
    with patch.object(timezone, "now", lambda: event.received_at + timedelta(days=1)):
        deferring._postpone(event, ValueError())
    assert WebhookEvent.objects.get().next_read_at is None


# Why


@pytest.mark.parametrize(
    ("error", "level"),
    [(DatabaseError("+61400000001"), logging.WARNING), (ValueError("locked: YES"), logging.ERROR)],
)
def test_deferral_is_logged_and_raised_by_the_test_client(
    caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    with unable(error), pytest.raises(type(error)):
        WebhookClient(raise_handler_errors=True).status()
    assert WebhookEvent.objects.deferred().count() == 1
    record = next(each for each in caplog.records if "Deferred" in each.message)
    assert record.levelno == level
    assert type(error).__qualname__ in record.message
    assert str(error) not in caplog.text


@pytest.mark.parametrize(("hours", "level"), [(23, logging.WARNING), (25, logging.ERROR)])
def test_event_that_has_been_deferred_for_a_day_is_logged_as_an_error(
    client: WebhookClient, caplog: pytest.LogCaptureFixture, hours: int, level: int
) -> None:
    with unable():
        client.status()
        WebhookEvent.objects.update(received_at=timezone.now() - timedelta(hours=hours))
        assert receiving.read_due() == 0
    assert [each.levelno for each in caplog.records if "Still" in each.message] == [level]


def test_event_that_our_own_code_fails_on_is_deferred(client: WebhookClient) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    with patch.object(writing, "draft", fail), patch.object(deferring, "draft", fail):
        assert outcomes(client.reply(sender=CUSTOMER)) == ["deferred"]
    assert WebhookEvent.objects.get().kind == "unknown"
    run_handlers()
    assert Message.objects.get().contact == CUSTOMER


def test_body_that_our_own_reading_fails_on_is_invalid(
    client: WebhookClient, caplog: pytest.LogCaptureFixture
) -> None:
    with patch("cellcast_django.payloads.read", side_effect=RuntimeError("a bug with STOP")):
        response = client.reply(sender=CUSTOMER)
    assert response.status_code == 400
    assert "RuntimeError" in response.json()["detail"]
    assert json.loads(WebhookEvent.objects.invalid().get().body)["sender"] == CUSTOMER
    assert "STOP" not in caplog.text


def test_what_the_api_lists_waits_for_a_lock_for_longer_and_is_not_deferred() -> None:
    parts: Any = dict.fromkeys(["cellcast_id", "receiver", "original_body", "sender", "body"], "")
    reply = Reply(raw="{}", status="received", **parts)
    with unable(), pytest.raises(DatabaseError):
        receiving.receive([reply], endpoint=Endpoint.API)
    assert not WebhookEvent.objects.exists()
    locked = OperationalError("lock timeout")
    locked.__cause__ = Exception(1205)
    for endpoint, outcome in ((Endpoint.RECEIVE, "deferred"), (Endpoint.API, "stored")):
        with refusing("INSERT INTO .*_message", error=locked, times=2):
            [event] = receiving.receive([reply], endpoint=endpoint)
        assert event.outcome == outcome


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize("error", [ValueError("a bug"), DatabaseError("refused")])
def test_error_inside_a_tests_transaction_is_raised(
    client: WebhookClient, error: Exception
) -> None:
    with unable(error):
        with pytest.raises(type(error)):
            receiving.receive([], endpoint=Endpoint.RECEIVE)
        with pytest.raises(type(error)):
            WebhookClient(raise_handler_errors=True).status()
        assert client.status().status_code == 503
    assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize("error", [DatabaseError, ValueError])
def test_event_that_cannot_be_inserted_either_is_503(
    client: WebhookClient, error: type[Exception]
) -> None:
    with unable(), patch("cellcast_django.database.rows.insert", side_effect=error):
        response = client.status()
    assert (response.status_code, response["Retry-After"]) == (503, "30")


# Pages, commands


def test_overview_status_and_list_show_what_is_deferred(
    client: WebhookClient, admin_client: Client
) -> None:
    with unable():
        client.status()
    event = WebhookEvent.objects.get()
    health = measure_health()
    assert (health.deferred.count, health.deferred.oldest_at) == (1, event.received_at)
    assert not health.deferred.is_overdue
    call_command("cellcast_status", verbosity=0)
    with pytest.raises(CommandError):
        call_command("cellcast_status", max_pending=0)
    WebhookEvent.objects.update(received_at=timezone.now() - timedelta(hours=25))
    with pytest.raises(CommandError, match="Deferred"):
        call_command("cellcast_status")
    page = admin_client.get("/admin/cellcast_django/webhookevent/?outcome=deferred")
    assert list(page.context["cl"].result_list) == [event]
    with unable():
        client.status(_id="later")
        WebhookClient(headers={"Cellcast-Test-Send": "1"}).status(_id="a test")
    health, event = measure_health(), WebhookEvent.objects.earliest("pk")
    assert (health.deferred.count, health.deferred.oldest_at) == (2, event.received_at)
    call_command("cellcast_prune", older_than=timedelta(0), verbosity=0)
    assert WebhookEvent.objects.deferred().exists()


def test_read_again_reads_a_deferred_event_at_once(client: WebhookClient, listen: Listen) -> None:
    client.reply()
    told = listen(status_changed)
    with unable():
        client.status()
        receiving.read_due()
        [event] = receiving.read_again(WebhookEvent.objects.deferred().get())
        assert event.outcome == "deferred"
    [event] = receiving.read_again(event)
    assert (event.outcome, len(told)) == ("stored", 1)


def test_event_that_another_process_has_read_is_passed_over(client: WebhookClient) -> None:
    with unable():
        client.reply()
        client.status()

    def read_all(event: WebhookEvent) -> list[WebhookEvent]:
        WebhookEvent.objects.update(outcome="stored", next_read_at=None)
        return [event]

    with patch.object(inbox, "read_deferred", read_all):
        assert receiving.read_due() == 1


# Killed


@pytest.mark.exhaustive
def test_webhook_killed_at_any_statement_is_there_whole_or_not_at_all() -> None:
    """Stored, deferred or read later; each fact of it is told once in the end."""
    states: dict[str, set[str]] = {}
    for line in lines_of("tests.killed_storing"):
        way, state = line.split(maxsplit=1)
        states.setdefault(way, set()).add(state)
    assert states == {
        "storing": {"none", "all"},
        "deferring": {"none", "kept"},
        "reading": {"kept", "all"},
    }
