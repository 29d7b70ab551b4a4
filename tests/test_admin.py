"""The admin: what people see, what they may do, and what each page costs."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import cellcast_django
from cellcast_django.admin import MessageAdmin
from cellcast_django.admin.display.badges import handled_badge, status_badge
from cellcast_django.admin.lists.filters import StatusFilter
from cellcast_django.admin.lists.search import MAX_KEYS
from cellcast_django.admin.own_numbers import MAX_VALUES
from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    OptOutFactory,
    WebhookEventFactory,
)
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.signals import status_changed
from cellcast_django.statuses import Status
from cellcast_django.testing import WebhookClient
from tests.admin_pages import (
    CUSTOMER,
    ID,
    MODELS,
    Know,
    changelist_at,
    fill,
    listed,
    make_invalid,
    page_of,
    staff,
    text_of,
    url_of,
)
from tests.handlers import Calls, Connect
from tests.html import addresses, every, only, section, tones, words
from tests.plans import gather_statistics, queries_of, scans

pytest_plugins = ["tests.admin_lists"]
pytestmark = pytest.mark.django_db
only_on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="asks SQLite itself")

# Nothing is added, changed or deleted by hand


@pytest.mark.parametrize("model", [*MODELS, "optout"])
def test_rows_cannot_be_added_changed_or_deleted_by_hand(admin_client: Client, model: str) -> None:
    WebhookEventFactory.create()
    OptOutFactory.create()
    rows: Any = apps.get_model("cellcast_django", model)._default_manager
    row = rows.get()

    if model != "optout":
        assert admin_client.get(url_of(model, "add")).status_code == 403
    assert admin_client.post(url_of(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert admin_client.post(url_of(model, "change", row.pk), {"status": "x"}).status_code == 403
    page = page_of(admin_client, model, "change", row.pk)
    inputs = every(only(page, "main"), "input")
    assert {field.get("type") for field in inputs} <= {"hidden"}
    assert "delete_selected" not in page_of(admin_client, model)
    assert rows.get() == row


@pytest.mark.parametrize("model", MODELS)
def test_pages_require_the_view_permission(client: WebhookClient, model: str) -> None:
    client.status()
    others = staff(*(f"view_{name}" for name in MODELS if name != model))

    assert others.get(url_of(model)).status_code == 403
    assert staff().get(url_of(model)).status_code == 403
    assert Client().get(url_of(model)).status_code == 302
    assert staff(f"view_{model}").get(url_of(model)).status_code == 200


# Messages


def test_message_list_shows_direction_contact_first_words_and_status(
    reader: Client, client: WebhookClient
) -> None:
    client.reply(message="Yes,\n I will   be there. " + "And more of it. " * 10)
    MessageFactory.create(inbound=True, body="done", handled_at=timezone.now())
    MessageFactory.create(status="failed")

    page = page_of(reader, "message")

    assert words(only(page, "div[@id='content']//h1")) == "Messages"
    directions = every(page, "span[@class='cellcast-direction']")
    assert [words(each) for each in directions] == ["↗", "↙", "↙"]
    assert "0400 000 000" in text_of(page)
    text = words(only(page, "bdi[@class='cellcast-line cellcast-waits']"))
    assert text.startswith("Yes, I will be there. And more of it.") and text.endswith("…")
    assert text.count("And more of it.") < 10
    assert handled_badge(None) in page
    assert status_badge("delivered") not in page


def test_message_list_loads_only_the_start_of_each_text(reader: Client) -> None:
    Message.objects.record_sent(ID, receiver=CUSTOMER, body="x" * 100_000)

    response = reader.get(url_of("message"))

    [message] = response.context["cl"].result_list
    assert message.get_deferred_fields() == {"body", "original_body"}
    assert len(message.beginning) < 200


def test_texts_statuses_and_raw_events_are_escaped(reader: Client, client: WebhookClient) -> None:
    client.status(status="<b>odd</b>")
    for page in (page_of(reader, "message"), page_of(reader, "statuschange")):
        assert "<b>odd</b>" not in page
        assert "&lt;b&gt;odd&lt;/b&gt;" in page
    client.reply(reply="<script>alert(1)</script>", message="<img src=x onerror=alert(2)>")
    message = Message.objects.inbound().get()

    pages = [
        page_of(reader, "message"),
        page_of(reader, "message", "change", message.pk),
        page_of(reader, "webhookevent", "change", message.events.get().pk),
    ]

    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in pages[1]


@pytest.mark.parametrize("with_desk", [False, True])
def test_every_css_class_used_has_a_rule(with_desk: bool) -> None:
    core = Path(cellcast_django.__file__).parent
    files = [path for path in core.rglob("*") if with_desk or core / "desk" not in path.parents]
    rules = "".join(path.read_text() for path in files if path.suffix == ".css")
    used = {
        name
        for source in files
        if source.suffix in {".html", ".py"}
        for classes in re.findall(r'class="([^"]*)"', source.read_text())
        for name in re.findall(r"cellcast-[\w-]+(?![\w{-])", classes)
    }
    assert used
    assert {name for name in used if f".{name}" not in rules} == set()


def test_message_shows_timeline_and_marks_late_reports(
    reader: Client, client: WebhookClient
) -> None:
    client.status(status="delivered")
    client.status(status="received")
    client.status(status="received")

    page = page_of(reader, "message", "change", Message.objects.get().pk)

    submitted, first, second = every(page, "ol[@class='cellcast-timeline']/li")
    assert "• submitted" in words(submitted)
    assert [step.get("class") for step in (first, second)] == [None, "cellcast-late"]
    assert str(Status.DELIVERED.description) in words(first)
    assert str(Status.RECEIVED.description) in words(second)
    assert words(every(second, "p")[0]).endswith(str(Status.DELIVERED.label))  # which stays


QUOTE = "div[@class='cellcast-text cellcast-words']"


def test_reply_shows_what_it_quotes_or_links_to_the_message_it_answers(reader: Client) -> None:
    sent = MessageFactory.create(receiver=CUSTOMER, body="Are you coming?")
    inbound = {"inbound": True, "sender": CUSTOMER, "body": "YES"}
    answer = MessageFactory.create(**inbound)
    quoting = MessageFactory.create(original_body="Is Tuesday fine?", **inbound)

    page = page_of(reader, "message", "change", answer.pk)
    link = only(page, f"a[@data-answered='{sent.pk}']")
    assert link.get("href") == url_of("message", "change", sent.pk)
    assert words(link) == "Are you coming?"
    page = page_of(reader, "message", "change", quoting.pk)
    assert words(only(page, "div[@class='cellcast-text cellcast-body']")) == "YES"
    assert words(only(page, QUOTE)) == "Is Tuesday fine?"
    assert "data-answered" not in page and "submit-row" not in page
    trail = only(page, "ol[@class='breadcrumbs']/li[@aria-current='page']")
    assert words(trail).startswith("Reply of ")


def test_reference_is_shown_and_searchable(reader: Client) -> None:
    message = MessageFactory.create(receiver=CUSTOMER, reference="Booking-7")
    MessageFactory.create(receiver=CUSTOMER, body="Booking-77", reference="Booking-77")

    assert listed(reader, "message", q=" Booking-7 ") == [message.pk]
    assert "Booking-7" in page_of(reader, "message", "change", message.pk)
    assert "1 result " in text_of(page_of(reader, "message", q="Booking-7"))


@pytest.mark.parametrize("handled_at", [None, timezone.now()])
def test_note_is_shown_and_exported_where_its_reply_is_handled(handled_at: datetime | None) -> None:
    """Older code, beside this one in a deploy, takes a mark back and leaves its note."""
    note = "<b>Phoned her</b> ☎"
    reply = MessageFactory.create(inbound=True, handled_at=handled_at, handled_note=note)
    client = staff("view_message", "view_statuschange", "export_message")

    page = page_of(client, "message", "change", reply.pk)
    response: Any = client.post(url_of("message", "export"))

    shown = [note] if handled_at else []
    assert [each.text for each in every(page, "bdi[@data-note]")] == shown
    assert (note in b"".join(response.streaming_content).decode()) == bool(shown)


@pytest.mark.parametrize("is_hidden", [False, True])
def test_waiting_event_links_to_the_event_it_waits_for_if_the_person_may_see_that(
    reader: Client, monkeypatch: pytest.MonkeyPatch, *, is_hidden: bool
) -> None:
    earlier, later = WebhookEventFactory.create_batch(2, reply=True)
    HandlerCallFactory.create(event=earlier, running=True, contact=CUSTOMER)
    HandlerCallFactory.create(event=later, waiting=True, contact=CUSTOMER)
    if is_hidden:
        shown = WebhookEvent.objects.exclude(pk=earlier.pk)
        events = admin.site.get_model_admin(WebhookEvent)
        monkeypatch.setattr(events, "get_queryset", lambda request: shown.all())
    pages = [
        page_of(reader, "webhookevent", outcome="pending"),
        page_of(reader, "webhookevent", "change", later.pk),
        page_of(reader, "message", "change", later.message_id),
        page_of(reader, "handlercall"),
    ]

    url = url_of("webhookevent", "change", earlier.pk)
    for page in pages:
        links = every(page, f"a[@href='{url}']/span/..")
        assert [words(each)[-1] for each in links] == [str(earlier.pk)[-1]] * (not is_hidden)
        assert f"waiting for event {earlier.pk}" in text_of(page)


MEDIA = "span[@class='cellcast-media']"


def test_three_pictures_are_links_in_a_list_without_referrer_or_odd_scheme(
    reader: Client, client: WebhookClient
) -> None:
    first = ["https://media.example.com/a.jpg?a=1&b=2", 'https://media.example.com/"2"']
    client.reply(media=first + [f"https://media.example.com/{number}.jpg" for number in range(18)])
    message = Message.objects.get()
    pages = [page_of(reader, "message"), page_of(reader, "message", "change", message.pk)]

    for page, shown in zip(pages, (3, 20), strict=True):
        links = [words(link) for link in every(every(page, MEDIA)[0], "a")]
        assert links == [str(number) for number in range(1, shown + 1)]
        assert (
            'href="https://media.example.com/a.jpg?a=1&amp;b=2" rel="noopener noreferrer"' in page
        )
        assert "https://media.example.com/&quot;2&quot;" in page
        assert "<img" not in page.replace('<img src="/static/', "")
    assert re.match(r"20 .* …$", words(only(pages[0], MEDIA)))
    Message.objects.update(media=["javascript:alert(1)"])
    page = page_of(reader, "message", "change", message.pk)
    assert "javascript:alert" not in page
    assert not every(page, MEDIA)


def test_failure_reason_is_shown_on_lists_and_message_page(
    reader: Client, client: WebhookClient
) -> None:
    client.status(status="failed", reason="no such <number>")
    message = Message.objects.get()
    change = message.status_history.get()

    assert "no such <number>" in text_of(page_of(reader, "message"))
    assert "no such <number>" in text_of(page_of(reader, "statuschange"))
    page = page_of(reader, "message", "change", message.pk)
    timeline = section(page, "timeline")
    assert "no such <number>" in words(only(timeline, "p[@class='cellcast-reason']"))
    assert "no such <number>" in words(only(page, "section[@class='module cellcast-summary']"))
    assert "no such <number>" in text_of(page_of(reader, "statuschange", "change", change.pk))
    client.status(status="delivered")
    assert "no such <number>" not in text_of(page_of(reader, "message"))


def test_empty_text_and_contact_are_marked_as_empty(reader: Client, client: WebhookClient) -> None:
    client.status(receiver="")

    for page in ((), ("change", Message.objects.get().pk)):
        words = text_of(page_of(reader, "message", *page))
        assert "(no number)" in words
        assert "(text not recorded)" in words
    assert f">{ID}</a>" in page_of(reader, "statuschange")


def test_history_and_events_require_their_view_permissions(client: WebhookClient) -> None:
    client.status()
    arguments = ("message", "change", Message.objects.get().pk)
    pages = [
        page_of(staff("view_message", more), *arguments)
        for more in ("", "view_statuschange", "view_webhookevent")
    ]
    for part, shown in (("timeline", [False, True, False]), ("event", [False, False, True])):
        assert [f"cellcast-{part}" in page for page in pages] == shown
    assert ["/history/" in page for page in pages] == [False, False, True]


# The history


def test_history_marks_reports_that_came_late(reader: Client, client: WebhookClient) -> None:
    client.status(status="failed")
    client.status(status="received")
    late, first = StatusChange.objects.order_by("-pk")

    assert listed(reader, "statuschange") == [late.pk, first.pk]
    rows = only(page_of(reader, "statuschange"), "table[@id='result_list']")
    effects = every(rows, "td[@class='field-effect']")
    assert [tones(cell) for cell in effects] == [["bad"], []]
    assert str(Status.FAILED.label) in words(effects[0])
    page = page_of(reader, "statuschange", "change", late.pk)
    assert previous_statuses(page) == ["failed"]
    assert url_of("message", "change", late.message_id) in page
    assert url_of("webhookevent", "change", late.event_id) in page
    assert previous_statuses(page_of(reader, "statuschange", "change", first.pk)) == []


def previous_statuses(page: str) -> list[str | None]:
    """Return the statuses in the field that says what the report changed."""
    boxes = every(page, "div[@class]")
    *_, field = [box for box in boxes if "field-effect" in box.get("class", "").split()]
    return [badge.get("title") for badge in every(field, "span[@title]")]


# Search and filters


@pytest.mark.parametrize("model", MODELS)
def test_search_finds_a_number_in_any_spelling_and_an_id(
    reader: Client, client: WebhookClient, model: str
) -> None:
    client.status(_id="another", receiver="+61400000002")
    client.status()
    found, _another = listed(reader, model)

    for number in ("0400 000 001", " +61 400-000-001 ", "tel:+61400000001", '"0400 000 001"'):
        assert listed(reader, model, q=number) == [found]
    for cellcast_id in (ID.upper(), f"“{ID}”"):
        assert listed(reader, model, q=cellcast_id) == [found]
    assert listed(reader, model, q="+61400000003") == []
    assert listed(reader, model, q="  ") != []


def test_search_by_id_finds_a_deferred_event_which_has_no_message(reader: Client) -> None:
    event = make_invalid(cellcast_id=ID)
    WebhookEvent.objects.update(outcome="deferred", next_read_at=timezone.now())

    assert listed(reader, "webhookevent", q=ID) == [event.pk]


@pytest.mark.parametrize("term", ["{}", "#{}", "event {}", "Event #{}"])
def test_search_finds_an_event_by_its_hash_and_id(reader: Client, term: str) -> None:
    make_invalid()
    event = make_invalid()

    assert listed(reader, "webhookevent", q=term.format(event.pk)) == [event.pk]
    assert listed(reader, "webhookevent", q="9" * 30) == []


def test_empty_search_lists_what_can_be_found(
    reader: Client, client: WebhookClient, know: Know, settings: Any
) -> None:
    client.reply()

    def hint(**query: str) -> str:
        found = every(page_of(reader, "message", **query), "p[@id='cellcast-nothing-found']")
        return " ".join(map(words, found))

    without_names = hint(q="570 156")
    assert hint(q="+61400000000") == hint(direction="outbound") == ""
    know(search=nobody)
    with_names = hint(q="570 156")
    assert with_names and with_names in without_names and with_names != without_names
    settings.CELLCAST_DEFAULT_REGION = "NZ"
    assert hint(q="570 156") not in with_names


def nobody(words: str) -> list[str]:
    return []


def people_named(words: str) -> Iterator[str]:
    lees = ["0400 000 001", "+61400000003", ""]
    yield from {"lee": lees, "grace lee": lees}.get(words.lower(), [])


def note(client: Client, model: str, **query: str) -> str:
    """Return the id of what a list says of its search."""
    found = every(page_of(client, model, **query), "p[@data-search-note]")
    return " ".join(each.get("data-search-note", "") for each in found)


def many_people(words: str) -> Iterator[str]:
    for number in range(1_000):
        asked.append(number)
        yield f"+61400{number:06}"


asked: list[int] = []


@pytest.mark.parametrize("model", [*MODELS, "optout"])
def test_search_by_name_asks_for_201_uses_200_and_says_that_there_are_more(
    admin_client: Client, client: WebhookClient, know: Know, model: str
) -> None:
    know(search=many_people)
    for number in (199, 200):
        client.status(_id=str(number), receiver=f"+61400{number:06}")
        client.opt_out(contact=f"+61400{number:06}")
    asked.clear()

    changelist = changelist_at(admin_client, url_of(model, q="Lee"))
    assert len(changelist.result_list) == len(listed(admin_client, model)) / 2
    assert changelist.search_help_text != changelist.model_admin.search_help_text
    assert asked == list(range(201))
    assert note(admin_client, model, q="Lee") == "more"
    for table in (OptOut, WebhookEvent, Message):
        table.objects.filter(contact="+61400000199").delete()
    assert listed(admin_client, model, q="Lee") == []
    assert note(admin_client, model, q="Lee") == "more"
    know(search=people_named)
    assert note(admin_client, model, q="Lee") == ""


def test_search_tells_customers_of_a_name_from_texts_with_it(
    reader: Client, client: WebhookClient, know: Know
) -> None:
    client.reply(_id="1", sender="+61400000002", message="Is Dr Lee in?")
    assert note(reader, "message", q="Lee") == ""
    know(search=people_named)

    assert note(reader, "message", q="Dr Lee") == "texts"
    assert note(reader, "message", q="Tran") == ""
    assert note(reader, "message", q="Lee") == "texts"
    client.reply(_id="2", sender="+61400000001", message="Hello")
    assert note(reader, "message", q="Lee") == ""
    assert len(listed(reader, "message", q="Lee")) == 2
    assert len(listed(reader, "message", q='" Grace  Lee "')) == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("term", ["570156", "570 156", "1570-156", "91570156"])
def test_search_finds_a_number_by_its_last_digits(
    reader: Client, client: WebhookClient, settings: Any, model: str, term: str
) -> None:
    client.status(_id="1", receiver="+61491570156")
    client.status(_id="2", receiver="+61491570157")

    assert len(listed(reader, model, q=term)) == 1
    for other in ("70156", "id 570156", "5701561234"):
        assert listed(reader, model, q=other) == []
    settings.CELLCAST_DEFAULT_REGION = "NZ"
    assert listed(reader, model, q=term) == []


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "odd",
    [
        {"receiver": " cellcast"},
        {"receiver": "12345 "},
        {"receiver": "cellcast\xa0"},
        {"receiver": "#SharedNum#"},
        {"_id": " id-1"},
        {"_id": "id-1\xa0"},
    ],
)
def test_search_finds_odd_contacts_and_ids_as_they_are_kept(
    reader: Client, client: WebhookClient, model: str, odd: dict[str, str]
) -> None:
    client.status(_id="another", receiver="+61400000002")
    client.status(**odd)

    assert len(listed(reader, model, q=next(iter(odd.values())))) == 1


@pytest.mark.parametrize("links", [None, ["cellcast_id"]])
def test_subclass_chooses_which_columns_are_links(links: list[str] | None) -> None:
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True)
    own = type("Own", (MessageAdmin,), {"list_display_links": links})

    changelist = own(Message, AdminSite()).get_changelist_instance(request)

    assert changelist.list_display_links == links


def test_messages_can_be_filtered_by_direction_and_status(
    reader: Client, client: WebhookClient
) -> None:
    client.reply()
    client.status(_id="delivered")
    client.status(_id="odd", status="queued")
    Message.objects.record_sent("new", receiver=CUSTOMER)
    names = dict(Message.objects.values_list("pk", "cellcast_id"))

    def found(**query: str) -> set[str]:
        return {names[pk] for pk in listed(reader, "message", **query)}

    assert found(direction="inbound") == {ID}
    assert found(direction="outbound") == {"delivered", "odd", "new"}
    assert found(status="delivered") == {"delivered"}  # of what was sent
    assert found(direction="outbound", status="delivered") == {"delivered"}
    assert found(direction="inbound", status="failed") == {ID}  # replies are not told apart
    assert found(status="queued") == {"odd"}
    assert found(status="failed") == set()
    assert found(status="no such status") == set(names.values())


def test_status_filter_offers_the_statuses_in_use(reader: Client, client: WebhookClient) -> None:
    for status in ("zombie", "paused", "delivered"):
        client.status(_id=status, status=status)

    def choices() -> list[str]:
        specs = reader.get(url_of("message")).context["cl"].filter_specs
        [spec] = [spec for spec in specs if isinstance(spec, StatusFilter)]
        words = [str(lookup) for lookup, _ in spec.lookup_choices]
        own = {"on_the_way", "unreported"}
        return [word for word in words if word not in own]

    assert choices() == ["undelivered", "delivered", "paused", "zombie"]
    others = [f"other {number:02}" for number in range(MAX_VALUES + 1)]
    for status in others:
        client.status(_id=status, status=status)
    # "delivered" is one of the words too, and so is none.
    assert choices() == ["undelivered", "delivered", *others[:-2]]


def test_events_can_be_filtered_by_outcome_and_kind(
    reader: Client, client: WebhookClient, connect: Connect, settings: Any
) -> None:
    unlucky = Calls("unlucky", error=ValueError())
    client.reply()
    client.reply()
    connect(status_changed, unlucky)
    client.status(_id="retrying")
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    client.status(_id="failed")
    make_invalid()
    pks = WebhookEvent.objects.order_by("pk").values_list("pk", flat=True)
    reply, duplicate, retrying, failed, invalid = pks

    def found(**query: str) -> list[int]:
        return listed(reader, "webhookevent", **query)

    assert found(outcome="done") == [reply]
    assert found(outcome="pending") == [retrying]
    assert found(outcome="failed") == [failed]
    assert found(outcome="duplicate") == [duplicate]
    assert found(outcome="invalid") == [invalid]
    assert found(kind="reply") == [duplicate, reply]
    assert found(kind="reply", outcome="done") == [reply]
    assert found(outcome="no such outcome") == [*(invalid, failed, retrying, duplicate, reply)]


def store_at(*times: datetime) -> None:
    for time in times:
        WebhookEventFactory.create(received_at=time, message__created_at=time)


@pytest.mark.parametrize("model", ["message", "webhookevent"])
def test_lists_can_be_filtered_by_period(reader: Client, model: str) -> None:
    store_at(*(timezone.now() - timedelta(days=days) for days in (1, 3, 20, 60)))

    filters = only(reader.get(url_of(model)).text, "*[@id='changelist-filter']")
    links = [each for each in addresses(filters) if each.startswith("?from=")]
    found = [changelist_at(reader, url_of(model) + each).result_count for each in links]
    assert found == [1, 2, 3]
    for no_day in ("2026-02-31", "1026-02-01"):
        assert len(listed(reader, model, **{"from": no_day})) == 4


@pytest.mark.parametrize("model", ["message", "webhookevent"])
def test_lists_can_be_filtered_by_a_range_of_days(reader: Client, model: str) -> None:
    zone = timezone.get_current_timezone()
    store_at(*(datetime(2026, 11, day, 23, 59, tzinfo=zone) for day in range(21, 26)))
    ends = {"from": "2026-11-22", "to": "2026-11-24"}

    assert len(listed(reader, model, **ends)) == 3
    assert len(listed(reader, model, **{"from": "2026-11-24", "to": "2026-11-22"})) == 3
    assert len(listed(reader, model, **{"from": "2026-11-24"})) == 2
    assert len(listed(reader, model, to="2026-11-22")) == 2
    assert len(listed(reader, model, **{"from": "yesterday", "to": ""})) == 5


def fill_for(contact: str, count: int) -> None:
    """Add a busy time of one contact to the tables."""
    fill(count)
    Message.objects.update(contact=contact)
    WebhookEvent.objects.update(contact=contact)


CAPPED = "p[@class='cellcast-capped']"


@pytest.mark.parametrize("model", ["message", "webhookevent"])
def test_search_finds_every_row_of_a_busy_contact(
    reader: Client, client: WebhookClient, model: str
) -> None:
    fill_for(CUSTOMER, MAX_KEYS + 1)
    client.status(_id="of somebody else", receiver="+61400000009")
    rows = listed(reader, model)

    response = reader.get(url_of(model, q="0400 000 001"))
    assert response.context["cl"].result_count == MAX_KEYS + 1
    assert [row.pk for row in response.context["cl"].result_list][:49] == rows[1:]
    assert listed(reader, model, q="of somebody else") == rows[:1]


# What a page costs


def test_query_count_does_not_grow_with_the_timeline(reader: Client) -> None:
    message = MessageFactory.create()

    def queries() -> int:
        return queries_of(partial(page_of, reader, "message", "change", message.pk))

    WebhookEventFactory.create(message=message, failed=True)
    queries()  # Django keeps the content type
    few = queries()
    for number in range(30):
        MessageFactory.create(receiver=message.receiver)
        WebhookEventFactory.create(message=message, failed=True, history__status=f"odd {number}")

    assert queries() == few
    assert few < 15


def test_list_counts_to_a_cap_and_says_there_are_more(
    reader: Client, client: WebhookClient, cap_lists: Callable[..., None]
) -> None:
    cap_lists(1_200, per_page=70)
    fill(1_200)
    exact = page_of(reader, "message")
    assert "1,200 messages" in text_of(exact)
    assert not every(exact, CAPPED)

    fill(1)
    capped = page_of(reader, "message")

    assert "1,200" in words(only(capped, CAPPED))
    assert "1,200+ messages" in text_of(capped)
    assert "?p=18" in capped and "?p=19" not in capped
    assert len(listed(reader, "message", p=18)) == 10
    assert reader.get(url_of("message", p=19)).status_code == 302


Query = dict[str, str]
YESTERDAY = f"from={timezone.localdate() - timedelta(days=1)}"


def queries(**by_model: str) -> list[tuple[str, Query]]:
    """Return a list's queries one by one: what stands in its address, in one string a model."""
    return [
        (model, dict(parse_qsl(query)))
        for model, each in by_model.items()
        for query in each.split()
    ]


# In the order of an index, until the page is full.
WALKS = queries(
    message="p=1 p=2 direction=inbound direction=outbound handled=new own_number=%2B61480000000"
    " status=delivered status=queued status=silent status=rejected direction=outbound&status=failed"
    f" {YESTERDAY} direction=inbound&{YESTERDAY} status=failed&{YESTERDAY}",
    statuschange="p=1 p=2",
    handlercall="p=1 state=done handler=shop.confirm test=no",
    webhookevent="p=1 outcome=done outcome=duplicate outcome=invalid kind__exact=status"
    " kind__exact=unknown kind__exact=status&outcome=duplicate"
    f" kind__exact=reply&outcome=invalid {YESTERDAY}",
)
# The few rows that are meant, which are then sorted.
FINDS = queries(
    message="q=0400+000+007 q=id-7 q=000+007 q=two+words",
    statuschange="q=0400+000+007 q=id-7",
    handlercall="state=failing state=waiting state=failed error=KeyError q=7",
    webhookevent="outcome=pending outcome=failed q=0400+000+007 q=id-7 q=7 message__id__exact=7",
)
# Which are few, a database tells by its statistics.
FILTERED_FINDS = queries(
    message="q=0400+000+007&direction=outbound"
    f" q=0400+000+007&direction=outbound&status=failed&{YESTERDAY}",
    webhookevent=f"kind__exact=reply&outcome=invalid&{YESTERDAY} outcome=pending&kind__exact=status"
    f" outcome=failed&kind__exact=status&{YESTERDAY}"
    " q=0400+000+007&outcome=duplicate&kind__exact=status",
)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="the test above asks SQLite")
def test_no_list_filter_or_search_scans_a_table_elsewhere(
    reader: Client, cap_lists: Callable[..., None]
) -> None:
    cap_lists(120, per_page=10)
    fill(3_000)  # of fewer, MariaDB would rather read all
    gather_statistics()

    found: dict[Any, list[str]] = {}
    for model, query in WALKS + FINDS + FILTERED_FINDS:
        with CaptureQueriesContext(connection) as captured:
            listed(reader, model, **query)
        for sql in (q["sql"] for q in captured if "FROM" in q["sql"]):
            # Nobody has opted out here, and a table without rows is read whole.
            if steps := [step for step in scans(sql) if "optout" not in step]:
                found[model, str(query), sql] = steps
    assert found == {}


@pytest.mark.exhaustive
@only_on_sqlite
@pytest.mark.parametrize(
    ("lists", "analyse"), [(WALKS + FINDS, False), (WALKS + FINDS + FILTERED_FINDS, True)]
)
def test_work_per_list_does_not_grow_with_the_tables(
    admin_user: User,
    cap_lists: Callable[..., None],
    lists: list[tuple[str, Query]],
    analyse: bool,
) -> None:
    cap_lists(20, per_page=5)

    steps: dict[str, list[int]] = defaultdict(list)
    asked: dict[str, list[int]] = defaultdict(list)
    for count in (400, 2_000):
        fill(count)
        if analyse:
            connection.cursor().execute("ANALYZE")
        for model, query in lists:
            name = f"{model} {query}"
            worked = steps_and_queries_of(partial(read_list, admin_user, model, query))
            steps[name].append(worked[0])
            asked[name].append(worked[1])

    assert {name: n for name, n in steps.items() if n[1] > 1.5 * n[0] + 75} == {}
    assert {name: n for name, n in asked.items() if n[1] > n[0] + 3} == {}
    assert max(n[0] for n in asked.values()) < 30


def read_list(user: User, model: str, query: Query) -> None:
    """Make the database work as for a list and its filters, without laying out the page."""
    request = RequestFactory().get(url_of(model, **query))
    request.user = user
    model_admin = admin.site.get_model_admin(apps.get_model("cellcast_django", model))
    response: Any = model_admin.changelist_view(request)
    changelist = response.context_data["cl"]
    list(changelist.result_list)
    for each in changelist.filter_specs:
        list(each.choices(changelist))


def steps_and_queries_of(work: Callable[[], Any]) -> tuple[int, int]:
    """Count the steps of SQLite's virtual machine, in hundreds, and the queries."""
    counter = [0]

    def count() -> int:
        counter[0] += 1
        return 0

    connection.connection.set_progress_handler(count, 100)
    queries = queries_of(work)
    connection.connection.set_progress_handler(None, 100)
    return counter[0], queries
