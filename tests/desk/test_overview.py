"""The overview: who may see what of it, and what it says."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone

from cellcast_django.admin import (
    HandlerCallAdmin,
    MessageAdmin,
    OptOutAdmin,
    StatusChangeAdmin,
    WebhookEventAdmin,
)
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.desk.admin import register as give_desk_to
from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    OptOutFactory,
    WebhookEventFactory,
)
from cellcast_django.models import (
    CommandRun,
    HandlerCall,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import opt_out
from cellcast_django.receiving import tasks_package
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS
from tests.admin_pages import CUSTOMER, MODELS, changelist_at, staff
from tests.handlers import Calls, Connect, reply
from tests.html import addresses, every, only, section, times_of, words
from tests.many import add_copies
from tests.plans import HAS_STATISTICS, gather_statistics, scans

pytestmark = pytest.mark.django_db

OVERVIEW = "admin:cellcast_django_overview"
FIGURES = "admin:cellcast_django_figures"
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


# Who may see what


def test_anonymous_users_are_redirected_to_login() -> None:
    response = Client().get(reverse(OVERVIEW))
    assert response.status_code == 302
    assert "/login/" in response["Location"]


def test_staff_without_permission_are_refused() -> None:
    assert staff("view_statuschange", "view_message").get(reverse(OVERVIEW)).status_code == 403


def test_messages_are_shown_to_permitted_users() -> None:
    for views, is_shown in ((["view_message"], True), ([], False)):
        page = html_of(staff("view_webhookevent", *views))
        assert section(page, "lights") is not None
        assert (
            bool(every(page, "section[@aria-labelledby='cellcast-recovery-heading']")) == is_shown
        )


def test_lists_and_app_index_link_to_the_overview() -> None:
    client = staff("view_message", "view_statuschange", "view_webhookevent")
    index = reverse("admin:app_list", args=["cellcast_django"])
    lists = [reverse(f"admin:cellcast_django_{model}_changelist") for model in MODELS]
    for url in (index, *lists):
        page = client.get(url).content.decode()
        assert page.count(f'href="{reverse(OVERVIEW)}"') == 1
        assert f'href="{reverse(SETUP)}"' not in page  # the person may not


def test_app_index_shows_who_waits_and_lights(operator: Client, client: WebhookClient) -> None:
    client.reply(message="May I come later?")
    index = reverse("admin:app_list", args=["cellcast_django"])

    page = staff("view_message", "view_webhookevent").get(index).content.decode()
    assert words(only(page, "span[@class='cellcast-count']")) == "1"
    assert lights_of(page)["receive"] == "received"
    page = operator.get(index).content.decode()
    assert not every(page, "span[@class='cellcast-count']")
    assert lights_of(page)["receive"] == "received"
    assert not lights_of(staff("view_message").get(index).content.decode())


def test_overview_is_linked_only_for_permitted_users() -> None:
    client = staff("view_statuschange")
    page = client.get(reverse("admin:cellcast_django_statuschange_changelist")).content.decode()
    assert reverse(OVERVIEW) not in page


# Webhooks


def test_empty_overview_links_to_setup(admin_client: Client, reader: Client) -> None:
    invitation = "p[@class='cellcast-nothing']"
    assert addresses(only(html_of(admin_client), invitation)) == [reverse(SETUP)]
    assert addresses(only(html_of(reader), invitation)) == []
    WebhookEventFactory.create()
    assert not every(html_of(admin_client), invitation)


def lights_of(html: str) -> dict[str, str]:
    found = every(html, "li[@data-light]")
    return {each.get("id", "")[15:]: each.get("data-light", "") for each in found}


def test_each_url_has_a_light(reader: Client, noon: datetime) -> None:
    WebhookEventFactory.create(received_at=noon - timedelta(hours=13))
    WebhookEventFactory.create_batch(2, received_at=noon - timedelta(minutes=7))
    WebhookEventFactory.create(reply=True, received_at=noon - timedelta(days=3))
    page = html_of(reader)
    lights = dict.fromkeys((webhook.slug for webhook in WEBHOOKS), "never")
    assert lights_of(page) == lights | {"receive": "received", "status": "received"}
    status = only(page, "li[@id='cellcast-light-status']")
    assert times_of(status) == [noon - timedelta(minutes=7)]


def test_light_is_red_without_reports(reader: Client) -> None:
    message = MessageFactory.create(status="", created_at=timezone.now() - timedelta(hours=2))
    add_copies(message, 19)
    page = html_of(reader)
    assert lights_of(page)["status"] == "unreported"
    assert every(page, "li[@id='cellcast-light-status']/p[@class='quiet']")
    assert not every(page, "li[@id='cellcast-light-receive']/p[@class='quiet']")


def attention_of(html: str) -> dict[str, int]:
    """Return the counts of what needs attention by their links."""
    links = every(section(html, "waiting"), "a[@class='cellcast-value'][@data-count]")
    return {each.get("href", ""): int(each.get("data-count", "")) for each in links}


def test_overview_counts_and_links_events_needing_attention(reader: Client) -> None:
    WebhookEventFactory.create_batch(2, invalid=True)
    WebhookEventFactory.create(invalid=True, is_test=True)
    WebhookEventFactory.create(invalid=True, dismissed_at=timezone.now())
    WebhookEventFactory.create_batch(3, failed=True)
    HandlerCallFactory.create(retrying=True)
    HandlerCallFactory.create_batch(4, waiting=True)
    WebhookEventFactory.create(outcome="deferred", next_read_at=timezone.now())
    found = attention_of(html_of(reader))
    assert sorted(found.values()) == [1, 1, 2, 3, 4]
    for url, count in found.items():
        assert changelist_at(reader, url).result_count == count


def test_counts_of_nothing_have_no_card(reader: Client) -> None:
    page = html_of(reader)
    assert not attention_of(page)
    assert every(section(page, "waiting"), "p[@class='cellcast-empty']")


def failing(html: str) -> dict[str, Any]:
    """Return the row of each failing handler."""
    return {each.get("data-handler", ""): each for each in every(html, "tr[@data-handler]")}


def test_failing_handlers_have_counts_and_a_link(reader: Client, noon: datetime) -> None:
    since = noon - timedelta(hours=3)
    HandlerCallFactory.create(retrying=True, error="Bad: old", failing_since=since)
    HandlerCallFactory.create_batch(2, failed=True, error="Odd: newer", failing_since=noon)
    HandlerCallFactory.create(waiting=True)
    rows = failing(html_of(reader))
    row = rows.pop("shop.handlers.confirm")
    assert not rows
    assert [only(row, f"td[@data-{each}]").text for each in ("failed", "retrying")] == ["2", "1"]
    assert words(only(row, "td[@class='cellcast-error']")) == "Odd: newer"
    assert times_of(every(row, "td")[-1]) == [since]
    [link] = every(row, "a")
    assert changelist_at(reader, link.get("href", "")).result_count == 3


def test_reports_that_wait_for_a_worker_are_not_failing(
    operator: Client, client: WebhookClient, connect: Connect, settings: Any
) -> None:
    settings.CELLCAST_RUN_HANDLERS = "default"
    worker_less = f"{tasks_package().__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {"default": {"BACKEND": worker_less}}
    connect(status_changed, Calls("log"))
    for number in range(3):
        client.status(_id=f"{number}")
    page = html_of(operator)
    assert not failing(page)
    assert list(attention_of(page).values()) == [3]


def test_overview_names_the_slowest_handlers(reader: Client) -> None:
    assert not every(html_of(reader), "table[@id='cellcast-slowest']")
    seconds = {"log": 0.99, "file": 1, "bill": 75.2}
    for name, each in seconds.items():
        HandlerCallFactory.create(handler=name, seconds=each)
    html = html_of(reader)
    rows = every(html, "table[@id='cellcast-slowest']/tbody/tr")
    assert [words(row) for row in rows] == ["bill 75.20 s", "file 1.00 s"]
    assert not every(html, "p[@data-slow]")


def test_overview_warns_about_a_call_over_half_the_lease(reader: Client, settings: Any) -> None:
    settings.CELLCAST_HANDLER_LEASE = 100
    HandlerCallFactory.create(handler="log", seconds=50.0)
    HandlerCallFactory.create(handler="bill", seconds=50.5)
    warnings = every(html_of(reader), "p[@data-slow]")
    assert [each.get("data-slow") for each in warnings] == ["bill"]


def headings(html: str) -> list[str]:
    sections = every(html, "section[@class='module']")
    return [each.get("aria-labelledby", "")[9:-8] for each in sections]


def test_lights_come_first_for_whoever_runs_handlers() -> None:
    MessageFactory.create(inbound=True)
    WebhookEventFactory.create()
    views = ("view_message", "view_webhookevent")
    on_call = headings(html_of(staff(*views, "rerun_webhookevent")))
    assert on_call[0] == "lights"


def test_overview_shows_the_credit_and_when_it_was_read(reader: Client, noon: datetime) -> None:
    assert not every(html_of(reader), "section[@aria-labelledby='cellcast-credit-heading']")
    read_at = noon - timedelta(days=3)
    credit = {"sms": 1234.5, "mms": None, "read_at": read_at.isoformat()}
    CommandRun.record(CommandRun.Command.RECOVER, {"credit": credit})
    part = section(html_of(reader), "credit")
    assert [words(each) for each in every(part, "strong")] == ["1,234.5"]
    assert times_of(part) == [read_at]
    CommandRun.record(CommandRun.Command.RECOVER, {"credit": credit | {"mms": 20}})
    part = section(html_of(reader), "credit")
    assert [words(each) for each in every(part, "strong")] == ["1,234.5", "20"]
    assert not every(html_of(staff("view_webhookevent")), "*[@id='cellcast-credit-heading']")


def test_handler_that_is_not_connected_is_marked(
    operator: Client, reader: Client, first: Calls
) -> None:
    def offered(row: Any) -> list[str]:
        return [each.get("data-action", "") for each in every(row, "a[@data-action]")]

    first.error = ValueError()
    reply()
    HandlerCallFactory.create(handler="gone", failed=True)

    rows = failing(html_of(operator))
    assert [name for name, row in rows.items() if "data-missing" in row.attrib] == ["gone"]
    assert offered(rows["gone"]) == offered(rows["first"]) == ["run_again", "skip"]
    assert offered(failing(html_of(reader))["first"]) == []


def test_overview_warns_about_overdue_events(reader: Client, noon: datetime) -> None:
    HandlerCallFactory.create(waiting=True, next_attempt_at=noon - timedelta(minutes=5))
    assert not every(html_of(reader), "p[@id='cellcast-overdue']")
    HandlerCall.objects.update(next_attempt_at=noon - timedelta(days=2, minutes=5))
    assert "2 d" in words(only(html_of(reader), "p[@id='cellcast-overdue']"))


# What was sent to people who had opted out


@pytest.fixture
def sent_although() -> Message:
    """A message that was recorded for somebody who had opted out, among others."""
    opt_out(CUSTOMER)
    found: Message = Message.objects.record_sent("1", receiver=CUSTOMER, body="Coming?")
    Message.objects.record_sent("2", receiver="0400 000 002", body="Coming?")
    return found


def test_overview_counts_and_links_last_weeks_texts_to_opted_out(
    reader: Client, sent_although: Message
) -> None:
    opt_out("0400 000 003")
    old = Message.objects.record_sent("3", receiver="0400 000 003")
    Message.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=8))
    found = reader.get(reverse(OVERVIEW)).context["page"].although_opted_out
    assert found.count == 1
    rows = reader.get(found.url).context["cl"].result_list
    assert [row.pk for row in rows] == [sent_although.pk]


def test_overview_omits_texts_to_opted_out_if_there_are_none(reader: Client) -> None:
    assert "cellcast-although-opted-out" not in html_of(reader)
    response = staff("view_webhookevent").get(reverse(OVERVIEW))
    assert response.context["page"].although_opted_out is None


# What it costs, and what it is made of


def test_query_count_does_not_grow_with_rows(reader: Client) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            html_of(reader)
        return len(queries)

    WebhookEventFactory.create(failed=True)
    WebhookEventFactory.create(reply=True)
    before = count_queries()
    WebhookEventFactory.create_batch(20, failed=True)
    WebhookEventFactory.create_batch(20, reply=True)
    assert count_queries() == before


@pytest.mark.parametrize("has_statistics", HAS_STATISTICS)
def test_every_query_uses_an_index(reader: Client, has_statistics: bool) -> None:
    message = MessageFactory.create(delivered=True)
    event = WebhookEventFactory.create(message=message, duplicate=True)
    days = [timezone.now() - timedelta(days=age) for age in range(300)]
    messages = add_copies(message, 300, lambda number: {"created_at": days[number]})
    add_copies(
        event, 300, lambda number: {"message_id": messages[number], "received_at": days[number]}
    )
    WebhookEventFactory.create(failed=True)
    done = HandlerCallFactory.create(event=event)
    pks = list(WebhookEvent.objects.exclude(pk=event.pk).values_list("pk", flat=True))
    add_copies(done, 300, lambda number: {"event_id": pks[number]})
    add_copies(OptOutFactory.create(), 300, lambda number: {"contact": f"+61400{number:06}"})
    if has_statistics:
        gather_statistics()
    with CaptureQueriesContext(connection) as queries:
        html_of(reader)
    statements = [q["sql"] for q in queries if "FROM" in q["sql"]]
    assert len(statements) >= 8
    assert {sql: steps for sql in statements if (steps := scans(sql))} == {}


def test_page_carries_no_inline_script_or_style(admin_client: Client) -> None:
    MessageFactory.create(delivered=True)
    page = html_of(admin_client)
    assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=|javascript:", page)


# Other sites

everything = admin.AdminSite("everything")
everything.register(Message, MessageAdmin)
everything.register(WebhookEvent, WebhookEventAdmin)
everything.register(HandlerCall, HandlerCallAdmin)
messages_alone = admin.AdminSite("messages-alone")
messages_alone.register(Message, MessageAdmin)
history_alone = admin.AdminSite("history-alone")
history_alone.register(StatusChange, StatusChangeAdmin)
plain = admin.AdminSite("plain")
plain.register(WebhookEvent)
plain.register(Message, MessageAdmin)
for each_site in (everything, messages_alone, history_alone, plain):
    give_desk_to(each_site)
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
        ("plain", "message", "message"),
    ],
)
def test_other_site_has_its_own_pages(
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


def test_site_with_its_own_classes_offers_no_retry(other_sites: None, admin_client: Client) -> None:
    WebhookEventFactory.create(failed=True)
    offered = {}
    for site, home in (("everything", "webhookevent"), ("plain", "message")):
        page = admin_client.get(f"/{site}/cellcast_django/{home}/overview/").text
        [row] = failing(page).values()
        offered[site] = [each.get("data-action") for each in every(row, "a[@data-action]")]
    assert offered == {"everything": ["run_again", "skip"], "plain": []}


def test_site_without_messages_and_events_has_no_overview(
    other_sites: None, admin_client: Client
) -> None:
    response = admin_client.get("/history/cellcast_django/statuschange/")
    assert response.status_code == 200
    assert "overview" not in response.content.decode()


def test_replaced_default_site_has_the_pages(admin_client: Client, client: WebhookClient) -> None:
    impostors = [admin.AdminSite() for _ in range(9)]  # named "admin" too, as the replaced one is

    page = admin_client.get(reverse("admin:cellcast_django_message_changelist")).content.decode()

    assert f'href="{reverse(OVERVIEW)}"' in page
    assert {site.name for site in impostors} == {admin.site.name}


class OnePractice(admin.ModelAdmin):  # type: ignore[type-arg]  # Django 5.2 has no [] here
    """Mixed in by a host project whose staff may see some rows only."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(contact="+61400000001")


practice = admin.AdminSite("practice")
give_desk_to(practice)
for model, model_admin in ((Message, MessageAdmin), (WebhookEvent, WebhookEventAdmin)):
    practice.register(model, type(model_admin.__name__, (OnePractice, model_admin), {}))
urlpatterns.append(path("practice/", practice.urls))


def test_restricted_site_has_no_overview(other_sites: None, admin_client: Client) -> None:
    WebhookEventFactory.create_batch(2, failed=True)
    ours = MessageFactory.create(receiver="+61400000001")
    WebhookEventFactory.create(failed=True, message=ours)

    address = "/practice/cellcast_django/webhookevent/overview/"
    assert admin_client.get(address).status_code == 403
    section_page = admin_client.get("/practice/cellcast_django/").content.decode()
    assert address not in section_page
    assert "cellcast-waiting-heading" not in section_page
    page = admin_client.get(f"/practice/cellcast_django/message/{ours.pk}/change/").content.decode()
    assert page.count('class="cellcast-event"') == 1


OURS: dict[type[Model], type[ReadOnlyAdmin]] = {
    Message: MessageAdmin,
    OptOut: OptOutAdmin,
    StatusChange: StatusChangeAdmin,
    WebhookEvent: WebhookEventAdmin,
}
for foreign in OURS:
    mixed = admin.AdminSite(f"foreign-{foreign._meta.model_name}")
    give_desk_to(mixed)
    for each, ours in OURS.items():
        mixed.register(each, admin.ModelAdmin if each is foreign else ours)
    urlpatterns.append(path(f"{mixed.name}/", mixed.urls))


@pytest.mark.parametrize("foreign", OURS)
def test_pages_link_to_no_page_of_ours_that_a_foreign_admin_lacks(
    other_sites: None, admin_client: Client, client: WebhookClient, foreign: type[Model]
) -> None:
    client.reply(message="stop")
    opt_out, message = OptOut.objects.get(), Message.objects.get()
    pages = {
        Message: [f"message/{message.pk}/conversation/", f"message/{message.pk}/change/"],
        OptOut: [f"optout/{opt_out.pk}/change/", f"optout/add/?message={message.pk}"],
        StatusChange: ["statuschange/"],
        WebhookEvent: ["webhookevent/", "webhookevent/overview/", "webhookevent/figures/"],
    }
    for model in OURS.keys() - {foreign}:
        for page in pages[model]:
            url = f"/foreign-{foreign._meta.model_name}/cellcast_django/{page}"
            assert admin_client.get(url).status_code == 200, url
