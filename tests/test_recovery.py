"""What webhooks failed to bring is found in the API's lists and stored, each exactly once."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from cellcast_django import recovery
from cellcast_django.models import CommandRun, Message, OptOut, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.recovery import ApiList, Findings, problems_of, recover
from cellcast_django.sending import send
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.testing import WebhookClient, fail_next, reset
from tests.database_faults import refused_for_another, refusing
from tests.fake_cellcast import KEY, REPLIES, REPORTS, FakeCellcast, Fault, timestamp
from tests.test_error_reports import reported

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

client = WebhookClient()

CUSTOMER = "+61400000001"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def recovered(kind: ApiList, **options: Any) -> Findings:
    [findings] = [each for each in recover(**options) if each.kind == kind]
    return findings


def counts(findings: Findings) -> tuple[int, int, int]:
    assert findings.error == ""
    return findings.seen, findings.missing, findings.stored


def ago(duration: timedelta) -> datetime:
    """A time as Cellcast knows it, to the millisecond."""
    at = timezone.now() - duration
    return at.replace(microsecond=at.microsecond // 1_000 * 1_000)


def webhook_came(at: datetime) -> None:
    """A reply of which the webhook came at that time."""
    client.reply(sender=CUSTOMER, message="Yes please")
    Message.objects.filter(pk=Message.objects.latest("pk").pk).update(created_at=at)


# Replies


def test_missing_reply_is_stored_and_run(fake_cellcast: FakeCellcast, listen: Any) -> None:
    calls = listen(message_received)
    at = ago(HOUR)
    item = fake_cellcast.add_reply(at)
    assert counts(recovered(ApiList.REPLIES)) == (1, 1, 1)

    message = Message.objects.get()
    assert (message.direction, message.status) == ("inbound", "received")
    assert (message.contact, message.created_at, message.body) == (CUSTOMER, at, item["body"])
    event = WebhookEvent.objects.get()
    assert (event.endpoint, event.kind, event.content_type) == ("api", "reply", "application/json")
    assert json.loads(event.body) == item
    assert [call["message"] for call in calls] == [message]

    assert counts(recovered(ApiList.REPLIES)) == (1, 0, 0)
    assert WebhookEvent.objects.count() == len(calls) == 1


def test_reply_of_the_last_ten_minutes_waits_for_its_webhook(fake_cellcast: FakeCellcast) -> None:
    fake_cellcast.add_reply(ago(9 * MINUTE))
    fake_cellcast.add_reply(ago(11 * MINUTE), body="old")
    findings = recovered(ApiList.REPLIES)
    assert counts(findings) == (2, 1, 1)
    assert findings.waiting == 1
    assert Message.objects.get().body == "old"
    fake_cellcast.add_reply(ago(HOUR))  # which the message of the young one does not match
    webhook_came(ago(9 * MINUTE))
    findings = recovered(ApiList.REPLIES)
    assert counts(findings) == (3, 1, 1)
    assert findings.waiting == 0


def test_recovery_stops_at_the_first_page_of_only_older_replies(
    fake_cellcast: FakeCellcast,
) -> None:
    fake_cellcast.page_size = 2
    for hours in (1, 47, 49, 73, 74, 75, 76):
        fake_cellcast.add_reply(ago(hours * HOUR))
    assert counts(recovered(ApiList.REPLIES)) == (2, 2, 2)
    pages = [asked["page"] for path, asked, _ in fake_cellcast.requests if path == REPLIES]
    assert pages == ["1", "2", "3"]


@pytest.mark.parametrize(
    "changes",
    [
        *({"from": number} for number in ("", None, " ", ["400000001"], "4" * 65)),
        *({"body": text} for text in ({"message": "Yes"}, True)),
        *({"received_at": at} for at in (None, "yesterday", 1724320416, "9999-12-31T23:59:59Z")),
    ],
)
def test_unreadable_item_is_counted_and_skipped(
    fake_cellcast: FakeCellcast, changes: dict[str, Any]
) -> None:
    fake_cellcast.add_reply(ago(2 * HOUR), body="ok")
    fake_cellcast.add_reply(ago(HOUR)).update(changes)
    findings = recovered(ApiList.REPLIES)
    assert counts(findings) == (1, 1, 1)
    assert findings.invalid == 1


PICTURE = "https://media.example.com/1.jpg"
MMS = json.dumps({"message": "Here is the form", "media": [{"url": PICTURE}]})


def test_recovered_picture_does_not_match_another(fake_cellcast: FakeCellcast, listen: Any) -> None:
    calls = listen(message_received)
    another = PICTURE.replace("1", "2")
    for at, url in ((ago(2 * HOUR), PICTURE), (ago(HOUR), another)):
        text = json.dumps({"message": "", "media": [{"url": url}]})
        fake_cellcast.add_reply(at, body=text)
    recovered(ApiList.REPLIES, age=1.5 * HOUR)
    client.reply(sender=CUSTOMER, message="", mms=True, media=[{"url": PICTURE}])
    assert counts(recovered(ApiList.REPLIES)) == (2, 0, 0)
    assert sorted(Message.objects.values_list("media", flat=True)) == [[PICTURE], [another]]
    assert len(calls) == 2
    fake_cellcast.add_reply(ago(HOUR), body=MMS)
    assert counts(recovered(ApiList.REPLIES)) == (3, 1, 1)
    assert Message.objects.get(body="Here is the form").media == [PICTURE]


# Statuses


def test_missing_report_is_stored_and_run(fake_cellcast: FakeCellcast, listen: Any) -> None:
    calls = listen(status_changed)
    cellcast_id = "6752b76d5e000000000000000"
    Message.objects.record_sent(cellcast_id, receiver="400000002", body="Hallo")
    item = fake_cellcast.add_report(cellcast_id, ago(HOUR))
    assert counts(recovered(ApiList.STATUSES)) == (1, 1, 1)

    message = Message.objects.get()
    assert (message.status, message.body, message.contact) == ("delivered", "Hallo", "+61400000002")
    event = WebhookEvent.objects.get()
    assert (event.endpoint, event.kind, event.outcome) == ("api", "status", "stored")
    assert json.loads(event.body) == item
    assert [call["status_change"].status for call in calls] == ["delivered"]

    assert counts(recovered(ApiList.STATUSES)) == (1, 0, 0)
    response = client.status(_id=cellcast_id, status="delivered")  # late
    assert response.json()["events"][0]["outcome"] == "duplicate"
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("status", "updated_at", "is_told"),
    [
        ("delivered", timestamp, True),
        ("expired", timestamp, False),
        ("delivered", lambda at: "0001-01-01T00:00:00Z", False),
        ("delivered", lambda at: "9999-12-31T23:59:59Z", False),  # many write it and mean never
        ("delivered", lambda at: None, False),
        ("delivered", lambda at: timestamp(at + 2 * HOUR), False),
    ],
    ids=["delivered", "expired", "year 1", "year 9999", "no time", "future"],
)
def test_recovered_delivery_has_its_delivery_time(
    fake_cellcast: FakeCellcast, status: str, updated_at: Any, is_told: bool
) -> None:
    at = ago(HOUR)
    fake_cellcast.add_report("1", at - MINUTE, status=status, updatedAt=updated_at(at))
    recovered(ApiList.STATUSES)
    message = Message.objects.get()
    [change] = message.status_history.all()
    assert message.status_changed_at == change.recorded_at
    assert (change.recorded_at == at) is is_told
    assert timezone.now() - change.recorded_at < (2 * HOUR if is_told else MINUTE)


# Statuses: the text of a message whose sending timed out


def test_nobody_gets_a_text_that_was_sent_to_others(fake_cellcast: FakeCellcast) -> None:
    """A forged report came first, and has filed the message under another number."""
    client.status(_id="1", status="queued", receiver="+61400000700")
    for status in ("queued", "delivered"):
        fake_cellcast.add_report("1", timezone.now(), status=status, message="Your result is here")
    assert recovered(ApiList.STATUSES).texts == 0
    message = Message.objects.get()
    assert (message.contact, message.body, message.status) == ("+61400000700", "", "delivered")


def test_text_that_timed_out_stands_in_its_conversation(
    fake_cellcast: FakeCellcast, settings: Any
) -> None:
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    reset()
    fail_next(TimeoutError())
    with pytest.raises(TimeoutError):
        send("0400 000 002", "Coming at nine?", reference="order-7")
    fake_cellcast.add_report("1", ago(HOUR), message="Coming at nine?")

    recovered(ApiList.STATUSES)

    message = Message.objects.with_contact("0400 000 002").get()
    assert (message.body, message.recorded_at) == ("Coming at nine?", None)
    client.reply(sender="+61400000002", message="YES")
    assert Message.objects.inbound().get().in_reply_to == message


def test_text_fills_in_what_a_webhook_has_reported(
    fake_cellcast: FakeCellcast, listen: Any
) -> None:
    calls = listen(status_changed)
    client.status(_id="1", status="delivered", receiver="+61400000002", message="claimed")
    fake_cellcast.add_report("1", ago(HOUR))
    findings = recovered(ApiList.STATUSES, dry_run=True)
    assert (*counts(findings), findings.texts) == (1, 0, 0, 1)
    assert Message.objects.get().body == "", "a webhook's word is not taken for it"

    findings = recovered(ApiList.STATUSES)

    assert (*counts(findings), findings.texts) == (1, 0, 0, 1)
    message = Message.objects.get()
    assert message.body == "Hallo"
    event = WebhookEvent.objects.latest("pk")
    assert (event.endpoint, event.outcome, event.message) == ("api", "duplicate", message)
    findings = recovered(ApiList.STATUSES)
    assert (*counts(findings), findings.texts) == (1, 0, 0, 0)
    assert WebhookEvent.objects.count() == 2
    assert len(calls) == 1 == message.status_history.count()


def test_message_recorded_without_a_text_gets_none(fake_cellcast: FakeCellcast) -> None:
    Message.objects.record_sent("1", receiver="+61400000002")
    fake_cellcast.add_report("1", ago(HOUR))
    assert recovered(ApiList.STATUSES).texts == 0
    assert Message.objects.get().body == ""


@pytest.mark.parametrize("text", [None, "", 7, ["Hallo"], "half \ud83d", "nul \0"])
def test_odd_text_costs_no_status(fake_cellcast: FakeCellcast, text: object) -> None:
    fake_cellcast.add_report("1", ago(HOUR), message=text)
    recovered(ApiList.STATUSES)
    assert recovered(ApiList.STATUSES).texts == 0
    assert Message.objects.get().status == "delivered"


def test_message_list_is_requested_with_a_days_margin(
    fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    recovered(ApiList.STATUSES)
    requests = [parameters for path, parameters, _ in fake_cellcast.requests if path == REPORTS]
    assert requests == [
        {
            "campType": campaign,
            "fromDate": f"{now - timedelta(days=3):%Y-%m-%d}",
            "toDate": f"{now + timedelta(days=1):%Y-%m-%d}",
            "page": "1",
            "limit": "100",
            "requestFrom": "API",
        }
        for campaign in ("sms", "mms")
    ]


def test_reports_of_mms_are_read_too_where_there_is_a_list(fake_cellcast: FakeCellcast) -> None:
    fake_cellcast.add_report("1", ago(HOUR))
    fake_cellcast.add_report("2", ago(HOUR), media=["https://media.example.com/1.jpg"])
    assert counts(recovered(ApiList.STATUSES)) == (2, 2, 2)
    fake_cellcast.campaigns = {"sms"}
    assert counts(recovered(ApiList.STATUSES)) == (1, 0, 0)
    fake_cellcast.campaigns = set()
    assert "campType" in recovered(ApiList.STATUSES).error


@pytest.mark.parametrize("status", [401, 500])
def test_list_of_mms_that_may_be_there_is_an_error(
    fake_cellcast: FakeCellcast, status: int
) -> None:
    def fail(path: str, page: int) -> None:
        asked = [parameters for path, parameters, _ in fake_cellcast.requests if path == REPORTS]
        if path == REPORTS and len(asked) == 1:
            fake_cellcast.faults.extend([Fault(status=status)] * 6)

    fake_cellcast.before_page = fail
    assert str(status) in recovered(ApiList.STATUSES).error


# Opt-outs


def test_missing_opt_out_is_stored_and_run(fake_cellcast: FakeCellcast, listen: Any) -> None:
    calls = listen(opt_out_received)
    OptOut.objects.insert_and_lock([CUSTOMER])  # a row without a beginning is none
    item = fake_cellcast.add_opt_out("400000001")
    assert counts(recovered(ApiList.OPT_OUTS)) == (1, 1, 1)

    assert is_opted_out(CUSTOMER)
    assert OptOut.objects.get().source == OptOut.Source.LIST
    event = WebhookEvent.objects.get()
    assert (event.endpoint, event.kind, event.contact) == ("api", "opt_out", CUSTOMER)
    assert json.loads(event.body) == item
    assert [call["contact"] for call in calls] == [CUSTOMER]

    assert counts(recovered(ApiList.OPT_OUTS)) == (1, 0, 0)
    assert WebhookEvent.objects.count() == len(calls) == 1


def test_differences_from_cellcasts_list_are_only_counted(fake_cellcast: FakeCellcast) -> None:
    not_listed, *listed, ended_too = numbers = [f"40000000{each}" for each in range(1, 6)]
    for number in numbers:
        opt_out(number)
    for number in (listed[0], ended_too):
        opt_in(number)
    for number in listed:
        fake_cellcast.add_opt_out(number)
    findings = recovered(ApiList.OPT_OUTS)
    assert counts(findings) == (3, 0, 0)
    assert (findings.not_listed, findings.ended) == (1, 1)
    active = OptOut.objects.active().order_by("contact").values_list("contact", "source")
    assert list(active) == [(f"+61{each}", "person") for each in (not_listed, *listed[1:])]


def test_recovery_reads_opt_outs_on_shifting_pages(fake_cellcast: FakeCellcast) -> None:
    def leave(path: str, page: int) -> None:
        if page == 2:
            fake_cellcast.opt_outs.insert(0, fake_cellcast.add_opt_out("400000099"))
            fake_cellcast.opt_outs.pop()

    fake_cellcast.page_size = 2
    fake_cellcast.before_page = leave
    for number in ("400000001", "400000002", "+61400000001", "400000003"):
        fake_cellcast.add_opt_out(number)
    findings = recovered(ApiList.OPT_OUTS)
    assert counts(findings) == (3, 3, 3)
    assert findings.not_listed == 0


@pytest.mark.parametrize("number", ["", None, " ", "4" * 65, {"number": "400000001"}])
def test_opt_out_without_a_number_is_counted(fake_cellcast: FakeCellcast, number: Any) -> None:
    fake_cellcast.add_opt_out(number)
    fake_cellcast.add_opt_out("400000001")
    findings = recovered(ApiList.OPT_OUTS)
    assert counts(findings) == (1, 1, 1)
    assert findings.invalid == 1


# All of it


def test_dry_run_changes_nothing(fake_cellcast: FakeCellcast) -> None:
    fake_cellcast.add_reply(ago(HOUR))
    fake_cellcast.add_report("1", ago(HOUR))
    fake_cellcast.add_opt_out("400000001")
    assert [counts(findings) for findings in recover(dry_run=True)] == [(1, 1, 0)] * 3
    for model in (OptOut, Message, WebhookEvent, CommandRun):
        assert not model.objects.exists()


def test_last_run_is_recorded_with_its_counts(fake_cellcast: FakeCellcast) -> None:
    recover()
    fake_cellcast.faults.append(Fault(status=404, body=b'{"message": "No 0412 345 678"}'))
    found = recover()
    run = CommandRun.objects.get()
    assert run.command == CommandRun.Command.RECOVER
    assert (timezone.now() - run.ran_at) < MINUTE
    assert run.summary.pop("credit")
    assert set(run.summary) == set(ApiList)
    assert run.summary["replies"] == asdict(found[0]) | {"error": True, "is_read": False}


@pytest.mark.parametrize(
    "fault", [Fault(status=401), Fault(status=500), Fault(breaks_off=True), Fault(body=b"{}")]
)
def test_credit_that_cannot_be_read_keeps_the_last_reading(
    fake_cellcast: FakeCellcast, fault: Fault
) -> None:
    recover()
    asked = len(fake_cellcast.requests)
    first = CommandRun.objects.get().summary["credit"]
    fake_cellcast.faults.extend([*[None] * (asked - 1), fault])

    assert not problems_of(recover())

    assert len(fake_cellcast.requests) == 2 * asked, "tried once"
    assert CommandRun.objects.get().summary["credit"] == first
    recover()
    assert CommandRun.objects.get().summary["credit"]["read_at"] > first["read_at"]


def test_wrong_key_is_one_request_and_one_problem(
    fake_cellcast: FakeCellcast, settings: Any
) -> None:
    settings.CELLCAST_API_KEY = "another-key"
    found = recover()
    assert len(fake_cellcast.requests) == 1
    assert [each.is_read for each in found] == [False] * 3
    [problem] = problems_of(found)
    assert "CELLCAST_API_KEY" in problem
    assert CommandRun.objects.get().summary["credit"] is None


# Whatever happens


@pytest.mark.parametrize("kind", ApiList)
@pytest.mark.parametrize("item", [None, 1, "x", [], [{"status": "delivered"}], {}])
def test_odd_item_loses_only_itself(fake_cellcast: FakeCellcast, kind: ApiList, item: Any) -> None:
    fake_cellcast.add_reply(ago(HOUR))
    fake_cellcast.add_report("1", ago(HOUR))
    fake_cellcast.add_opt_out("400000001")
    fake_cellcast.odd_items.append(item)
    findings = recovered(kind)
    assert counts(findings) == (1, 1, 1)
    assert findings.invalid == 1


@pytest.mark.parametrize("error", [OperationalError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ApiList)
def test_error_tracker_gets_no_key_number_or_text(
    fake_cellcast: FakeCellcast, kind: ApiList, error: type[BaseException]
) -> None:
    fake_cellcast.add_reply(ago(HOUR), number="400000777", body="My secret")
    fake_cellcast.add_report("1", ago(HOUR), receiver="400000777", message="My secret")
    fake_cellcast.add_opt_out("400000777")
    with refusing("INSERT", error=error()), pytest.raises(error) as raised:
        recovered(kind)
    report = reported(raised.value)
    assert "400000777" not in report
    assert "My secret" not in report
    assert KEY not in report


@pytest.mark.django_db(transaction=True)
def test_transaction_that_is_refused_for_others_is_tried_again(
    fake_cellcast: FakeCellcast,
) -> None:
    """Nothing of it is deferred, and two recoveries at once often meet on MariaDB."""
    fake_cellcast.add_reply(ago(HOUR))
    with refusing("INSERT", error=refused_for_another(), times=3):
        assert counts(recovered(ApiList.REPLIES)) == (1, 1, 1)


def test_interrupted_recovery_resumes(
    fake_cellcast: FakeCellcast, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ITEMS_PER_TRANSACTION", 1)
    calls = listen(message_received)
    for number in range(5):
        fake_cellcast.add_reply(ago(HOUR), body=str(number))

    def interrupt(findings: Findings) -> None:
        if findings.stored == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recovered(ApiList.REPLIES, progress=interrupt)
    assert counts(recovered(ApiList.REPLIES)) == (5, 3, 3)
    assert len(calls) == Message.objects.count() == 5
    assert REPLIES in {path for path, *_ in fake_cellcast.requests}
