"""The admin's pages of opt-outs: found by number, added and ended by hand, never edited."""

import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from cellcast_django.admin.display.badges import opt_out_badge
from cellcast_django.admin.display.texts import readable_number
from cellcast_django.factories import MessageFactory, OptOutFactory, WebhookEventFactory
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.receiving import read_again
from cellcast_django.testing import WebhookClient
from tests.admin_pages import (
    CUSTOMER,
    ID,
    Know,
    levels,
    listed,
    make_invalid,
    page_of,
    staff,
    text_of,
    url_of,
)
from tests.database_faults import just_before, refused_for_another, refusing
from tests.html import every, hidden_fields, only, words

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer() -> Client:
    return staff("view_optout", "view_webhookevent")


@pytest.fixture
def clerk() -> Client:
    """A member of staff who may opt contacts out and end it."""
    return staff("view_optout", "add_optout", "end_optout")


# The list


def test_list_shows_contact_since_how_and_state(viewer: Client) -> None:
    event = WebhookEventFactory.create(
        opt_out=True, contact=CUSTOMER, received_at=timezone.now() - timedelta(days=3)
    )
    OptOutFactory.create(contact="+61400000009", ended=True)
    page = page_of(viewer, "optout")
    assert "0400 000 001" in text_of(page)
    moments = [datetime.fromisoformat(each.get("datetime", "")) for each in every(page, "time")]
    assert event.received_at.replace(microsecond=0) in [
        moment.replace(microsecond=0) for moment in moments
    ]
    for made in OptOut.objects.all():
        assert made.get_source_display() in text_of(page)
    assert {words(each) for each in every(page, "td[@class='field-state']")} == {
        "✕ opted out",
        "• ended",
    }


def test_list_can_be_filtered_by_state_source_and_period(viewer: Client) -> None:
    old = OptOutFactory.create(since=timezone.now() - timedelta(days=8))
    ended = OptOutFactory.create(ended=True)
    by_webhook = OptOutFactory.create(source="webhook")
    OptOut.objects.create(contact="+61400000009", source="")  # locked, and has not begun
    assert listed(viewer, "optout", state="active") == [by_webhook.pk, old.pk]
    assert listed(viewer, "optout", state="ended") == [ended.pk]
    assert len(listed(viewer, "optout", state="x")) == 3
    assert listed(viewer, "optout", source="webhook") == [by_webhook.pk]
    week_ago = timezone.localdate() - timedelta(days=6)
    for _ in range(2):
        assert listed(viewer, "optout", **{"from": week_ago}) == [by_webhook.pk, ended.pk]
        opt_in(old.contact)


def history_of(html: str) -> list[tuple[str, str, str]]:
    """Return the kind, the source and the words of each step that the page shows."""
    steps = re.findall(r'<li data-kind="(\w+)" data-source="(\w+)">(.*?)</li>', html, re.DOTALL)
    return [(kind, source, text_of(words)) for kind, source, words in steps]


def test_history_shows_both_stops_and_the_opt_in_between(
    clerk: Client, client: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "I wrote STOP on 1 November, and you texted me on the 15th." """
    moment = datetime(2025, 11, 1, 9, 30, 5, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: moment)
    client.reply(_id="1", sender="0400 000 001", message="STOP")
    made = OptOut.objects.get()
    moment = datetime(2025, 11, 10, 12, 0, 7, tzinfo=UTC)
    clerk.post(url_of("optout", "end", made.pk), {"reason": "signed up at the counter"})
    moment = datetime(2025, 11, 15, 8, 0, 9, tzinfo=UTC)
    Message.objects.record_sent("2", receiver=CUSTOMER, body="See you at nine?")
    client.reply(_id="3", sender="0400 000 001", message="Stop!! Stop")
    client.reply(_id="4", sender="0400 000 001", message="S T O P")
    moment = datetime(2028, 2, 1, tzinfo=UTC)
    call_command("cellcast_prune", older_than=timedelta(days=1), stdout=StringIO())
    assert not Message.objects.exists() and not WebhookEvent.objects.exists()
    moment = datetime.now(UTC)
    html = page_of(clerk, "optout", "change", made.pk)
    (first, second, third) = history_of(html)
    assert [step[:2] for step in (first, second, third)] == [
        ("begun", "reply"),
        ("ended", "person"),
        ("begun", "reply"),
    ]
    assert "1 Nov 2025, 20:30:05 AEDT" in first[2] and first[2].endswith("STOP")
    assert "10 Nov 2025, 23:00:07 AEDT" in second[2]
    assert "staff-0" in second[2] and "signed up at the counter" in second[2]
    assert "15 Nov 2025, 19:00:09 AEDT" in third[2] and third[2].endswith("S T O P")
    assert "cellcast-conversation" not in html


@pytest.mark.parametrize("may_view_events", [True, False])
def test_page_links_to_event_for_permitted_users(
    client: WebhookClient, may_view_events: bool
) -> None:
    reader = staff("view_optout", *["view_webhookevent"] * may_view_events)
    client.opt_out()
    event = WebhookEvent.objects.get()
    url = url_of("webhookevent", "change", event.pk)
    page = page_of(reader, "optout", "change", OptOut.objects.get().pk)
    assert (url in page) == (f"#{event.pk}" in page) == may_view_events
    assert every(page, "pre[@class='cellcast-raw']")
    assert reader.get(url).status_code == (200 if may_view_events else 403)


@pytest.mark.parametrize("by_person", [True, False])
def test_words_of_the_proof_lead_to_their_reply(client: WebhookClient, by_person: bool) -> None:
    client.reply(_id="1", sender=CUSTOMER, message="Please stop!" if by_person else "STOP")
    reply = Message.objects.get()
    if by_person:
        opt_out(CUSTOMER, asked_in=reply)
    client.reply(_id="2", sender=CUSTOMER, message=reply.body)  # it repeats what was asked before
    made, url = OptOut.objects.get(), url_of("message", "change", reply.pk)

    html = page_of(staff("view_optout", "view_message"), "optout", "change", made.pk)

    [link] = [each for each in every(html, "a") if each.get("href") == url]
    at = datetime.fromisoformat(only(link, "time").get("datetime", ""))
    assert abs(at - reply.created_at) < timedelta(milliseconds=1)
    for person in (staff("view_optout"), staff("view_message", "view_optout")):
        may_view = person.get(url).status_code == 200
        assert (url in page_of(person, "optout", "change", made.pk)) == may_view


def test_words_lead_to_a_reply_that_was_read_later(client: WebhookClient) -> None:
    body = f'{{"_id": "{ID}", "sender": "{CUSTOMER}", "message": "STOP"}}'
    read_again(make_invalid(body))
    reply, made = Message.objects.get(), OptOut.objects.get()
    assert reply.created_at > made.since

    html = page_of(staff("view_optout", "view_message"), "optout", "change", made.pk)

    assert url_of("message", "change", reply.pk) in html


@pytest.mark.parametrize(
    ("note", "is_quoted"),
    [("", True), ("Asked: “Please stop!”", False), ("By phone", True), ("Please stop!!", True)],
)
def test_page_quotes_the_words_once(
    viewer: Client, client: WebhookClient, note: str, is_quoted: bool
) -> None:
    client.reply(sender=CUSTOMER, message="Please stop!")
    made = opt_out(CUSTOMER, note=note, asked_in=Message.objects.get())

    [html, _] = page_of(viewer, "optout", "change", made.pk).split("<details")

    assert html.count("Please stop!") == 1 + (note == "Please stop!!")
    assert html.count(note or "Please stop!") == 1
    assert bool(every(html, "div[@class='cellcast-text cellcast-words']")) == is_quoted


def test_page_does_not_link_to_an_event_hidden_by_the_site(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = WebhookEventFactory.create(opt_out=True).opt_out_change.opt_out
    events = site.get_model_admin(WebhookEvent)
    monkeypatch.setattr(events, "get_queryset", lambda request: WebhookEvent.objects.none())
    [(_, _, words)] = history_of(page_of(viewer, "optout", "change", made.pk))
    assert "#" not in words


def test_pages_require_their_permissions(viewer: Client) -> None:
    made = opt_out(CUSTOMER)
    end = url_of("optout", "end", made.pk)
    other = staff("view_message", "view_webhookevent", "end_optout")
    for url in (url_of("optout"), url_of("optout", "change", made.pk), end):
        assert other.get(url).status_code == 403
        assert Client().get(url).status_code == 302
    assert add(viewer, number="0400 000 002").status_code == 403
    assert viewer.post(end, {"reason": "x"}).status_code == 403
    assert url_of("optout", "add") not in page_of(viewer, "optout")
    assert end not in page_of(viewer, "optout", "change", made.pk)
    assert OptOut.objects.active().get() == made


# Adding


def add(client: Client, **data: str) -> Any:
    return client.post(
        url_of("optout", "add"), {"number": "0400 000 001", "reason": "asked"} | data
    )


def test_user_opts_a_contact_out(clerk: Client) -> None:
    assert url_of("optout", "add") in page_of(clerk, "optout")
    assert text_of(page_of(clerk, "optout", "add")).count("Reason") == 1
    page = clerk.get(add(clerk, reason="asked at the counter").url)
    assert "0400 000 001" in str(*page.context["messages"])
    made = OptOut.objects.get()
    assert (made.contact, made.source, made.note) == (CUSTOMER, "person", "asked at the counter")
    OptOutFactory.create()
    for spelling in (CUSTOMER, "0400 000 001", "61400000001", " 400000001 "):
        assert listed(clerk, "optout", q=spelling) == [made.pk]
    entry = LogEntry.objects.get()
    assert (entry.is_addition(), entry.object_id) == (True, str(made.pk))
    assert CUSTOMER not in f"{entry.object_repr} {entry.change_message}"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"number": "0400 000"}, "invalid"),
        ({"number": "cellcast"}, "invalid"),
        ({"number": ""}, "required"),
        ({"reason": " "}, "required"),
    ],
)
def test_invalid_form_opts_nobody_out(clerk: Client, data: dict[str, str], code: str) -> None:
    errors = add(clerk, **data).context["adminform"].form.errors.as_data()
    assert {name: [error.code for error in found] for name, found in errors.items()} == {
        name: [code] for name in data
    }
    assert not OptOut.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_opting_out_is_tried_again_after_a_deadlock(clerk: Client) -> None:
    data = {"number": "0404 000 000", "reason": "Asked at the counter."}
    with refusing("INSERT .*_optoutchange", error=refused_for_another(), times=1) as refusals:
        assert levels(clerk.post(url_of("optout", "add"), data, follow=True)) == ["success"]
    assert refusals.count == OptOut.objects.active().count() == LogEntry.objects.count() == 1


def test_form_posted_after_the_session_has_ended_says_that_nothing_was_done(clerk: Client) -> None:
    made = opt_out(CUSTOMER)
    clerk.logout()

    for url in (url_of("optout", "add"), url_of("optout", "end", made.pk)):
        login = clerk.post(url, {"number": "0400 000 002", "reason": "phoned"}, follow=True)
        assert login.redirect_chain == [(f"/admin/login/?next={url}", 302)]
        assert levels(login) == ["warning"]

    assert list(OptOut.objects.active()) == [made]


def test_opting_out_twice_adds_the_second_reason_and_renews_what_has_ended(clerk: Client) -> None:
    opt_out(CUSTOMER, note="first")
    assert add(clerk, reason="second").status_code == 302
    assert OptOut.objects.get().note == "first\nsecond"
    opt_in(CUSTOMER)
    assert add(clerk, reason="third").status_code == 302
    assert is_opted_out(CUSTOMER)
    notes = [each.note for each in OptOut.objects.get().history.all()]
    assert notes == ["first", "second", "", "third"]


@pytest.fixture
def receptionist() -> Client:
    """A member of staff who answers, marks as done, and opts customers out and in."""
    return staff(
        "view_message", "handle_message", "view_optout", "add_optout", "end_optout", "change_optout"
    )


@pytest.mark.parametrize("key", ["x", "", "-1", "99999999999999999999", "7"])
def test_form_for_an_unknown_message_is_empty(receptionist: Client, key: str) -> None:
    form = receptionist.get(url_of("optout", "add", message=key)).context["adminform"].form
    assert not form["number"].value()


def test_form_says_whom_it_opts_out_and_what_its_button_does(
    receptionist: Client, know: Know
) -> None:
    know(names=names)
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER)
    html = page_of(receptionist, "optout", "add", message=reply.pk)
    title, button = only(html, "head/title"), only(html, "form[@id='optout_form']//button")
    assert "Ms Kim Lee" in words(title)
    assert words(title).startswith(words(button) + ": ")
    assert not every(html, "input[@type='submit']")


def test_form_hides_the_number_without_permission_to_view_messages(
    clerk: Client, know: Know
) -> None:
    know(names=names)
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER)
    html = page_of(clerk, "optout", "add", message=reply.pk)
    assert "0400 000 001" not in html and "Ms Kim Lee" not in html


@pytest.mark.parametrize(
    ("is_reply", "number", "is_proof"),
    [(True, CUSTOMER, True), (True, "0400 000 002", False), (False, CUSTOMER, False)],
)
def test_reply_is_the_proof_and_handled_where_its_contact_is_opted_out(
    is_reply: bool, number: str, is_proof: bool
) -> None:
    person = staff("view_message", "view_optout", "add_optout")
    side = {"sender": CUSTOMER} if is_reply else {"receiver": CUSTOMER}
    message = MessageFactory.create(inbound=is_reply, body="no more of these, please", **side)
    MessageFactory.create(inbound=is_reply, **side)
    url = url_of("optout", "add", message=message.pk)
    form = person.get(url).context["adminform"].form
    assert form["number"].value() == "0400 000 001"
    assert bool(form["reason"].value()) == is_reply
    response = person.post(url, {"number": number, "reason": "asked"})
    opted_out = OptOut.objects.get()
    if number != CUSTOMER:
        assert response["Location"] == url_of("optout", "change", opted_out.pk)
    [made] = opted_out.history.all()
    assert (made.text, made.note) == ("no more of these, please" if is_proof else "", "asked")
    message.refresh_from_db()
    assert bool(message.handled_at) == is_proof


def test_who_may_add_alone_learns_nothing_of_the_contact(know: Know) -> None:
    know(names=names)
    client = staff("add_optout")
    opt_out("+61400000002", note="first")
    told = []
    for number in (CUSTOMER, "+61400000002"):
        response = add(client, number=number, reason="asked")
        page = client.get(response.url)
        said = [str(message) for message in page.context["messages"]]
        told.append((response.url, page.status_code, said))
    assert told[0] == told[1]
    _url, status, said = told[0]
    assert (status, len(said)) == (200, 1)
    assert "Ms Kim Lee" not in said[0]
    assert OptOut.objects.active().count() == 2


# Ending


def test_user_ends_an_opt_out_with_a_reason(clerk: Client) -> None:
    made = opt_out(CUSTOMER, note="asked")
    url = url_of("optout", "end", made.pk)
    assert url in page_of(clerk, "optout", "change", made.pk)
    page = clerk.get(url).text
    assert every(page, "p[@class='cellcast-warning']")
    assert clerk.post(url, {"reason": ""}).status_code == 200
    assert is_opted_out(CUSTOMER)
    opt_out("0400 000 002")
    form = hidden_fields(every(page, "form")[-1]) | {"reason": "signed up again"}
    response = clerk.post(url, form, follow=True)
    assert levels(response) == ["success"]
    made.refresh_from_db()
    assert made.ended_at is not None
    assert made.note == "signed up again"
    entry = LogEntry.objects.get()
    assert (entry.change_message, entry.object_id) == ("Opted the customer back in.", str(made.pk))
    assert url not in page_of(clerk, "optout", "change", made.pk)


def test_confirmation_page_hides_the_number_from_error_trackers(clerk: Client) -> None:
    """They store what templates are given: of an object its ``repr``."""
    made = opt_out(CUSTOMER)
    response = clerk.get(url_of("optout", "end", made.pk))
    assert readable_number(CUSTOMER) in response.text
    given = " ".join(map(repr, response.context))
    assert readable_number(CUSTOMER) not in given
    assert CUSTOMER not in given


def test_what_has_ended_or_is_not_there_is_not_ended(
    clerk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = OptOutFactory.create()
    url = url_of("optout", "end", made.pk)
    with just_before("^UPDATE .*optout", lambda: opt_in(made.contact)):
        assert clerk.post(url, {"reason": "x"}).status_code == 302
    response = clerk.post(url, {"reason": "x"}, follow=True)
    assert set(levels(response)) == {"info"}
    assert not LogEntry.objects.exists()
    assert clerk.get(url_of("optout", "end", made.pk + 1)).status_code == 404
    opt_out(made.contact)
    model_admin = site.get_model_admin(OptOut)  # which may hide it
    monkeypatch.setattr(model_admin, "get_queryset", lambda request: OptOut.objects.none())
    assert clerk.post(url, {"reason": "x"}).status_code == 404
    assert is_opted_out(made.contact)


def test_what_has_begun_again_since_the_page_was_shown_is_not_ended(clerk: Client) -> None:
    made = opt_out(CUSTOMER)
    url = url_of("optout", "end", made.pk)
    form = hidden_fields(every(clerk.get(url).text, "form")[-1]) | {"reason": "signed up"}
    opt_in(CUSTOMER)
    opt_out(CUSTOMER)
    response = clerk.post(url, form, follow=True)
    assert levels(response) == ["warning"]
    assert is_opted_out(CUSTOMER)
    assert not LogEntry.objects.exists()


# On other pages


@pytest.mark.parametrize("opt_out_event", [True, False])
def test_event_page_says_its_contact_has_opted_out(viewer: Client, opt_out_event: bool) -> None:
    if opt_out_event:
        event = WebhookEventFactory.create(opt_out=True)
    else:
        event = WebhookEventFactory.create(reply=True)
        opt_out(event.contact)
    badge = opt_out_badge(OptOut.objects.get().since, is_brief=True)
    assert badge in page_of(viewer, "webhookevent", "change", event.pk)
    opt_in(event.contact)
    assert badge not in page_of(viewer, "webhookevent", "change", event.pk)


def names(contacts: list[str]) -> dict[str, str]:
    return dict.fromkeys(contacts, "Ms Kim Lee")


# A database error of the host's


def ask_a_missing_table(asked: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM no_such_table")


def test_host_projects_database_error_loses_no_opt_out(clerk: Client, know: Know) -> None:
    """Names are asked for in the transaction in which the admin adds it."""
    know(names=ask_a_missing_table, search=ask_a_missing_table)

    add(clerk, number=CUSTOMER, reason="Asked at the counter")

    assert is_opted_out(CUSTOMER)
    assert listed(clerk, "optout", q="Smith") == []
