"""What goes, what stays, and that it goes in small steps."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.models import ProtectedError, RestrictedError
from django.db.models.signals import pre_delete
from django.utils import timezone

from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    StatusChangeFactory,
    WebhookEventFactory,
)
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import is_opted_out, opt_in
from cellcast_django.testing import WebhookClient, run_handlers
from cellcast_django.upkeep.retention import Kept, Pruned, Selection, prune
from tests.database_faults import just_before
from tests.many import add_copies

pytestmark = pytest.mark.django_db

CONTACT = "+61491570156"
OTHER = "+61491570157"


def days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def older_than(days: int, **options: Any) -> Selection:
    return Selection(before=days_ago(days), **options)


def sums(pruned: Pruned) -> tuple[int, int]:
    """Return the numbers of messages and of events."""
    return pruned.messages, pruned.events


def run(selection: Selection) -> tuple[int, int]:
    """Prune, and return the sums; what was counted beforehand must be what was removed."""
    counted = selection.count()
    assert prune(selection) == counted
    assert selection.count() == Pruned()
    return sums(counted)


def old_report(days: int = 100, **changes: Any) -> WebhookEvent:
    """Store a report, its message and its history, all of them of so many days ago."""
    at = days_ago(days)
    defaults = {"received_at": at, "message__created_at": at}
    event: WebhookEvent = WebhookEventFactory.create(**defaults | changes)
    return event


# What is selected


@pytest.mark.parametrize("number", [None, "", "  ", "\x00"])
def test_empty_selection_is_an_error(number: str | None) -> None:
    with pytest.raises(ValueError, match="contact"):
        Selection(number=number)
    with pytest.raises(ValueError, match="--contact"):
        older_than(90, opt_outs=True)


def test_old_messages_are_deleted_with_history_and_events() -> None:
    old_report()
    MessageFactory.create(created_at=days_ago(100))
    young = old_report(days=1)
    unreported = MessageFactory.create(created_at=days_ago(1), status="")
    assert run(older_than(90)) == (2, 1)
    assert set(Message.objects.all()) == {young.message, unreported}
    assert WebhookEvent.objects.get() == young
    assert StatusChange.objects.get().event == young


def test_message_is_as_old_as_its_last_event() -> None:
    old = old_report()
    late = WebhookEventFactory.create(duplicate=True, message=old.message)
    assert run(older_than(90)) == (0, 1)
    message = Message.objects.get()
    assert message.events.get() == late
    assert message.status_history.get().event is None


@pytest.mark.parametrize(
    "kind", [{"opt_out": True}, {"invalid": True}, {"opt_out": True, "body": "", "contact": ""}]
)
def test_events_without_a_message_are_deleted_by_age(kind: dict[str, Any]) -> None:
    WebhookEventFactory.create(**kind, received_at=days_ago(100))
    WebhookEventFactory.create(**kind, received_at=days_ago(1))
    assert run(older_than(90)) == (0, 1)


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize(("trait", "kept"), [("pending", Kept(1, 0)), ("failed", Kept(0, 1))])
@pytest.mark.parametrize("by", [{"before": days_ago(90)}, {"number": CONTACT}])
def test_pending_event_is_kept_with_its_message(
    by: dict[str, Any], trait: str, kept: Kept, redact: bool
) -> None:
    waiting = old_report(**{trait: True}, message__receiver=CONTACT)
    WebhookEventFactory.create(duplicate=True, message=waiting.message, received_at=days_ago(95))
    before = WebhookEvent.objects.filter(pk=waiting.pk).values().get()
    text = waiting.message.body if waiting.message else ""

    selection = Selection(**by, redact=redact)
    assert run(selection) == (0, 1)
    assert selection.kept() == kept
    assert WebhookEvent.objects.filter(pk=waiting.pk).values().get() == before
    assert Message.objects.get().body == text != ""
    assert StatusChange.objects.get().event_id == waiting.pk


def test_event_done_meanwhile_is_deleted_with_its_message() -> None:
    """Between the events' turn and the messages', a handler may finish."""
    event = old_report(pending=True)
    other = old_report()

    def finish(pruned: Pruned) -> None:
        assert not WebhookEvent.objects.filter(pk=other.pk).exists()
        HandlerCall.objects.filter(event=event).update(state="done", next_attempt_at=None)

    assert prune(older_than(90), progress=finish) == Pruned(2, 2)
    assert not WebhookEvent.objects.exists()


def test_event_pending_meanwhile_is_kept() -> None:
    """Another process may process an invalid event again, between the look and the lock."""
    event = WebhookEventFactory.create(invalid=True, received_at=days_ago(100))

    def reprocess() -> None:
        WebhookEvent.objects.update(outcome="stored")
        HandlerCallFactory.create(event=event, waiting=True)

    with just_before("^UPDATE", reprocess):
        assert prune(older_than(90)) == Pruned()
    assert WebhookEvent.objects.get() == event


# Emptying


def test_redacting_empties_only_texts_and_numbers() -> None:
    at = days_ago(100)
    event = old_report(
        reply=True,
        received_at=at,
        message__original_body="Coming?",
        message__reference="booking-7",
        message__handled_note="She comes on Friday.",
        message__media=["https://media.example.com/1.jpg"],
        history__reason=f"{CONTACT} is switched off",
        error="A reason.",
    )
    error = f"KeyError: {CONTACT}: no such row"
    HandlerCallFactory.create(event=event, skipped=True, contact=CONTACT, error=error)
    rows = {model: model._default_manager.values().get() for model in MODELS}

    assert run(older_than(90, redact=True)) == (1, 1)
    texts = ("sender", "receiver", "own_number", "contact", "body", "original_body", "reference")
    message = rows[Message] | dict.fromkeys([*texts, "handled_note"], "")
    message |= {"key": f"redacted-{message['id']}", "media": []}
    stored = rows[WebhookEvent] | {"body": "", "contact": "", "error": ""}
    assert Message.objects.values().get() == message
    assert WebhookEvent.objects.values().get() == stored
    assert StatusChange.objects.values().get() == rows[StatusChange] | {"reason": ""}
    call = rows[HandlerCall] | {"contact": "", "error": "KeyError"}
    assert HandlerCall.objects.values().get() == call
    assert event.message_id == message["id"]
    assert run(older_than(90)) == (1, 1), "emptied rows go too"


@pytest.mark.django_db(transaction=True)
def test_stop_during_erasure_of_its_opt_out_opts_out_again() -> None:
    WebhookClient().reply(sender=CONTACT, message="STOP")
    opt_in(CONTACT)
    threads: list[Future[Any]] = []

    def stop_meanwhile() -> None:
        threads.append(pool.submit(stop))
        wait(threads, timeout=0.2)  # it waits for a lock, or is done

    with ThreadPoolExecutor(1) as pool, just_before("^DELETE .*optout\\W", stop_meanwhile):
        assert prune(Selection(number=CONTACT, opt_outs=True)).opt_outs == 1
    assert threads[0].result() == 200
    run_handlers()  # reads it, if the lock was not had in time
    assert is_opted_out(CONTACT)
    assert OptOut.objects.get().history.count() == 1


def stop() -> int:
    try:
        return WebhookClient().reply(sender=CONTACT, message="Stop").status_code
    finally:
        connections.close_all()


MODELS: list[type[Any]] = [Message, WebhookEvent, StatusChange, HandlerCall]


@pytest.mark.parametrize("receiver", [CONTACT, ""])
def test_late_report_of_a_redacted_message_is_redacted_by_age(
    client: WebhookClient, receiver: str
) -> None:
    MessageFactory.create(cellcast_id="1", receiver=CONTACT, created_at=days_ago(100))
    assert run(older_than(90, redact=True)) == (1, 0)

    parts = {"receiver": receiver, "sender": ""}
    client.status(_id="1", **parts, status="failed", reason=f"{CONTACT} is off")
    message = Message.objects.get()
    assert (message.status, message.contact, message.body) == ("failed", receiver, "")
    assert run(older_than(90, redact=True)) == (0, 0)
    WebhookEvent.objects.update(received_at=days_ago(91))
    assert run(older_than(90, redact=True)) == (bool(receiver), 1)
    assert Message.objects.get().contact == StatusChange.objects.get().reason == ""


# One contact


@pytest.mark.parametrize("spelling", [CONTACT, "0491 570 156", "491570156", f" {CONTACT}\n"])
@pytest.mark.parametrize("redact", [False, True])
def test_contact_is_erased_in_any_spelling(spelling: str, redact: bool) -> None:
    sent = old_report(days=0, message__receiver=CONTACT, contact="").message
    StatusChangeFactory.create(message=sent, event=None, status="expired", reason=CONTACT)
    old_report(days=0, reply=True, message__sender=CONTACT)
    WebhookEventFactory.create(opt_out=True, contact=CONTACT)
    others = [
        old_report(message__receiver=OTHER, history__reason="off"),
        WebhookEventFactory.create(opt_out=True, contact="Cellcast Pty"),
        WebhookEventFactory.create(invalid=True, body=f'{{"from": "{OTHER}"}}'),
    ]
    call = HandlerCallFactory.create(event=others[0], contact=OTHER, error="KeyError: 1")
    assert run(Selection(number=spelling, redact=redact)) == (2, 3)
    assert set(others) == set(WebhookEvent.objects.exclude(body=""))
    assert Message.objects.exclude(contact="").get().contact == OTHER
    assert StatusChange.objects.exclude(reason="").get().event == others[0]
    assert HandlerCall.objects.get(contact=OTHER, error="KeyError: 1") == call
    assert "491570156" not in str([list(model._default_manager.values()) for model in MODELS])
    assert run(Selection(number="cellcast pty")) == (0, 0)
    assert run(Selection(number="Cellcast Pty")) == (0, 1)


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("is_pending", [False, True])
def test_erasing_a_message_leaves_what_is_filed_under_others(
    redact: bool, is_pending: bool
) -> None:
    report = old_report(message__receiver=CONTACT)
    traits = {"pending": True, "history__status": "expired"} if is_pending else {"duplicate": True}
    others = WebhookEventFactory.create(message=report.message, contact=OTHER, **traits)
    selection = Selection(number=CONTACT, redact=redact)
    assert run(selection) == (not is_pending, 1)
    assert selection.kept() == Kept(pending=is_pending, failed=0)
    assert WebhookEvent.objects.exclude(body="").get() == others
    assert Message.objects.exclude(contact="").exists() == is_pending


# Batches


def old_reports(count: int) -> None:
    """Add messages that are old, each with the event of its report."""
    event = old_report()
    assert event.message is not None
    messages = add_copies(event.message, count - 1)
    add_copies(event, count - 1, lambda number: {"message_id": messages[number]})


def test_interrupted_pruning_resumes_where_it_stopped() -> None:
    old_reports(1_001)

    def interrupt(pruned: Pruned) -> None:
        if pruned == Pruned(500, 1_001):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(older_than(90), progress=interrupt)
    assert older_than(90).count() == Pruned(501)
    assert run(older_than(90)) == (501, 0)


@pytest.mark.parametrize("error", [ProtectedError, RestrictedError])
def test_protected_row_is_kept_and_others_are_deleted(error: Any) -> None:
    old_reports(20)
    keys = set(Message.objects.values_list("pk", flat=True))
    protected = set(sorted(keys)[3:5])

    def protect(instance: Message, **kwargs: Any) -> None:
        if instance.pk in protected:
            raise error(f"Protected: {instance.pk}.", {instance})

    pre_delete.connect(protect, sender=Message)
    try:
        pruned = prune(older_than(90))
    finally:
        pre_delete.disconnect(protect, sender=Message)
    assert sums(pruned) == (18, 20)
    assert pruned.protected_by in {f"Protected: {pk}." for pk in protected}
    assert set(Message.objects.values_list("pk", flat=True)) == protected
