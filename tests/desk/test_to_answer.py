"""To answer: a row for each customer who waits, *Done* and *Undo*, and what is new meanwhile."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cellcast_django.admin.own_numbers import OTHER as OTHER_NUMBERS
from cellcast_django.admin.page import MAX_SECONDS
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk import handling, marking, to_answer, waiting
from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.opt_outs import opt_out
from tests.admin_pages import CUSTOMER, Know, levels, listed, page_of, staff, url_of
from tests.database_faults import refused_for_another, refusing
from tests.desk.conftest import Show
from tests.html import addresses, every, hidden_fields, only, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

OTHER = "+61400000002"
THIRD = "+61400000003"


@pytest.fixture
def receptionist() -> Client:
    """A member of staff who may read messages and say which are dealt with."""
    return staff("view_message", "handle_message")


def ask(minutes_ago: float, body: str, sender: str = CUSTOMER, **values: Any) -> Message:
    time = timezone.now() - timedelta(minutes=minutes_ago)
    return MessageFactory.create(inbound=True, sender=sender, body=body, created_at=time, **values)


def rows(client: Client, **query: Any) -> list[str]:
    """Return the texts of the page, one for each customer."""
    response = client.get(url_of("message", "to_answer", **query))
    assert response.status_code == 200
    return [row.text for row in response.context["page"].rows]


def done(client: Client, *replies: Message, **form: Any) -> Any:
    """Tick the boxes of these replies, and click *Done*."""
    return client.post(url_of("message", "handle"), {"reply": [r.pk for r in replies], **form})


def done_in_row(client: Client, row: Message, **form: Any) -> Any:
    return client.post(url_of("message", "handle"), {"one": row.pk, **form})


def undo(client: Client, page: str) -> Any:
    form = only(page, "form[@class='cellcast-undo']")
    return client.post(form.get("action", ""), hidden_fields(form), follow=True)


# The list


def test_customer_has_one_row_with_their_newest_reply(reader: Client) -> None:
    picture = "https://media.example.com/1.jpg"
    ask(20, "Are you open?", OTHER)
    oldest, newest = ask(30, "Hello?"), ask(10, "Anybody there?", media=[picture])
    MessageFactory.create(receiver=CUSTOMER, body="Our newsletter")
    ask(5, "Thanks", THIRD).mark_handled()

    page = reader.get(url_of("message", "to_answer"))

    first, second = page.context["page"].rows
    assert (first.reply, first.customer.oldest.pk) == (newest, oldest.pk)
    assert second.text == "Are you open?"
    assert words(only(page.text, "head/title")).startswith("(2) ")
    assert [len(row.customer.replies) for row in (first, second)] == [2, 1]
    table = only(page.text, "form[@class='cellcast-waiting']//table")
    assert len(every(table, "tbody/tr")) == 2
    assert picture in addresses(table)


def test_longest_wait_order_goes_by_oldest_reply(reader: Client) -> None:
    ask(30, "Hello?")
    ask(20, "Are you open?", OTHER)
    ask(10, "Anybody there?")

    assert rows(reader) == ["Anybody there?", "Are you open?"]
    assert rows(reader, order="longest") == ["Anybody there?", "Are you open?"]
    ask(5, "Please call", OTHER)
    assert rows(reader) == ["Please call", "Anybody there?"]
    assert rows(reader, order="longest") == ["Anybody there?", "Please call"]
    for order, other in (({}, {"order": "longest"}), ({"order": "longest"}, {})):
        page = reader.get(url_of("message", "to_answer", p="1", **order)).context["page"]
        assert page.other_order_url == url_of("message", "to_answer", **other)


def test_replies_without_a_number_are_of_different_people(
    reader: Client, receptionist: Client
) -> None:
    replies = [ask(20, "", sender="", cellcast_id=f"{number}") for number in range(2)]

    for order in ("", "longest"):
        page = reader.get(url_of("message", "to_answer", order=order))
        assert {row.reply for row in page.context["page"].rows} == set(replies)
    urls = [url_of("message", "conversation", each.pk) for each in replies]
    assert [reader.get(url).context["page"].next_url for url in urls] == urls[::-1]
    assert len(reader.get(urls[0]).context["page"].thread.bubbles) == 1
    done(receptionist, *replies)
    receptionist.post(url_of("message", "reopen"), {"one": replies[0].pk, "back": "change"})
    assert list(Message.objects.unhandled()) == replies[:1]
    done_in_row(receptionist, ask(10, "", sender=""))
    assert list(Message.objects.unhandled()) == replies[:1]


@pytest.mark.parametrize("page", ["x", "9" * 40, "2"])
def test_unknown_page_shows_one_that_is_there(reader: Client, page: str) -> None:
    ask(10, "first")

    assert rows(reader, p=page) == ["first"]


def only_newest(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let only so many waiting replies be read."""
    monkeypatch.setattr(waiting, "MAX_WAITING", count)
    monkeypatch.setattr(waiting, "LIMIT", count + 1)


@pytest.mark.parametrize("order", ["", "longest"])
def test_pages_show_every_customer_once_and_lead_to_each_other(
    reader: Client, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(to_answer, "PER_PAGE", 3)
    first = ask(60, "0")
    add_copies(first, 7, lambda n: {"contact": f"+614000100{n:02}", "body": f"{n + 1}"})
    ask(70, "before", "+61400010003")
    ask(5, "after", "+61400010004")
    query = {"order": order} if order else {}
    urls = [
        url_of("message", "to_answer", **query, **({"p": n} if n > 1 else {})) for n in (1, 2, 3)
    ]

    texts: list[str] = []
    for place, url in enumerate(urls):
        html = reader.get(url)
        page, position = html.context["page"], only(html.text, "p[@data-position]")
        assert words(position) == f"Customers {3 * place + 1} to {min(3 * place + 3, 8)} of 8."
        assert page.pages == [(1, urls[0]), (2, urls[1]), (3, urls[2])]
        texts += [row.text for row in page.rows]
    assert sorted(texts) == sorted(["0", "1", "2", "3", "4", "after", "6", "7"])
    assert texts[0] == ("4" if order else "after")
    only_newest(monkeypatch, 5)
    assert words(only(reader.get(urls[0]).text, "p[@data-position]")) == "Customers 1 to 3 of 4+."


def numbers_of_lee(words: str) -> list[str]:
    return [CUSTOMER] if words == "Mrs Lee" else []


@pytest.mark.parametrize("term", ["0400 000 001", "000001", "sunday", "Mrs Lee", "mrs  lee"])
def test_search_finds_who_waits_with_their_newest_reply(
    reader: Client, know: Know, term: str
) -> None:
    know(search=numbers_of_lee)
    ask(20, "Mrs Lee asked me to write: open on Sunday?")
    ask(15, "Hello?")
    ask(10, "Are you there?", OTHER)

    page = reader.get(url_of("message", "to_answer", q=term))

    [row] = page.context["page"].rows
    assert row.text == "Hello?"
    assert "q=" not in row.url
    assert only(page.text, "input[@name='q']").get("value") == term
    notes = [each.get("data-search-note") for each in every(page.text, "p[@data-search-note]")]
    assert notes == (["texts"] if term in ("sunday", "mrs  lee") else [])
    nobody = page_of(reader, "message", "to_answer", q="0400 999 999")
    assert only(nobody, "p[@id='cellcast-nothing-found']") is not None


def test_wishes_to_stop_are_marked_counted_and_listed_red_from_three_days_on(
    reader: Client,
) -> None:
    days = 24 * 60
    ask(4 * days, "Please stop texting me")
    ask(10, "Hello??")
    ask(2 * days, "no more texts!", OTHER)
    ask(5, "stop it", sender="")
    ask(3, "See you", THIRD)
    opt_out("+61400000004")
    ask(2, "no more texts!", "+61400000004")

    page = reader.get(url_of("message", "to_answer"))

    marks = {row.reply.contact: row.stop_wish for row in page.context["page"].rows}
    late = {contact: "badge-bad" in mark for contact, mark in marks.items() if mark}
    assert late == {CUSTOMER: True, OTHER: False, "": False}
    assert "4 d" in marks[CUSTOMER]
    chip = only(page.text, "nav[@class='cellcast-tabs']//span[@data-count]")
    assert chip.get("data-count") == "3"
    [url] = [each for each in addresses(page.text) if "stop=1" in each]
    wishes = reader.get(url)
    usual = "p[@id='cellcast-usual-words']"
    assert every(wishes.text, usual) and not every(page.text, usual)
    assert {row.reply.contact for row in wishes.context["page"].rows} == set(late)
    assert only(wishes.text, "input[@name='stop']").get("checked") is not None


def test_row_shows_the_words_of_an_earlier_wish_to_stop(reader: Client) -> None:
    ask(10, "Please stop texting me")
    ask(5, "And one more thing: yes")
    ask(3, "no more texts!", OTHER)

    page = page_of(reader, "message", "to_answer")

    assert [words(each) for each in every(page, "bdi[@data-wish]")] == ["Please stop texting me"]
    assert rows(reader) == ["no more texts!", "And one more thing: yes"]


def test_page_can_be_filtered_by_days(reader: Client) -> None:
    zone = timezone.get_current_timezone()
    for day in (20, 22, 24):
        reply = ask(0, f"the {day}th", CUSTOMER if day < 24 else OTHER)
        time = datetime(2026, 11, day, 23, 59, tzinfo=zone)
        Message.objects.filter(pk=reply.pk).update(created_at=time)

    assert rows(reader, **{"from": "2026-11-20", "to": "2026-11-22"}) == ["the 22th"]
    assert rows(reader, **{"to": "2026-11-21"}) == ["the 20th"]
    assert rows(reader, **{"from": "2026-11-24", "to": "2026-11-20"}) == ["the 24th", "the 22th"]
    assert rows(reader, **{"from": "2026-11-25"}) == []
    assert rows(reader, **{"from": "yesterday"}) == ["the 24th", "the 22th"]


def test_front_page_leads_to_the_page_for_who_may_view_messages(reader: Client) -> None:
    door = reverse("admin:cellcast_desk_toanswer_changelist")
    index = reverse("admin:index")

    assert door in addresses(reader.get(index).text)
    assert reader.get(door)["Location"] == url_of("message", "to_answer")
    other = staff("view_webhookevent")
    assert door not in addresses(other.get(index).text)
    assert other.get(door).status_code == 403
    assert not Permission.objects.filter(content_type__app_label="cellcast_desk").exists()


@pytest.mark.parametrize(
    ("permissions", "names"),
    [
        (("view_message",), {"to_answer", "figures"}),
        (("view_message", "write_message"), {"to_answer", "new", "figures"}),
        (("write_message",), {"new"}),
        (("view_webhookevent", "view_activity"), {"overview", "activity"}),
    ],
)
def test_tabs_lead_to_what_the_person_may_open_and_mark_the_present_page(
    settings: Any, permissions: tuple[str, ...], names: set[str]
) -> None:
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    person = staff(*permissions)
    ask(5, "Hello?")
    below = {"to_answer": "message_", "new": "message_"}
    urls = {name: reverse(f"admin:cellcast_django_{below.get(name, '')}{name}") for name in names}

    for url in urls.values():
        page = person.get(url).text
        tabs = every(page, "nav[@class='cellcast-tabs']//a")
        assert {tab.get("href") for tab in tabs} == set(urls.values())
        assert [tab.get("href") for tab in tabs if tab.get("aria-current")] == [url]
        counts = every(page, "a/strong[@class='cellcast-badge']")
        assert [words(count) for count in counts] == (["1"] if "to_answer" in names else [])


def test_message_list_marks_new_and_done_replies(reader: Client, receptionist: Client) -> None:
    handled = ask(30, "Hello?")
    done_in_row(receptionist, handled)
    waiting = ask(20, "Anybody there?")
    MessageFactory.create()

    assert listed(reader, "message", handled="new") == [waiting.pk]
    assert listed(reader, "message", handled="done") == [handled.pk]
    assert len(listed(reader, "message", handled="x")) == 3
    sent = reader.get(url_of("message", direction="outbound")).context["cl"].filter_specs
    assert "handled" not in {name for spec in sent for name in spec.expected_parameters()}


def test_customer_who_has_opted_out_waits_with_a_badge_and_without_a_form(
    settings: Any,
) -> None:
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    person = staff("view_message", "answer_message", "view_optout", "add_optout")
    opt_out(CUSTOMER)
    reply = ask(5, "I changed my mind, and my tooth hurts")

    page = page_of(person, "message", "to_answer")

    row = only(page, f"tr[@id='cellcast-waiting-{reply.pk}']")
    assert "opted out" in words(row)
    assert not every(row, "a[@data-opt-out]")


def test_only_who_may_want_to_stop_is_one_click_from_opting_out(reader: Client) -> None:
    person = staff("view_message", "view_optout", "add_optout")
    first, newest = ask(20, "no texts please"), ask(10, "Thank you")
    ask(5, "Are you open?", OTHER)

    [link] = every(page_of(person, "message", "to_answer"), "a[@data-opt-out]")

    assert link.get("data-opt-out") == str(newest.pk)
    assert link.get("href", "").startswith(url_of("optout", "add", message=first.pk))
    assert not every(page_of(reader, "message", "to_answer"), "a[@data-opt-out]")


def opt_out_form(person: Client, **query: str) -> tuple[str, dict[str, str]]:
    """Return the first form that the list leads to, and what opting out there sends."""
    page = page_of(person, "message", "to_answer", **query)
    url = next(each for each in addresses(page) if "/optout/add/" in each and "back=" in each)
    form = only(person.get(url).text, "form[@id='optout_form']")
    [number] = every(form, "input[@name='number']")
    typed = {"number": number.get("value", ""), "reason": "asked"}
    return url, hidden_fields(form) | typed


@pytest.mark.parametrize("query", [{}, {"order": "longest", "q": "0400 000 001"}])
def test_opting_out_returns_to_the_place_in_the_list(query: dict[str, str]) -> None:
    person = staff("view_message", "view_optout", "add_optout", "handle_message")
    ask(10, "no texts please")
    following = ask(20, "two", OTHER)

    response: Any = person.post(*opt_out_form(person, **query))

    place = "" if query else f"#cellcast-waiting-{following.pk}"
    assert response.url == url_of("message", "to_answer", **query) + place


# Done


def test_done_handles_the_reply_and_its_customers_earlier_ones(
    receptionist: Client,
) -> None:
    earlier, reply = ask(20, "Hello?"), ask(10, "Anybody there?")
    later, other = ask(1, "And now?"), ask(30, "Hi", OTHER)

    page: Any = receptionist.post(url_of("message", "handle"), {"one": reply.pk}, follow=True)

    assert levels(page) == []
    assert set(Message.objects.unhandled()) == {later, other}
    user = User.objects.get()
    for each in (earlier, reply):
        each.refresh_from_db()
        assert each.handled_by == user.username
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user) == (str(reply.pk), user)


def test_done_keeps_a_colleagues_mark(receptionist: Client) -> None:
    reply = ask(20, "Hello?")
    colleague = staff("view_message", "handle_message")
    done_in_row(colleague, reply)
    before = Message.objects.values("handled_at", "handled_by").get()

    response = done_in_row(receptionist, reply, follow=True)

    assert Message.objects.values("handled_at", "handled_by").get() == before
    told = receptionist.get(response["Location"]).context["messages"]
    assert [before["handled_by"] in str(message) for message in told] == [True]


@pytest.mark.parametrize("back", ["", "conversation"])
def test_done_for_one_own_number_leaves_replies_to_another(receptionist: Client, back: str) -> None:
    """The list that is narrowed to one of your numbers does not show the other's replies."""
    ours, theirs = "+61480000001", "+61480000002"
    to_them = ask(30, "Are you open?", receiver=theirs)
    earlier, reply = ask(20, "Hello?", receiver=ours), ask(10, "Yes", receiver=ours)
    url = f"{url_of('message', 'handle')}?own=%2B61480000001"

    receptionist.post(url, {"one": reply.pk, "back": back})

    assert list(Message.objects.unhandled()) == [to_them]
    earlier.refresh_from_db()
    assert earlier.handled_at is not None


@pytest.mark.parametrize("page", ["to_answer", "conversation", "change"])
def test_done_leaves_replies_stored_since_by_a_slow_clock(receptionist: Client, page: str) -> None:
    reply = ask(10, "Hello?")
    url = url_of("message", page, *([reply.pk] if page != "to_answer" else []))
    forms = every(receptionist.get(url).text, "form[@method='post']")
    [form] = [each for each in forms if "seen" in hidden_fields(each)]
    late = ask(20, "And on Sunday?")

    receptionist.post(url_of("message", "handle"), {**hidden_fields(form), "one": str(reply.pk)})

    assert list(Message.objects.unhandled()) == [late]


def test_ticked_customers_are_marked_done_with_one_log_entry(receptionist: Client) -> None:
    ticked = [ask(20, "one"), ask(10, "one again"), ask(10, "two", OTHER)]
    ask(15, "one, in between")
    left, in_row = ask(5, "three", THIRD), ask(5, "four", "+61400000004")
    done(receptionist, *ticked)

    assert set(Message.objects.unhandled()) == {left, in_row}
    assert LogEntry.objects.get().object_id is None
    done_in_row(receptionist, in_row, reply=[left.pk])  # ticked, and left alone
    assert list(Message.objects.unhandled()) == [left]


def test_done_returns_to_the_following_row(receptionist: Client) -> None:
    replies = [ask(each, f"{each} teeth", f"+6140000000{each}") for each in (1, 2, 3)]
    query = "?order=longest&from=2026-01-01&q=teeth"
    page = receptionist.get(url_of("message", "to_answer") + query).text
    form = only(page, "form[@class='cellcast-waiting']")
    ids = [
        row.get("id", "") for row in every(page, "form[@class='cellcast-waiting']//table/tbody/tr")
    ]

    def place_after(reply: Message) -> str:
        data = hidden_fields(form) | {"one": str(reply.pk)}
        location: str = receptionist.post(form.get("action", ""), data)["Location"]
        assert location.startswith(url_of("message", "to_answer") + query)
        return location.partition("#")[2]

    assert place_after(replies[1]) == ids[2]
    assert place_after(replies[0]) == ids[0]  # the last: back to the one before
    assert place_after(replies[2]) == ""


def test_done_requires_its_permission(reader: Client, receptionist: Client) -> None:
    reply, sent = ask(10, "Hello?"), MessageFactory.create()

    for page in ("handle", "reopen"):
        address = url_of("message", page)
        assert reader.get(address).status_code == 403
        assert reader.post(address, {"one": reply.pk}).status_code == 403
        assert staff("handle_message").post(address, {"one": reply.pk}).status_code == 403
    assert done_in_row(receptionist, sent).status_code == 404
    assert done(receptionist).status_code == 404  # without a tick
    assert not LogEntry.objects.exists()
    assert Message.objects.unhandled().count() == 1
    for page, *arguments in (("to_answer",), ("conversation", reply.pk), ("change", reply.pk)):
        html = page_of(reader, "message", page, *arguments)
        assert not every(html, "button[@name='one']")
        assert not every(html, "input[@name='reply']")


@pytest.mark.parametrize("page", ["handle", "reopen"])
def test_click_after_the_session_has_ended_says_that_nothing_was_done(
    receptionist: Client, page: str
) -> None:
    reply, address = ask(10, "Hello?"), url_of("message", page)
    receptionist.logout()
    login = receptionist.post(address, {"one": reply.pk})["Location"]
    assert login.endswith(f"/login/?next={address}")
    receptionist.force_login(User.objects.get())

    response = receptionist.get(address, follow=True)

    assert response.redirect_chain == [(reverse("admin:index"), 302)]
    assert levels(response) == ["warning"]
    assert list(Message.objects.unhandled()) == [reply]


# A note with Done


@pytest.mark.parametrize("note", ["", "Phoned her, comes on Friday."])
def test_newest_reply_alone_has_the_note_and_reopening_empties_it(
    rf: RequestFactory, note: str
) -> None:
    viewer = Viewer(site, rf.get("/"))
    viewer.request.user = User.objects.create_superuser("kim")
    ask(20, "Hello?", handled_note="left by older code")
    reply = ask(10, "Anybody there?")
    keys = [row.pk for row in handling.with_earlier(viewer, Message.objects.filter(pk=reply.pk))]

    assert handling.mark(viewer, keys, timezone.now(), note) == (2, note != "")
    marks = Message.objects.values_list("handled_by", "handled_note")
    assert [*marks.order_by("pk")] == [("kim", ""), ("kim", note)]
    assert handling.reopen(viewer, handling.handled_with(viewer, Message.objects.all())) == 2
    assert [*marks] == [("", "")] * 2


def test_note_that_comes_second_is_not_kept(rf: RequestFactory) -> None:
    viewer = Viewer(site, rf.get("/"))
    viewer.request.user = User.objects.create_superuser("kim")
    earlier, reply = ask(20, "Hello?"), ask(10, "Anybody there?")
    reply.mark_handled(username="sam")

    marked = handling.mark(viewer, [reply.pk, earlier.pk], timezone.now(), "Phoned her.")

    assert marked == (1, False)
    marks = Message.objects.order_by("pk").values_list("handled_by", "handled_note")
    assert [*marks] == [("kim", ""), ("sam", "")]


def test_note_of_a_click_is_kept_once(receptionist: Client) -> None:
    reply, note = ask(20, "Hello?"), "Phoned her."
    form = {"note": f" {note} ", "back": "conversation"}
    places = [done_in_row(receptionist, reply, **form)["Location"] for _ in range(2)]
    assert all("#cellcast-done-" in place for place in places), "a double click"
    page = receptionist.get(places[1])
    assert words(only(page.text, f"bdi[@data-note='{reply.pk}']")) == note
    assert levels(page) == []
    assert note not in str(LogEntry.objects.values())

    second = staff("view_message", "handle_message")
    response = done_in_row(second, reply, note="I did, too.", follow=True)
    assert "#cellcast-done-" not in response["Location"]
    assert levels(second.get(response["Location"])) == ["info", "warning"]
    reply.refresh_from_db()
    assert reply.handled_note == note


def test_note_that_is_too_long_comes_back_with_the_text(receptionist: Client) -> None:
    reply, form = ask(20, "Hello?"), {"back": "next", "note": "n" * 201, "text": "Yes"}
    response = done_in_row(receptionist, reply, **form)

    assert levels(response) == ["error"]
    assert only(response.text, "input[@name='note']").get("value") == form["note"]
    assert list(Message.objects.unhandled()) == [reply]
    assert not LogEntry.objects.exists()


# Undo


def test_undo_reopens_what_the_click_handled(receptionist: Client) -> None:
    """What an earlier click has marked stays: the page may be an old one, by the browser's Back."""
    before = ask(60, "long ago", THIRD)
    done_in_row(receptionist, before)
    replies = [ask(20, "one"), ask(30, "earlier"), ask(10, "two", OTHER)]
    MessageFactory.create(receiver=CUSTOMER, created_at=timezone.now() - timedelta(minutes=5))
    for _ in range(2):  # a double click
        response = done(receptionist, before, replies[0], replies[2])
    assert LogEntry.objects.count() == 2

    response = undo(receptionist, receptionist.get(response["Location"]).text)

    assert levels(response) == ["success"]
    assert set(Message.objects.unhandled()) == set(replies)
    assert not Message.objects.filter(handled_at=None).exclude(handled_by="").exists()
    assert LogEntry.objects.count() == 3


def test_undo_leaves_customers_answered_since_and_says_so(receptionist: Client) -> None:
    answered, other = ask(20, "one"), ask(10, "two", OTHER)
    page = receptionist.get(done(receptionist, answered, other)["Location"]).text
    Message.objects.record_sent("an answer", receiver=CUSTOMER)

    assert levels(undo(receptionist, page)) == ["success", "warning"]

    assert list(Message.objects.unhandled()) == [other]


def test_undo_says_whose_it_is(receptionist: Client, know: Know) -> None:
    know(names=lambda contacts: dict.fromkeys(contacts, "Mrs Lee"))
    reply, following = ask(20, "one"), ask(30, "two", OTHER)
    for back, at in (("next", following), ("change", reply)):
        page = receptionist.get(done_in_row(receptionist, reply, back=back)["Location"])
        assert f"/{at.pk}/" in page.request["PATH_INFO"]
        said = words(only(page.text, "form[@class='cellcast-undo']"))
        assert "0400 000 001 (Mrs Lee)" in said
        undo(receptionist, page.text)
        assert set(Message.objects.unhandled()) == {reply, following}


def test_undo_of_nothing_warns(receptionist: Client) -> None:
    reply = ask(20, "one")
    page = receptionist.get(done_in_row(receptionist, reply)["Location"]).text

    undo(staff("view_message", "handle_message"), page)  # of a colleague's
    assert not Message.objects.unhandled().exists()
    Message.objects.record_sent("an answer", receiver=CUSTOMER)
    assert levels(undo(receptionist, page)) == ["warning"]
    for form in ({"replies": "x,0", "back": "conversation"}, {"one": "123456", "back": "change"}):
        broken = receptionist.post(url_of("message", "reopen"), form, follow=True)
        assert levels(broken) == ["warning"]
    assert LogEntry.objects.count() == 1


# Many at once


def mark(client: Client, **form: Any) -> Any:
    """Run an action of the list, and confirm it if it asks."""
    data = {"action": "mark_done", "index": 0, **form}
    response = client.post(url_of("message"), data, follow=True)
    if "cellcast-customers" in response.text:
        fields = hidden_fields(only(response.text, "form[@id='cellcast-confirm']"))
        response = client.post(url_of("message"), fields, follow=True)
    return response


@pytest.mark.parametrize("action", ["mark_done", "mark_new"])
def test_action_marks_the_selected_replies_whoever_had_marked_them(
    receptionist: Client, reader: Client, action: str
) -> None:
    replies, kept = [ask(20, "one"), ask(10, "two", OTHER)], ask(5, "three", THIRD)
    is_done = action == "mark_done"
    for reply in [kept] if is_done else [*replies, kept]:
        reply.mark_handled(username="kim")
    untouched = ask(40, "of whom a sent message is selected", "+61400000004")
    before = set(Message.objects.unhandled())
    sent = MessageFactory.create(receiver=untouched.contact)
    selected = [*replies, sent, *([kept] if is_done else [])]
    form = {"action": action, "_selected_action": [each.pk for each in selected]}

    mark(reader, **form)
    assert set(Message.objects.unhandled()) == before
    response = mark(receptionist, **form)

    assert levels(response) == ["success"]
    assert set(Message.objects.unhandled()) == {untouched, *([] if is_done else replies)}
    user: Any = User.objects.order_by("pk").first()
    by = user.username if is_done else ""
    marked_by = Message.objects.inbound().order_by("pk").values_list("handled_by", flat=True)
    assert list(marked_by) == [by, by, "kim", ""]
    mark(receptionist, **form)
    assert LogEntry.objects.get().change_message.startswith("Marked" if is_done else "Reopened")
    assert ("as done" in str(*response.context["messages"])) == is_done


@pytest.mark.parametrize("action", ["mark_done", "mark_new"])
def test_action_on_more_than_fifty_asks_and_says_how_many_customers(
    receptionist: Client, action: str
) -> None:
    """Sixty replies of thirty-one customers, one of them without a number."""
    first = ask(20, "one")
    contacts = [*(f"+614000100{number % 29:02}" for number in range(58)), ""]
    add_copies(first, 59, lambda number: {"contact": contacts[number], "sender": ""})
    done_at = timezone.now() if action == "mark_new" else None
    Message.objects.update(handled_at=done_at)
    form = {"action": action, "index": 0, "_selected_action": first.pk, "select_across": 1}

    page = receptionist.post(url_of("message"), form)

    asked = only(page.text, "p[@id='cellcast-customers']")
    assert (asked.get("data-replies"), asked.get("data-customers")) == ("60", "31")
    assert Message.objects.filter(handled_at=done_at).count() == 60
    assert not LogEntry.objects.exists()
    late = ask(0, "and now?", handled_at=done_at)
    fields = hidden_fields(only(page.text, "form[@id='cellcast-confirm']"))
    receptionist.post(url_of("message"), fields)
    assert list(Message.objects.filter(handled_at=done_at)) == [late]
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("configured", "own_number"),
    [
        (["+61480000001", "+61480000002"], "+61480000001"),
        (["+61480000002", "BrightTeeth"], OTHER_NUMBERS),
        ([], "+61480000001"),
    ],
)
def test_action_leaves_replies_to_a_number_that_the_list_does_not_show(
    receptionist: Client, settings: Any, configured: list[str], own_number: str
) -> None:
    ours, theirs = "+61480000001", "+61480000002"
    settings.CELLCAST_OWN_NUMBERS = configured
    for sender in (ours, "BrightTeeth"):
        Message.objects.record_sent(sender, receiver=OTHER, sender=sender)
    ask(20, "before", receiver=ours)
    to_them, reply = ask(30, "earlier", receiver=theirs), ask(10, "later", receiver=ours)
    data = {"action": "mark_done", "index": 0, "_selected_action": reply.pk}

    receptionist.post(url_of("message", own_number=own_number), data)
    assert list(Message.objects.unhandled()) == [to_them]
    again = ask(5, "again", receiver=ours)
    data["_selected_action"] = again.pk
    receptionist.post(url_of("message", own_number="+61499999999"), data)
    assert not Message.objects.unhandled().exists()


@pytest.mark.parametrize("page", ["change", "conversation"])
def test_reopen_takes_back_at_any_time_what_anybody_marked(receptionist: Client, page: str) -> None:
    long_ago, earlier, reply = ask(90, "before"), ask(20, "Hello?"), ask(10, "Anybody there?")
    colleague = staff("view_message", "handle_message")
    done_in_row(colleague, long_ago)
    done_in_row(colleague, reply)
    Message.objects.record_sent("an answer", receiver=CUSTOMER)
    other = ask(5, "two", OTHER)
    other.mark_handled()
    url = url_of("message", page, reply.pk)
    assert not every(staff("view_message").get(url).text, "form[@id='cellcast-reopen']")

    form = only(receptionist.get(url).text, "form[@id='cellcast-reopen']")
    response = receptionist.post(form.get("action", ""), hidden_fields(form), follow=True)

    assert response.redirect_chain == [(url, 302)]
    assert set(Message.objects.unhandled()) == {earlier, reply}
    assert LogEntry.objects.filter(object_id=str(reply.pk)).count() == 2
    assert not every(response.text, "form[@id='cellcast-reopen']")
    again = receptionist.post(form.get("action", ""), hidden_fields(form), follow=True)
    assert levels(again) == ["warning"]


@pytest.mark.parametrize("query", [{"q": CUSTOMER}, {"handled": "done"}])
def test_list_that_was_narrowed_offers_reopen(
    receptionist: Client, reader: Client, query: dict[str, str]
) -> None:
    reply, waiting = ask(9, "done"), ask(5, "waiting")
    receptionist.post(url_of("message", "handle"), {"one": reply.pk})
    MessageFactory.create(receiver=CUSTOMER)

    def buttons(client: Client, **query: str) -> list[Any]:
        return every(page_of(client, "message", **query), "button[@name='one']")

    assert buttons(receptionist) == buttons(reader, **query) == []
    [button] = buttons(receptionist, **query)
    assert button.get("value") == str(reply.pk)
    response: Any = receptionist.post(button.get("formaction", ""), {"one": reply.pk})

    assert response.url == url_of("message", **query)
    assert set(Message.objects.unhandled()) == {reply, waiting}


@pytest.mark.parametrize(("seconds", "batches"), [(0.0, 5), (MAX_SECONDS * 0.4, 2)])
def test_action_commits_in_batches_and_reports_how_many_are_left_after_20_seconds(
    receptionist: Client, monkeypatch: pytest.MonkeyPatch, seconds: float, batches: int
) -> None:
    monkeypatch.setattr(marking, "BATCH_SIZE", 10)
    monkeypatch.setattr(marking, "monotonic", count(step=seconds).__next__)
    add_copies(ask(20, "one"), 40, lambda number: {"contact": f"+614000100{number:02}"})

    with CaptureQueriesContext(connection) as captured:
        newest = Message.objects.latest("pk").pk
        response = mark(receptionist, _selected_action=[newest], select_across=1)

    updates = [q["sql"] for q in captured if q["sql"].startswith("UPDATE")]
    assert len([sql for sql in updates if "cellcast_django_message" in sql]) == batches
    marked = min(10 * batches, 41)
    assert Message.objects.unhandled().count() == 41 - marked
    said = [str(message) for message in response.context["messages"]]
    assert levels(response) == ["success", "warning"][: len(said)]
    for number, sentence in zip((marked, 41 - marked), said, strict=False):
        assert str(number) in sentence
    assert len(said) == (2 if marked < 41 else 1)


# What is new


def test_news_counts_waiting_and_new_customers(reader: Client) -> None:
    ask(30, "one")
    url = only(page_of(reader, "message", "to_answer"), "p[@data-news]").get("data-news", "")
    assert reader.get(url).json() == {"waiting": "1", "new": 0}

    ask(20, "two", OTHER)
    ask(10, "three", OTHER)
    ask(5, "four")
    ask(60, "from a clock that is slow", THIRD)
    MessageFactory.create()

    assert reader.get(url).json() == {"waiting": "3", "new": 3}
    assert reader.get(url_of("message", "news", since="x")).json() == {"waiting": "3", "new": 0}


def test_news_does_not_prolong_the_session(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    settings.SESSION_SAVE_EVERY_REQUEST = True
    reader = staff("view_message")
    session = Session.objects.get()

    response = reader.get(url_of("message", "news"))

    assert response.status_code == 200
    assert not response.cookies
    assert Session.objects.get().expire_date == session.expire_date
    assert reader.get(url_of("message", "to_answer")).cookies


class ReadsTheSession:
    """A host project's middleware that looks at the session after the response."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        response = self.get_response(request)
        response["X-User"] = request.session.get("_auth_user_id", "")
        response["X-Key"] = request.session["_auth_user_id"]
        return response


def test_news_leaves_the_session_to_a_middleware(settings: Any, reader: Client) -> None:
    name = f"{ReadsTheSession.__module__}.{ReadsTheSession.__qualname__}"
    place = settings.MIDDLEWARE.index("django.contrib.sessions.middleware.SessionMiddleware")
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE[: place + 1],
        name,
        *settings.MIDDLEWARE[place + 1 :],
    ]
    response = reader.get(url_of("message", "news"))
    assert response.status_code == 200
    assert response["X-User"] == response["X-Key"] == reader.session["_auth_user_id"]


# A host's own querysets


def test_restricted_site_shows_and_marks_only_its_own_replies(
    admin_client: Client, show: Show
) -> None:
    show(Message, lambda rows: rows.exclude(receiver="+61480000002"))
    hidden = ask(20, "of another practice", receiver="+61480000002")
    shown = ask(10, "ours")
    theirs = ask(5, "theirs", OTHER, receiver="+61480000002")

    assert rows(admin_client) == ["ours"]
    assert admin_client.get(url_of("message", "news")).json()["waiting"] == "1"
    assert done_in_row(admin_client, theirs).status_code == 404

    done_in_row(admin_client, shown)

    assert set(Message.objects.unhandled()) == {hidden, theirs}
    undo(admin_client, page_of(admin_client, "message", "to_answer"))
    assert set(Message.objects.unhandled()) == {hidden, shown, theirs}


def test_lists_never_name_or_link_hidden_messages(reader: Client, show: Show) -> None:
    for _ in range(2):
        WebhookEventFactory.create(reply=True)
    shown, hidden = Message.objects.order_by("pk")
    Message.objects.filter(pk=hidden.pk).update(contact=OTHER, body="of another practice")
    show(Message, lambda rows: rows.exclude(pk=hidden.pk))

    of_hidden = WebhookEvent.objects.get(message=hidden)
    event = url_of("webhookevent", "change", of_hidden.pk)
    for address in (url_of("statuschange"), url_of("webhookevent"), event):
        page = reader.get(address).text
        links = " ".join(addresses(page))
        assert (f"/message/{shown.pk}/" in links) == (address != event)
        assert f"/message/{hidden.pk}/" not in links
        assert "0400 000 002" not in page
        assert "of another practice" not in page


def test_customer_of_a_hidden_message_is_nobody(reader: Client, show: Show) -> None:
    shown, hidden = ask(2, "ours"), ask(1, "of another practice")
    assert listed(reader, "message", customer_of=hidden.pk) == [hidden.pk, shown.pk]

    show(Message, lambda rows: rows.exclude(pk=hidden.pk))

    assert listed(reader, "message", customer_of=shown.pk) == [shown.pk]
    assert listed(reader, "message", customer_of=hidden.pk) == []


@pytest.mark.django_db(transaction=True)
def test_done_is_retried_after_a_serialisation_failure(
    receptionist: Client,
) -> None:
    reply = ask(5, "May I come later?")
    with refusing("^UPDATE .*handled_at", error=refused_for_another(), times=1) as refusals:
        assert done(receptionist, reply).status_code == 302
    assert refusals.count == 1
    assert not Message.objects.unhandled().exists()


@pytest.mark.parametrize("page", ["changelist", "export", "to_answer"])
def test_nul_in_the_url_breaks_no_page(admin_client: Client, page: str) -> None:
    """PostgreSQL refuses it."""
    for name in ("own" if page == "to_answer" else "own_number", "from", "reason"):
        ask = admin_client.post if page == "export" else admin_client.get
        response: Any = ask(url_of("message", page, **{name: "\x00"}))
        assert response.status_code == 200
