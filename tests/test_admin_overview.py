"""The overview: who may see what of it, and what it says."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone, translation

from cellcast_django import health
from cellcast_django.admin import MessageAdmin, StatusChangeAdmin, WebhookEventAdmin
from cellcast_django.admin.pages import overview as overview_events, traffic as delivery_times
from cellcast_django.admin.pages.overview import in_words
from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.models import CommandRun, Message, StatusChange, WebhookEvent
from cellcast_django.testing import WebhookClient
from tests.admin_pages import staff, text_of, url_of
from tests.html import addresses, every, only, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

OVERVIEW = "admin:cellcast_django_overview"
SETUP = "admin:cellcast_django_setup"


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Noon of a Wednesday, so that no test runs into midnight."""
    noon = datetime(2026, 8, 12, 12, tzinfo=timezone.get_default_timezone())
    monkeypatch.setattr(timezone, "now", lambda: noon)
    return noon


@pytest.fixture
def reader(db: None) -> Client:
    """A member of staff who may view messages and events."""
    return staff("view_message", "view_webhookevent")


def html_of(client: Client, **query: Any) -> str:
    response = client.get(reverse(OVERVIEW), query)
    assert response.status_code == 200
    return response.content.decode()


def section_of(html: str, heading: str) -> str:
    """Return the text of a section, which begins with its heading."""
    texts = map(words, every(html, "section"))
    [found] = [text for text in texts if text.startswith(heading)]
    return found.removeprefix(heading).strip()


# Who may see what


def test_strangers_are_sent_to_the_login() -> None:
    response = Client().get(reverse(OVERVIEW))
    assert response.status_code == 302
    assert "/login/" in response["Location"]


def test_staff_without_permission_see_nothing() -> None:
    assert staff("view_statuschange").get(reverse(OVERVIEW)).status_code == 403


@pytest.mark.parametrize(
    ("model", "shown", "hidden"),
    [("message", "Delivery rate", "Status URL"), ("webhookevent", "Status URL", "Delivery rate")],
)
def test_what_a_person_may_not_see_is_not_shown(model: str, shown: str, hidden: str) -> None:
    page = html_of(staff(f"view_{model}"))
    assert shown in page
    assert hidden not in page


def test_every_list_and_the_index_of_the_app_link_to_it() -> None:
    client = staff("view_message", "view_statuschange", "view_webhookevent")
    index = reverse("admin:app_list", args=["cellcast_django"])
    lists = [
        reverse(f"admin:cellcast_django_{model}_changelist")
        for model in ("message", "statuschange", "webhookevent")
    ]
    for url in (index, *lists):
        page = client.get(url).content.decode()
        assert page.count(f'href="{reverse(OVERVIEW)}"') == 1
        assert f'href="{reverse(SETUP)}"' not in page  # the person may not


def test_index_of_the_app_says_who_waits_and_whether_webhooks_arrive(
    operator: Client, client: WebhookClient
) -> None:
    client.reply(message="May I come later?")
    index = reverse("admin:app_list", args=["cellcast_django"])

    page = staff("view_message", "view_webhookevent").get(index).content.decode()
    assert "May I come later?" in section_of(page, "To answer")
    assert "Receive URL ✓ receiving" in section_of(page, "Webhooks")
    page = operator.get(index).content.decode()
    assert "May I come later?" not in page
    assert "Receive URL ✓ receiving" in section_of(page, "Webhooks")
    assert "receiving" not in staff("view_message").get(index).content.decode()


def test_index_of_the_app_names_the_five_who_wait_longest_and_leads_to_the_others() -> None:
    for _ in range(6):
        MessageFactory.create(inbound=True)
    index = reverse("admin:app_list", args=["cellcast_django"])

    section = section_of(staff("view_message").get(index).content.decode(), "To answer")

    assert section.count("This is reply message") == 5
    assert section.endswith("All customers who are waiting for an answer")


def test_failing_handler_can_be_retried_by_whoever_may_run_it(
    operator: Client, reader: Client
) -> None:
    outcome = {"at": timezone.now().isoformat(), "error": "Bad: luck"}
    WebhookEventFactory.create(failed=True, handler_results={"shop.confirm": outcome})
    WebhookEventFactory.create(failed=True, handler_results={})  # of no handler
    url = url_of("webhookevent", "of_handler", "run_again", handler="shop.confirm")

    assert html_of(operator).count("Retry all") == 1
    assert f'href="{url}"' in html_of(operator)
    assert "Retry all" not in html_of(reader)


def test_who_may_not_open_it_is_offered_no_link() -> None:
    client = staff("view_statuschange")
    page = client.get(reverse("admin:cellcast_django_statuschange_changelist")).content.decode()
    assert reverse(OVERVIEW) not in page


# Webhooks


def test_new_host_is_invited_to_set_up_webhooks(admin_client: Client, reader: Client) -> None:
    invitation = "No webhooks yet. Set up webhooks"
    assert invitation in text_of(html_of(admin_client))
    assert "Ask someone with access to Setup." in text_of(html_of(reader))
    WebhookEventFactory.create()
    assert "cellcast-nothing" not in html_of(admin_client)


def test_each_url_has_a_light(reader: Client, noon: datetime) -> None:
    WebhookEventFactory.create(received_at=noon - timedelta(hours=13))
    WebhookEventFactory.create_batch(2, received_at=noon - timedelta(minutes=7))
    WebhookEventFactory.create(reply=True, received_at=noon - timedelta(days=3))
    assert section_of(html_of(reader), "Webhooks") == (
        "Receive URL ⚠ nothing for 24 h Last webhook 3 days ago , 9 Aug 2026, 12:00 AEST "
        "0 events today "
        "Status URL ✓ receiving Last webhook 7 minutes ago , 12 Aug 2026, 11:53 AEST "
        "2 events today "
        "Opt-Out URL • nothing yet No webhooks yet 0 events today"
    )


def test_events_of_today_are_counted_up_to_a_limit(reader: Client, noon: datetime) -> None:
    add_copies(WebhookEventFactory.create(received_at=noon), health.MAX_EVENTS_PER_KIND)
    assert "at least 10,000 events today" in section_of(html_of(reader), "Webhooks")


def test_webhook_of_this_minute_came_just_now(reader: Client, client: WebhookClient) -> None:
    client.opt_out()
    assert "Last webhook just now , " in text_of(html_of(reader))


def test_events_that_wait_are_counted_and_linked_to(reader: Client) -> None:
    WebhookEventFactory.create_batch(2, invalid=True)
    WebhookEventFactory.create_batch(3, failed=True)
    WebhookEventFactory.create(pending=True)
    page = html_of(reader)
    assert section_of(page, "Needs attention").startswith("2 ✕ unreadable 3 ✕ failed 1 … retrying")
    for state, number in (("invalid", 2), ("failed", 3), ("pending", 1)):
        [url] = [each for each in addresses(page) if each.endswith(f"?outcome={state}")]
        assert reader.get(url).context["cl"].result_count == number


def test_what_does_not_wait_is_neither_praised_nor_blamed(reader: Client) -> None:
    assert section_of(html_of(reader), "Needs attention") == (
        "0 • unreadable 0 • failed 0 • retrying"
    )


def test_unfinished_handlers_are_counted_by_name(reader: Client) -> None:
    outcome = {"at": timezone.now().isoformat(), "error": "Bad: luck"}
    WebhookEventFactory.create_batch(2, failed=True, handler_results={"shop.confirm": outcome})
    WebhookEventFactory.create(pending=True, handler_results={"shop.confirm": outcome})
    WebhookEventFactory.create(pending=True)
    page = html_of(reader)
    section = section_of(page, "Needs attention")
    assert "Failing handlers Handler Last error Failed Retrying First seen " in section
    assert re.search(r"shop\.confirm Bad: luck just now , .+ 2 1 just now , ", section)
    assert section.endswith("no handler finished (interrupted) 0 1")
    events = reverse("admin:cellcast_django_webhookevent_changelist")
    assert f'href="{events}?handler=shop.confirm"' in page


def test_failing_handler_shows_its_last_error_and_when_the_first_event_came(
    reader: Client, noon: datetime
) -> None:
    for hours, error in [(1, "Bad: new"), (3, "Bad: newer"), (2, "Bad: old")]:
        at = noon - timedelta(minutes=10 if error == "Bad: newer" else 20)
        outcome = {"at": at.isoformat(), "error": error}
        event = WebhookEventFactory.create(failed=True, handler_results={"shop.confirm": outcome})
        WebhookEvent.objects.filter(pk=event.pk).update(received_at=noon - timedelta(hours=hours))

    section = section_of(html_of(reader), "Needs attention")

    assert "Bad: newer 10 minutes ago , 12 Aug 2026, 11:50 AEST 3 0 3 hours ago , " in section
    assert "or earlier" not in section
    # The first one, an hour old, is no longer among the newest.
    newest = WebhookEvent.objects.latest("pk")
    add_copies(
        newest, overview_events.MAX_EVENTS_WITH_ERRORS - 2, lambda number: {"handler_results": {}}
    )
    section = section_of(html_of(reader), "Needs attention")
    assert "Bad: newer 10 minutes ago , 12 Aug 2026, 11:50 AEST 3 0 3 hours ago , " in section
    assert "09:00 AEST or earlier" in section


def test_handlers_of_many_events_are_counted_among_some(
    reader: Client,
) -> None:
    event = WebhookEventFactory.create(failed=True)
    add_copies(event, health.MAX_UNFINISHED - 1)
    assert "were counted" not in html_of(reader)
    add_copies(event, 1)
    assert "Only 1,000 failed and 1,000 retrying events were counted." in text_of(html_of(reader))


def test_last_run_of_the_command_that_runs_is_shown(reader: Client) -> None:
    CommandRun.record(CommandRun.Command.RUN_HANDLERS, {})
    assert "manage.py cellcast_run_handlers last ran just now" in text_of(html_of(reader))


def test_event_that_nothing_runs_is_pointed_out(reader: Client, noon: datetime) -> None:
    event = WebhookEventFactory.create(pending=True, next_run_at=noon - timedelta(minutes=5))
    assert "cellcast_run_handlers" not in html_of(reader)
    event.next_run_at = noon - timedelta(days=2, minutes=5)
    event.save()
    assert "the oldest has been due for 2 d . Check that" in text_of(html_of(reader))


def test_usernames_are_shown_by_their_last_use(
    reader: Client, noon: datetime, settings: Any
) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = ["old:a", "new:b", "new:c", "spare:d"]
    for username, hours in (("old", 50), ("new", 2), ("gone", 1)):
        received_at = noon - timedelta(hours=hours)
        WebhookEventFactory.create(username=username, received_at=received_at)
    page = html_of(reader)
    assert section_of(page, "Credentials in use").startswith(
        "Username Last webhook Configured "
        "old 2 days ago , 10 Aug 2026, 10:00 AEST yes "
        "new 2 hours ago , 12 Aug 2026, 10:00 AEST 2 passwords (not distinguishable here) "
        "spare not used recently yes "
        "gone 1 hour ago , 12 Aug 2026, 11:00 AEST removed"
    )


def test_host_without_credentials_is_told_so(reader: Client, settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = []
    assert "No username and password yet." in html_of(reader)


# Messages


def periods_of(html: str) -> str:
    return words(only(html, "li/a[@aria-current='page']"))


@pytest.mark.parametrize(
    ("query", "chosen", "count"),
    [
        ({}, "7 days", 2),
        ({"period": "1"}, "Today", 1),
        ({"period": "7"}, "7 days", 2),
        ({"period": "30"}, "30 days", 3),
        ({"period": "90"}, "90 days", 4),
        ({"period": "365"}, "7 days", 2),
        ({"period": "'--"}, "7 days", 2),
    ],
)
def test_period_is_chosen_by_the_address(
    reader: Client, noon: datetime, query: dict[str, str], chosen: str, count: int
) -> None:
    for days in (0, 6, 29, 89, 90):
        MessageFactory.create(delivered=True, created_at=noon - timedelta(days=days))
    page = html_of(reader, **query)
    assert periods_of(page) == chosen
    assert f"delivered: {count}. The table below has all figures." in text_of(page)


def test_messages_are_charted_and_told_by_day_and_status(reader: Client, noon: datetime) -> None:
    for status in ("delivered", "delivered", "expired", "queued"):
        MessageFactory.create(status=status, created_at=noon)
    MessageFactory.create(inbound=True, created_at=noon - timedelta(days=1))
    page = html_of(reader)
    section = section_of(page, "Messages by time and status")
    assert section.startswith("Sent not delivered 1 in transit 1 delivered 2 4 messages a day ")
    assert "Replies replies 1 1 messages a day " in section
    assert section.endswith(
        "Time phone off or out of reach in transit delivered replies "
        "Thu 6 0 0 0 0 Fri 7 0 0 0 0 Sat 8 0 0 0 0 Sun 9 0 0 0 0 Mon 10 0 0 0 0 "
        "Tue 11 0 0 0 1 Wed 12 1 1 2 0 Total 1 1 2 1"
    )
    bars = every(page, "rect[@class][@x]")
    assert [(bar.get("class"), bar.get("y"), bar.get("height")) for bar in bars] == [
        ("cellcast-series-undelivered", "150.0", "50.0"),
        ("cellcast-series-under-way", "100.0", "50.0"),
        ("cellcast-series-delivered", "0.0", "100.0"),
        ("cellcast-series-replies", "0.0", "200.0"),
    ]


def test_bars_and_days_lead_to_their_messages(reader: Client, noon: datetime) -> None:
    for days in (0, 1):
        for status in ("delivered", "expired", "queued"):
            MessageFactory.create(status=status, created_at=noon - timedelta(days=days))
        MessageFactory.create(inbound=True, created_at=noon - timedelta(days=days))
    page = html_of(reader)
    messages = reverse("admin:cellcast_django_message_changelist")
    urls = [url for url in addresses(page) if url.startswith(f"{messages}?period=")]

    listed = {url: reader.get(url).context["cl"].result_count for url in urls}

    day = f"{messages}?period=2026-08-12"
    assert {url: count for url, count in listed.items() if url.startswith(day)} == {
        f"{day}&status=undelivered": 1,
        f"{day}&direction=outbound": 3,
        f"{day}&status=delivered": 1,
        f"{day}&direction=inbound": 1,
        day: 4,
    }
    assert "12 Aug 2026" in reader.get(day).content.decode()


def test_slots_are_called_as_they_are_long(reader: Client, noon: datetime) -> None:
    MessageFactory.create(created_at=noon)
    assert "12:00: in transit, 1" in html_of(reader, period=1)
    assert "Wed 12: in transit, 1" in html_of(reader, period=7)
    assert "12 Aug: in transit, 1" in html_of(reader, period=30)


def test_delivery_rate_and_times(reader: Client, noon: datetime) -> None:
    for seconds in (0, 4, 9, 75, 4000):
        values = {"submitted_at": noon, "status_changed_at": noon + timedelta(seconds=seconds)}
        MessageFactory.create(delivered=True, created_at=noon, **values)
    MessageFactory.create_batch(3, undelivered=True, created_at=noon)
    page = html_of(reader)
    assert section_of(page, "Messages Today").startswith(
        "7 days 30 days 90 days "
        "Delivery rate 62.5% of messages with a final result "
        "Median delivery time 9 s half arrived faster "
        "95th percentile 1 h 6 min 1 in 20 took longer"
    )
    assert section_of(page, "Delivery time Delivery time").startswith(
        "Messages under 5 s 2 5 s – 10 s 1 10 s – 30 s 0 30 s – 1 min 0 1 min – 5 min 1 "
        "5 min – 15 min 0 15 min – 1 h 0 1 h – 6 h 1 6 h – a day 0 a day or more 0"
    )
    assert page.count('width="1000.0"') == 1
    assert page.count('width="500.0"') == 3


def test_delivery_times_of_some_of_the_messages_are_said_to_be_those(
    reader: Client, noon: datetime
) -> None:
    times = {"created_at": noon, "submitted_at": noon, "status_changed_at": noon}
    message = MessageFactory.create(delivered=True, **times)
    add_copies(message, delivery_times.SAMPLE_SIZE - 1)
    assert "Based on" not in html_of(reader)
    cache.clear()
    add_copies(message, 1)
    assert "Based on 10,000 messages: the newest of each day." in text_of(html_of(reader))


def test_period_without_messages_says_so(reader: Client) -> None:
    text = text_of(html_of(reader))
    assert "Delivery rate –" in text
    assert "No messages in this period." in text
    assert "No delivery times for this period." in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_661, "1 h 1 min"),
        (86_399, "23 h 59 min"),
        (86_400, "a day or more"),
    ],
)
def test_times_in_words(seconds: int | None, words: str) -> None:
    assert in_words(seconds) == words


def test_project_without_time_zones(reader: Client, settings: Any) -> None:
    settings.USE_TZ = False
    WebhookClient().status()
    assert "✓ receiving Last webhook just now" in text_of(html_of(reader))


# What it costs, and what it is made of


def test_queries_do_not_grow_with_the_rows(reader: Client) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            html_of(reader, period=90)
        return len(queries)

    WebhookEventFactory.create(failed=True)
    count_queries()  # days that have long ended are in the cache from now on
    before = count_queries()
    WebhookEventFactory.create_batch(20, failed=True)
    WebhookEventFactory.create_batch(20, reply=True)
    assert count_queries() == before


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plans of SQLite")
def test_every_query_is_answered_by_an_index(reader: Client) -> None:
    for age in range(300):
        received_at = timezone.now() - timedelta(days=age)
        message = MessageFactory.create(delivered=True, created_at=received_at)
        WebhookEventFactory.create(message=message, duplicate=True, received_at=received_at)
    WebhookEventFactory.create(failed=True)
    connection.cursor().execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        html_of(reader)
    statements = [q["sql"] for q in queries if "cellcast_django_" in q["sql"]]
    assert len(statements) >= 8
    for statement in statements:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
            plan = [row[-1] for row in cursor.fetchall()]
        scans = [step for step in plan if step.startswith("SCAN cellcast")]
        # The index of the tests holds nothing else.
        assert not [step for step in scans if "cellcast_event_test" not in step], (statement, plan)


def test_page_carries_no_inline_script_or_style(admin_client: Client) -> None:
    MessageFactory.create(delivered=True)
    page = html_of(admin_client)
    assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=|javascript:", page)


def test_drawing_survives_a_language_that_writes_commas(reader: Client, noon: datetime) -> None:
    MessageFactory.create_batch(2, delivered=True, created_at=noon)
    MessageFactory.create(undelivered=True, created_at=noon)
    with translation.override("de"):
        page = reader.get(reverse(OVERVIEW), headers={"Accept-Language": "de"}).content.decode()
    names = {"x", "y", "width", "height", "viewbox", "x1", "x2", "y1", "y2"}
    drawing = [
        number
        for element in every(page, "svg//*")
        for name, number in element.attrib.items()
        if name in names
    ]
    assert drawing
    assert not [number for number in drawing if "," in number]


# Other sites

everything = admin.AdminSite("everything")
everything.register(Message, MessageAdmin)
everything.register(WebhookEvent, WebhookEventAdmin)
messages_alone = admin.AdminSite("messages-alone")
messages_alone.register(Message, MessageAdmin)
history_alone = admin.AdminSite("history-alone")
history_alone.register(StatusChange, StatusChangeAdmin)
plain = admin.AdminSite("plain")
plain.register(WebhookEvent)
plain.register(Message, MessageAdmin)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("everything/", everything.urls),
    path("messages/", messages_alone.urls),
    path("history/", history_alone.urls),
    path("plain/", plain.urls),
    path("sms/", include("cellcast_django.urls")),
]


@pytest.fixture
def other_sites(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize(
    ("site", "listed", "home"),
    [
        ("everything", "message", "webhookevent"),
        ("messages", "message", "message"),
        ("plain", "message", "message"),
    ],
)
def test_other_site_has_pages_of_its_own(
    other_sites: None, admin_client: Client, site: str, listed: str, home: str
) -> None:
    overview_url = f"/{site}/cellcast_django/{home}/overview/"
    setup_url = f"/{site}/cellcast_django/{home}/setup/"
    page = admin_client.get(f"/{site}/cellcast_django/{listed}/").content.decode()
    assert f'href="{overview_url}"' in page
    assert f'href="{setup_url}"' in page
    for url in (overview_url, setup_url):
        response = admin_client.get(url)
        assert response.status_code == 200
        assert 'href="/admin/' not in response.content.decode()


def test_site_without_messages_and_events_has_no_pages(
    other_sites: None, admin_client: Client
) -> None:
    response = admin_client.get("/history/cellcast_django/statuschange/")
    assert response.status_code == 200
    assert "overview" not in response.content.decode()


def test_site_in_place_of_the_default_one_has_pages_too(
    admin_client: Client, client: WebhookClient
) -> None:
    impostors = [admin.AdminSite() for _ in range(9)]  # named "admin" too, as the replaced one is

    page = admin_client.get(reverse("admin:cellcast_django_message_changelist")).content.decode()

    assert f'href="{reverse(OVERVIEW)}"' in page
    assert {site.name for site in impostors} == {admin.site.name}


class OnePractice(admin.ModelAdmin):  # type: ignore[type-arg]  # Django 5.2 has no [] here
    """Mixed in by a host project whose staff may see some rows only."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(contact="+61400000001")


practice = admin.AdminSite("practice")
for model, model_admin in ((Message, MessageAdmin), (WebhookEvent, WebhookEventAdmin)):
    practice.register(model, type(model_admin.__name__, (OnePractice, model_admin), {}))
urlpatterns.append(path("practice/", practice.urls))


def test_site_that_shows_some_rows_only_counts_no_others(
    other_sites: None, admin_client: Client
) -> None:
    WebhookEventFactory.create_batch(2, failed=True)
    ours = MessageFactory.create(receiver="+61400000001")
    WebhookEventFactory.create(failed=True, message=ours)

    page = admin_client.get("/practice/cellcast_django/webhookevent/overview/").content.decode()

    assert section_of(page, "Needs attention") == "0 • unreadable 1 ✕ failed 0 • retrying"
    assert "Delivery rate" not in page
    assert "Receive URL" not in page
    page = admin_client.get(f"/practice/cellcast_django/message/{ours.pk}/change/").content.decode()
    assert page.count('class="cellcast-event"') == 1


def test_site_of_messages_alone_shows_no_events(other_sites: None, admin_client: Client) -> None:
    page = admin_client.get("/messages/cellcast_django/message/overview/").content.decode()
    assert "Delivery rate" in page
    assert "Status URL" not in page
