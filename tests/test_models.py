"""Models: what is stored, what identifies a message, and the QuerySets people use."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import Promise

from cellcast_django.database.fields import ExactCharField, PartialIndex
from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
)
from cellcast_django.fold import values_of
from cellcast_django.models import (
    Claim,
    CommandRun,
    Direction,
    HandlerCall,
    Message,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import Status
from cellcast_django.testing import WebhookClient
from tests.database_faults import refused_for_another, refusing
from tests.plans import plan_of

pytestmark = pytest.mark.django_db

ID = "66b5b93b1e2c012dfe964000"
SUBMITTED = datetime(2024, 8, 9, 6, 37, 47, tzinfo=UTC)
CUSTOMER = "+61400000001"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def outbound(cellcast_id: str = ID, **changes: Any) -> Message:
    parts = {"cellcast_id": cellcast_id, "sender": "cellcast", "receiver": CUSTOMER}
    return Message(**values_of(Direction.OUTBOUND, **(parts | changes)))


def inbound(cellcast_id: str = ID, **changes: Any) -> Message:
    parts = {"cellcast_id": cellcast_id, "sender": CUSTOMER, "receiver": "+61400000009"}
    parts |= {"body": "YES"} | changes
    return Message(**values_of(Direction.INBOUND, **parts))


def saved(message: Message, **changes: Any) -> Message:
    for name, value in changes.items():
        setattr(message, name, value)
    message.save()
    return message


def event(**changes: Any) -> WebhookEvent:
    values = {"endpoint": "receive", "kind": "reply", "outcome": "stored", "body": "{}"}
    return WebhookEvent.objects.create(**(values | changes))


MODELS = list(apps.get_app_config("cellcast_django").get_models())
OF_HOSTS = [each for each in MODELS if each not in (Claim, CommandRun)]
"""Those that a host reads; the others hold only digests and words of our own."""


# Schema


@pytest.mark.parametrize("model", MODELS)
def test_models_and_fields_have_translatable_names_and_help_texts(model: Any) -> None:
    assert isinstance(model._meta.verbose_name, Promise)
    assert isinstance(model._meta.verbose_name_plural, Promise)
    for field in model._meta.fields:
        if not field.auto_created:
            assert isinstance(field.verbose_name, Promise), field
            assert isinstance(field.help_text, Promise) and str(field.help_text), field


@pytest.mark.parametrize(
    ("vendor", "collation"),
    [("postgresql", None), ("sqlite", None), ("mysql", "utf8mb4_nopad_bin")],
)
def test_exact_text_column_has_a_binary_collation_if_needed(
    vendor: str, collation: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "vendor", vendor)
    field = ExactCharField(max_length=64)
    parameters = field.db_parameters(connection)
    assert parameters.get("collation") == collation
    assert parameters["type"] == models.CharField(max_length=64).db_type(connection)


def test_free_text_columns_hold_every_character_on_mariadb(monkeypatch: Any) -> None:
    """With latin1 as the database's character set, "Yes 👍 please" became "Yes ? please"."""
    monkeypatch.setattr(connection, "vendor", "mysql")
    fields = [field for each in OF_HOSTS for field in each._meta.concrete_fields]
    kinds = (models.CharField, models.TextField)
    texts = [field for field in fields if isinstance(field, kinds) and not field.choices]
    assert len(texts) > 10
    for field in texts:
        assert str(field.db_parameters(connection)["collation"]).startswith("utf8mb4_"), field


def test_partial_indexes_have_their_condition() -> None:
    editor = connection.schema_editor(collect_sql=True)
    statements = [
        str(index.create_sql(model, editor))
        for model in MODELS
        for index in model._meta.indexes
        if isinstance(index, PartialIndex)
    ]
    assert statements
    are_partial = connection.features.supports_partial_indexes
    assert [each for each in statements if (" WHERE " in each) is not are_partial] == []


@pytest.mark.parametrize("name", ["cellcast_id", "contact", "status"])
@pytest.mark.parametrize("other", ["ABC", "àbc", "abc ", "ábc"])
def test_searchable_text_is_compared_exactly(name: str, other: str) -> None:
    saved(outbound(), **{name: "abc"})
    assert Message.objects.filter(**{name: "abc"}).exists()
    assert not Message.objects.filter(**{name: other}).exists()


# Identity


@pytest.mark.parametrize("part", ["cellcast_id", "sender", "receiver", "body"])
def test_inbound_key_depends_on_all_parts_and_outbound_key_on_the_id(part: str) -> None:
    assert inbound().key == inbound().key == inbound(original_body="Coming?").key
    assert inbound().key != inbound(**{part: "other"}).key
    assert (outbound().key == outbound(**{part: "other"}).key) == (part != "cellcast_id")
    assert outbound("b").key != outbound("B").key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (inbound(sender="12", receiver="3"), inbound(sender="1", receiver="23")),
        (inbound(sender="", receiver="1"), inbound(sender="1", receiver="")),
        (inbound(receiver="1", body="23"), inbound(receiver="12", body="3")),
        (inbound(), outbound()),
        (inbound(sender="", receiver="", body=""), outbound()),
    ],
)
def test_key_separates_its_parts_and_the_directions(one: Message, other: Message) -> None:
    assert one.key != other.key


def test_record_sent_adopts_the_row_of_an_early_report(client: WebhookClient) -> None:
    client.webhook({"message_id": ID, "status": "Delivered"}, "status")
    early = Message.objects.get()
    message = Message.objects.record_sent(ID, receiver="0400000001", body="Coming?")
    assert message == early == Message.objects.get()
    assert (message.body, message.status, message.contact) == ("Coming?", "delivered", CUSTOMER)


def test_record_sent_stores_an_outbound_message_once() -> None:
    values: dict[str, Any] = {"receiver": "0400 000 001", "sender": "cellcast"}
    values["body"] = "Coming? 👍"
    message = Message.objects.record_sent(ID, **values)
    message.refresh_from_db()
    assert Message.objects.record_sent(ID, **values) == Message.objects.get() == message
    assert (message.direction, message.cellcast_id) == (Direction.OUTBOUND, ID)
    assert (message.sender, message.receiver) == ("cellcast", "0400 000 001")
    assert (message.contact, message.body) == (CUSTOMER, "Coming? 👍")
    assert (message.status, message.status_changed_at) == ("", None)
    assert not message.is_final
    assert message.submitted_at == SUBMITTED
    assert not message.status_history.exists()
    assert not WebhookEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("refused", ["^INSERT", "^UPDATE", "^UPDATE of a mark"])
def test_record_sent_and_mark_handled_are_retried_after_a_serialisation_failure(
    refused: str,
) -> None:
    answered = MessageFactory.create(inbound=True)
    with refusing(refused[:7], error=refused_for_another(), times=1) as refusals:
        if refused == "^UPDATE of a mark":
            answered.mark_handled()
        else:
            Message.objects.record_sent(ID, receiver=CUSTOMER, answers=answered)
    assert refusals.count == 1
    assert Message.objects.outbound().exists() == (refused != "^UPDATE of a mark")
    answered.refresh_from_db()
    assert answered.handled_at is not None


def test_record_sent_wins_over_an_early_report_with_another_receiver(client: WebhookClient) -> None:
    """Otherwise anybody who guesses an id could have the text filed under their own number."""
    forged = {"_id": "1000001", "sender": "evil", "receiver": "+61499666666"}
    client.status(**forged, status="delivered")
    Message.objects.record_sent("1000001", receiver=CUSTOMER, sender="Clinic", body="Your result")
    client.status(**forged, status="rejected")
    message = Message.objects.get()
    assert (message.receiver, message.contact) == (CUSTOMER, CUSTOMER)
    assert (message.sender, message.body) == ("Clinic", "Your result")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("cellcast_id", value) for value in ("", " \t", "\x00", "x" * 129)),
        *(("receiver", value) for value in ("", " ", "1" * 65)),
        ("sender", "1" * 65),
        ("reference", "x" * 129),
        *(("cellcast_id", value) for value in (None, {"MessageId": ID}, [ID], b"1", 1.0, True)),
        *(("body", value) for value in (None, 42, b"Coming?")),
        *(("reference", value) for value in (None, 7)),
        *(("answers", value) for value in ("x", 1)),
    ],
)
def test_record_sent_names_the_argument_that_it_refuses(name: str, value: Any) -> None:
    is_text = isinstance(value, str) and name != "answers"
    with pytest.raises(ValueError if is_text else TypeError, match=name):
        Message.objects.record_sent(**{"cellcast_id": ID, "receiver": CUSTOMER, name: value})
    with pytest.raises(TypeError):
        Message.objects.record_sent(ID, receiver=None)  # type: ignore[arg-type]
    assert not Message.objects.exists()


def test_record_sent_stores_own_number_reference_and_person(client: WebhookClient) -> None:
    client.status(_id=ID, sender="cellcast", receiver=CUSTOMER)

    Message.objects.record_sent(
        ID, receiver=CUSTOMER, sender="0400 000 009", reference="booking-7", username="kim"
    )
    Message.objects.record_sent(ID, receiver=CUSTOMER)  # says less, and takes nothing back

    message = Message.objects.with_reference("booking-7").get()
    assert (message.own_number, message.sent_by) == ("+61400000009", "kim")
    client.status(_id=ID, status="failed", custom_string="other")  # nobody's word but yours
    message.refresh_from_db()
    assert message.reference == "booking-7"


def test_messages_with_a_reference_come_newest_first() -> None:
    recorded = [
        Message.objects.record_sent(name, receiver=CUSTOMER, reference="booking-7")
        for name in ("1", "2", "3")
    ]
    assert list(Message.objects.with_reference("booking-7")) == recorded[::-1]
    assert not Message.objects.with_reference("").exists()
    with pytest.raises(TypeError, match="reference"):
        Message.objects.with_reference(7)  # type: ignore[arg-type]


def test_recording_an_id_for_another_receiver_warns_without_a_number(
    client: WebhookClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.status(_id=ID, receiver="+61400000009")
    first = Message.objects.record_sent(ID, receiver=CUSTOMER)
    Message.objects.record_sent(ID, receiver="0400 000 001")
    assert caplog.records == []
    Message.objects.record_sent(ID, receiver="+61400000002")
    [record] = caplog.records
    assert (record.levelname, record.args) == ("WARNING", (first.pk,))
    assert "4000" not in caplog.text
    assert Message.objects.get().contact == "+61400000002"


# QuerySets of messages


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("", "on_the_way"),
        ("unknown", "on_the_way"),
        ("delivered", "delivered"),
        *((each.value, "on_the_way") for each in Status if not each.final),
        *((each.value, "undelivered") for each in Status if each.final and each != "delivered"),
    ],
)
def test_outbound_message_is_on_the_way_delivered_or_undelivered(status: str, found: str) -> None:
    message = saved(outbound(), status=status)
    received = saved(inbound(), status=status)
    for name in ["on_the_way", "delivered", "undelivered"]:
        expected = [message] if name == found else []
        assert list(getattr(Message.objects, name)()) == expected
    assert message.is_final is (found != "on_the_way")
    assert (message.is_undelivered, received.is_undelivered) == (found == "undelivered", False)


def test_silent_messages_were_recorded_long_ago_and_never_reported() -> None:
    silent = Message.objects.record_sent("1", receiver="+61400000001")
    Message.objects.record_sent("2", receiver="+61400000001")
    others = [saved(outbound("4"), status="sent", recorded_at=NOW), saved(inbound())]
    others.append(saved(outbound("5")))  # never recorded
    old = Message.objects.filter(pk__in=[each.pk for each in (silent, *others)])
    old.update(created_at=timezone.now() - timedelta(hours=7))
    assert list(Message.objects.silent(timedelta(hours=6))) == [silent]
    assert not Message.objects.silent(timedelta(hours=8)).exists()
    with pytest.raises(TypeError, match="older_than must be a timedelta, not int"):
        Message.objects.silent(6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "found"),
    [
        *((number, "AB") for number in (CUSTOMER, "400000001", "(04) 0000 0001", "0400\x00000001")),
        *((name, "C") for name in ("cellcast", "half \ufffd")),
        *((number, "") for number in ("nobody", "", "\ud83d", "9" * 1_000)),
    ],
)
def test_with_contact_accepts_any_spelling(number: str, found: str) -> None:
    saved(outbound(receiver="0400000001", body="A"))
    saved(inbound(sender="61400000001", body="B"))
    saved(inbound(sender=number if found == "C" else "other", body="C"))
    saved(inbound(sender="", body="D"))
    assert "".join(sorted(m.body for m in Message.objects.with_contact(number))) == found


# Handled replies


def reply(seconds_ago: int, **values: Any) -> Message:
    time = timezone.now() - timedelta(seconds=seconds_ago)
    return MessageFactory.create(inbound=True, created_at=time, **{"sender": CUSTOMER} | values)


def test_recording_an_answer_handles_its_reply() -> None:
    earlier, asked, later = (reply(ago) for ago in (300, 200, 100))

    for username in ("kim", "alex"):
        Message.objects.record_sent(
            ID, receiver=CUSTOMER, body="Yes", answers=asked, username=username
        )

    assert set(Message.objects.unhandled()) == {earlier, later}
    handled_at = Message.objects.get(pk=asked.pk).handled_at
    asked.mark_handled(username="sam")
    assert (asked.handled_at, asked.handled_by) == (handled_at, "kim"), "the first mark stands"
    asked.refresh_from_db()
    assert asked.handled_by == "kim"


@pytest.mark.parametrize("note", ["", "😀" * 200])
def test_first_mark_stays_with_its_note_and_the_instance_shows_it(
    note: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = reply(100, handled_note="left by older code, which has taken its mark back")
    first, second = (Message.objects.get(pk=asked.pk) for _ in range(2))
    first.mark_handled(username="kim", note=note)
    second.mark_handled(username="sam", note="nobody is told of this one")
    asked.refresh_from_db()
    for each in (first, second, asked):
        assert (each.handled_by, each.handled_note) == ("kim", note)
        assert each.handled_at == asked.handled_at is not None
    assert not caplog.records


@pytest.mark.parametrize(("note", "error"), [("x" * 201, ValueError), (7, TypeError)])
def test_note_too_long_or_no_text_is_an_error_and_marks_nothing(
    note: Any, error: type[Exception]
) -> None:
    asked = reply(100)
    with pytest.raises(error, match="note"):
        asked.mark_handled(note=note)
    assert asked.handled_at is None
    assert Message.objects.unhandled().get() == asked


def test_mark_of_a_reply_deleted_meanwhile_is_no_error() -> None:
    asked = reply(100)
    Message.objects.all().delete()
    asked.mark_handled()
    assert not Message.objects.exists()


def test_sent_message_can_neither_be_answered_nor_handled() -> None:
    sent = MessageFactory.create()
    assert not Message.objects.unhandled().exists()
    with pytest.raises(ValueError, match="reply"):
        Message.objects.record_sent(ID, receiver=CUSTOMER, answers=sent)
    with pytest.raises(ValueError, match="reply"):
        sent.mark_handled()
    assert list(Message.objects.all()) == [sent]


# A message


@pytest.mark.parametrize(
    ("cellcast_id", "status", "seconds", "expected"),
    [
        (ID, "delivered", 90, timedelta(seconds=90)),
        (ID, "delivered", -3_600, timedelta()),  # of two clocks
        (ID, "rejected", 90, None),
        ("7", "delivered", 90, None),
    ],
)
def test_delivery_time_runs_from_submission_to_delivered_report(
    cellcast_id: str, status: str, seconds: int, expected: timedelta | None
) -> None:
    message = saved(outbound(cellcast_id))
    assert message.delivery_time is None
    for word, after in [("received", 5), (status, seconds), ("queued", 200)]:
        at = SUBMITTED + timedelta(seconds=after)
        message.status_history.create(status=word, applied=True, recorded_at=at)
    assert message.delivery_time == expected


def test_conversation_has_the_contacts_messages_oldest_first() -> None:
    start = timezone.now()
    third = saved(outbound("3", receiver="0400000001"), created_at=start + timedelta(minutes=2))
    first = saved(outbound("1"), created_at=start)
    second = saved(inbound("2", sender="61400000001"), created_at=start + timedelta(minutes=1))
    fourth = saved(inbound("4"), created_at=start + timedelta(minutes=2))
    saved(outbound("other", receiver="+61400000002"))
    for message in [first, second, third, fourth]:
        assert list(message.conversation()) == [first, second, third, fourth]


def test_conversation_without_a_contact_is_the_message_alone() -> None:
    message = saved(inbound("1", sender=""))
    saved(inbound("2", sender=""))
    assert list(message.conversation()) == [message]


@pytest.mark.parametrize(
    ("own_number", "shown"),
    [
        (None, "ABNU"),
        ("", "ABNU"),
        ("0400 000 008", "ANU"),
        ("61400000009", "BNU"),
        ("cellcast", "NU"),
        ("+61400000007", "NU"),
    ],
)
def test_conversation_can_be_limited_to_one_own_number(own_number: str | None, shown: str) -> None:
    MessageFactory.create(inbound=True, sender=CUSTOMER, receiver="+61400000008", body="A")
    MessageFactory.create(receiver=CUSTOMER, sender="0400000009", body="B")
    MessageFactory.create(receiver=CUSTOMER, sender="cellcast", body="N")
    message = MessageFactory.create(inbound=True, sender=CUSTOMER, receiver="", body="U")

    conversation = message.conversation(own_number)
    assert "".join(conversation.values_list("body", flat=True)) == shown


# What a reply answers

OURS, OTHERS = "+61400000009", "+61400000008"
REPLIED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def sent(name: str, before: timedelta, **values: Any) -> Message:
    """Store a message sent so long before the reply; its id tells no time unless it is given."""
    values = {"cellcast_id": name, "receiver": CUSTOMER, "sender": OURS, "body": name} | values
    return MessageFactory.create(created_at=REPLIED - before, **values)


def answer(**values: Any) -> Message:
    values = {"sender": CUSTOMER, "receiver": OURS, "cellcast_id": "unheard of"} | values
    return MessageFactory.create(inbound=True, created_at=REPLIED, **values)


@pytest.mark.parametrize(
    ("receiver", "by", "is_matched"),
    [
        (CUSTOMER, CUSTOMER, True),
        ("", CUSTOMER, True),
        (CUSTOMER, "", True),
        ("+61400000002", CUSTOMER, False),
    ],
)
def test_reply_matches_message_with_its_id_first(receiver: str, by: str, is_matched: bool) -> None:
    # Whatever else is closer: from another number, and after the reply.
    same = sent("same", -HOUR, receiver=receiver, sender=OTHERS)
    sent("newest", HOUR)
    quoted = sent("quoted", DAY)
    found = answer(cellcast_id="same", original_body="quoted", sender=by).in_reply_to
    assert found == (same if is_matched else quoted)


@pytest.mark.parametrize("age", [DAY, 90 * DAY])
def test_reply_matches_newest_quoted_message(age: timedelta) -> None:
    sent("older", age + DAY, body="Coming?")
    asked = sent("old", age, body="Coming?")
    sent("newest", HOUR)
    sent("later", -HOUR, body="Coming?")
    sent("elsewhere", HOUR, body="Coming?", sender=OTHERS)
    sent("somebody else", HOUR, body="Coming?", receiver="+61400000002")
    assert answer(original_body="Coming?").in_reply_to == asked


@pytest.mark.parametrize("original_body", ["", "never sent"])
def test_reply_falls_back_to_newest_earlier_message(original_body: str) -> None:
    sent("older", DAY)
    asked = sent("newest", HOUR)
    sent("later", -HOUR)
    sent("elsewhere", HOUR / 2, sender=OTHERS)
    sent("somebody else", HOUR / 2, receiver="+61400000002")
    answer(sender=CUSTOMER, body="an earlier reply")
    assert answer(original_body=original_body).in_reply_to == asked


@pytest.mark.parametrize("sender", ["+61400000003", ""])
def test_empty_id_text_or_number_matches_nothing(sender: str) -> None:
    sent("", HOUR, receiver="+61400000002")
    sent("to nobody", HOUR, receiver="", body="")
    assert answer(cellcast_id="", sender=sender).in_reply_to is None
    sent("older", DAY, body="", receiver=CUSTOMER)
    asked = sent("newest", HOUR)
    assert answer().in_reply_to == asked


@pytest.mark.parametrize(
    ("before", "is_answered"), [(30 * DAY, True), (30 * DAY + timedelta(seconds=1), False)]
)
def test_reply_does_not_match_messages_over_thirty_days_old(
    before: timedelta, is_answered: bool
) -> None:
    asked = sent("old", before)
    assert answer().in_reply_to == (asked if is_answered else None)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="asks SQLite itself")
@pytest.mark.parametrize("original_body", ["", "Coming?"])
def test_in_reply_to_uses_indexes(original_body: str) -> None:
    reply_ = answer(original_body=original_body)
    with CaptureQueriesContext(connection) as queries:
        assert reply_.in_reply_to is None
    by_id, by_contact = (str(plan_of(query["sql"])) for query in queries)
    assert "cellcast_message_cellcast_id" in by_id
    assert "cellcast_message_contact" in by_contact
    assert "cellcast_message_reference" in Message.objects.with_reference("booking-7").explain()


SECRET: dict[str, Any] = {"contact": CUSTOMER, "error": "secret"}


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (outbound(body="secret"), ID),
        (inbound(body="secret"), ID),
        (StatusChange(status="dead", applied=True), "– → dead"),
        (StatusChange(previous_status="queued", status="dead", applied=True), "queued → dead"),
        (StatusChange(previous_status="sent", status="dead", applied=False), "dead (late)"),
        (HandlerCall(event_id=7, handler="shop.confirm", **SECRET), "shop.confirm · 7"),
        (WebhookEvent(kind="reply", cellcast_id=ID, body="secret", **SECRET), f"reply {ID}"),
        (WebhookEvent(kind="reply", body="secret", **SECRET), "reply"),
    ],
)
def test_str_and_repr_hide_number_and_text(row: models.Model, shown: str) -> None:
    assert shown in str(row) if isinstance(row, Message) else shown == str(row)
    assert "61400000" not in str(row) + repr(row)
    assert "secret" not in str(row) + repr(row)


# Events


@pytest.mark.parametrize(
    ("body", "content_type", "payload"),
    [
        ('{"_id": "1", "n": 2, "mms": true}', "", {"_id": "1", "n": 2, "mms": True}),
        ('\ufeff {"a": {"b": [1]}}\n', "application/json", {"a": {"b": [1]}}),
        ('{"message": "two\nlines"}', "application/json", {"message": "two\nlines"}),
        ('{"_id": "1"}', "application/x-www-form-urlencoded", {"_id": "1"}),
        ("_id=1&b=%2B&c=\n", "application/x-www-form-urlencoded", {"_id": "1", "b": "+", "c": ""}),
        ("_id=1", "application/json", {}),
        ("", "", {}),
        ("[]", "", {}),
        ("1", "", {}),
        ('{"type":', "", {}),
        (r'\xff{"a": 1}', "", {}),
        ("[" * 100_000, "", {}),
    ],
)
def test_event_reads_its_payload(body: str, content_type: str, payload: dict[str, Any]) -> None:
    assert WebhookEvent(body=body, content_type=content_type).payload == payload


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], "done"),
        (["done", "skipped"], "done"),
        (["done", "waiting"], "pending"),
        (["failed", "running"], "pending"),
        (["gave_up", "retrying"], "pending"),
        (["done", "failed"], "failed"),
        (["gave_up", "skipped"], "failed"),
    ],
)
def test_state_of_an_event_is_that_of_its_calls(calls: list[str], expected: str) -> None:
    stored = event()
    for state in calls:
        HandlerCallFactory.create(event=stored, state=state, handler=state)
    assert stored.state == expected
    events = WebhookEvent.objects.all()
    found = {name: getattr(events, name)().exists() for name in ("pending", "done", "failed")}
    assert found == {name: name == expected for name in found}
    assert WebhookEvent.objects.prefetch_related("calls").get().state == expected


@pytest.mark.parametrize(
    ("due_at", "version", "expected"),
    [
        (None, 0, False),
        (NOW, 0, True),
        (NOW + SECOND, 0, True),  # nobody has had it: the clocks of two hosts may differ
        (NOW, 1, True),
        (NOW + SECOND, 1, False),
    ],
)
def test_call_is_due_once_its_time_has_passed(
    due_at: datetime | None, version: int, expected: bool
) -> None:
    state = "waiting" if due_at else "done"
    call = HandlerCallFactory.create(state=state, next_attempt_at=due_at, version=version)
    assert call.is_due(NOW) is expected
    assert HandlerCall.objects.due(NOW).exists() is expected


@pytest.mark.parametrize(
    ("earlier", "hours", "is_held"),
    [
        ({"outcome": "deferred", "next_read_at": NOW}, 23, True),
        ({"outcome": "deferred", "next_read_at": NOW}, 25, False),
        ({"outcome": "deferred", "next_read_at": NOW, "contact": "+61400000002"}, 1, False),
        ({}, 1, False),
    ],
)
def test_call_in_order_is_held_back_by_an_earlier_deferred_event_for_a_day(
    earlier: dict[str, Any], hours: int, is_held: bool
) -> None:
    received_at = timezone.now() - timedelta(hours=hours)
    event(**{"contact": CUSTOMER, "received_at": received_at} | earlier)
    HandlerCallFactory.create(event=event(), contact=CUSTOMER, state="waiting")
    event(outcome="deferred", contact=CUSTOMER, next_read_at=NOW)
    assert HandlerCall.objects.waiting_for_none().exists() is not is_held
