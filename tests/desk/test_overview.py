"""The overview: who may see what of it, and what it says."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.test import Client
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
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import changelist_at, staff, text_of
from tests.browser.person import OWNER, RECEPTIONIST
from tests.desk.every_page import addresses as urls, store_something_of_everything
from tests.handlers import Calls, Connect, reply
from tests.html import addresses, every, only, section, times_of, tones, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

OVERVIEW = "admin:cellcast_django_overview"


@pytest.fixture
def reader(db: None) -> Client:
    """A member of staff who may view messages and events."""
    return staff("view_message", "view_webhookevent")


def html_of(client: Client, **query: Any) -> str:
    response = client.get(reverse(OVERVIEW), query)
    assert response.status_code == 200
    return response.content.decode()


# Who may see what


def test_overview_requires_its_permissions() -> None:
    assert Client().get(reverse(OVERVIEW)).status_code == 302
    assert staff("view_statuschange", "view_message").get(reverse(OVERVIEW)).status_code == 403


def test_app_index_shows_who_waits_and_lights(operator: Client, client: WebhookClient) -> None:
    index = reverse("admin:app_list", args=["cellcast_django"])
    assert every(operator.get(index).content.decode(), "p[@class='cellcast-nothing']")
    client.reply(message="May I come later?")
    page = staff("view_message", "view_webhookevent").get(index).content.decode()
    assert words(only(page, "a/strong[@class='cellcast-badge']")) == "1"
    assert lights_of(page)["receive"] == "received"
    page = operator.get(index).content.decode()
    assert not every(page, "a/strong[@class='cellcast-badge']")
    assert lights_of(page)["receive"] == "received"
    assert {*tones(section(page, "lights"))} == {"quiet"}, "a time is no judgement"
    assert not lights_of(staff("view_message").get(index).content.decode())


# Webhooks


def lights_of(html: str) -> dict[str, str]:
    found = every(html, "li[@data-light]")
    return {each.get("id", "")[15:]: each.get("data-light", "") for each in found}


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
    page = html_of(reader)
    assert not attention_of(page)  # of nothing there is no card
    assert every(section(page, "waiting"), "p[@class='cellcast-empty']")
    WebhookEventFactory.create_batch(2, invalid=True)
    WebhookEventFactory.create(invalid=True, is_test=True)
    WebhookEventFactory.create(invalid=True, dismissed_at=timezone.now())
    WebhookEventFactory.create_batch(3, failed=True)
    HandlerCallFactory.create(retrying=True)
    HandlerCallFactory.create_batch(4, waiting=True)
    WebhookEventFactory.create(outcome="deferred", next_read_at=timezone.now())
    found = attention_of(html_of(reader))
    assert sorted(found.values()) == [1, 2, 4], "what fails is counted below, by handler"
    for url, count in found.items():
        assert changelist_at(reader, url).result_count == count


def failing(html: str) -> dict[str, Any]:
    """Return the row of each failing handler."""
    return {each.get("data-handler", ""): each for each in every(html, "tr[@data-handler]")}


def test_failing_handlers_have_counts_and_a_link(reader: Client, noon: datetime) -> None:
    since = noon - timedelta(hours=3)
    HandlerCallFactory.create(retrying=True, error="Bad: old", failing_since=since)
    HandlerCallFactory.create_batch(2, failed=True, error="Odd: newer", failing_since=noon)
    HandlerCallFactory.create(failed=True, handler="b", failing_since=noon + timedelta(hours=1))
    assert not every(section(html_of(reader), "waiting"), "p[@class='cellcast-empty']")
    HandlerCallFactory.create(waiting=True)
    rows = failing(html_of(reader))
    row = rows.pop("shop.handlers.confirm")
    assert [*rows] == ["b"]
    assert [only(row, f"td[@data-{each}]").text for each in ("failed", "retrying")] == ["2", "1"]
    assert words(only(row, "td[@class='cellcast-error']")) == "Odd: newer"
    assert times_of(every(row, "td")[-1]) == [since]
    [link] = every(row, "a")
    assert changelist_at(reader, link.get("href", "")).result_count == 3


def test_overview_names_the_slowest_handlers(reader: Client, settings: Any) -> None:
    assert not every(html_of(reader), "table[@id='cellcast-slowest']")
    seconds = {"log": 0.99, "file": 1, "bill": 75.2}
    for name, each in seconds.items():
        HandlerCallFactory.create(handler=name, seconds=each)
    html = html_of(reader)
    rows = every(html, "table[@id='cellcast-slowest']/tbody/tr")
    assert [words(row) for row in rows] == ["bill 75.20 s", "file 1.00 s"]
    for lease, is_warned in ((75.2 * 2, False), (150, True)):  # of more than half of it
        settings.CELLCAST_HANDLER_LEASE = lease
        warnings = every(html_of(reader), "p[@data-slow]")
        assert [each.get("data-slow") for each in warnings] == ["bill"] * is_warned


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


def test_only_whoever_looks_after_handlers_reads_why_events_are_deferred(
    operator: Client, reader: Client
) -> None:
    WebhookEventFactory.create(
        outcome="deferred", error="OperationalError: locked", next_read_at=timezone.now()
    )
    told = [words(only(html_of(each), "p[@id='cellcast-deferred']")) for each in (operator, reader)]
    assert ["OperationalError: locked" in each for each in told] == [True, False]
    assert told[1].startswith("1 message ")


def test_overview_warns_about_overdue_events(reader: Client, noon: datetime) -> None:
    HandlerCallFactory.create(waiting=True, next_attempt_at=noon - timedelta(minutes=5))
    assert not every(html_of(reader), "p[@id='cellcast-overdue']")
    HandlerCall.objects.update(next_attempt_at=noon - timedelta(days=2, minutes=5))
    assert "2 d" in words(only(html_of(reader), "p[@id='cellcast-overdue']"))


def test_no_setting_or_command_is_named_to_reception_or_the_owner(connect: Connect) -> None:
    connect(message_received, Calls("fails", error=ValueError("no luck")))
    store_something_of_everything()
    HandlerCall.objects.update(next_attempt_at=timezone.now() - timedelta(days=2))
    person = staff(*RECEPTIONIST, *OWNER)
    pages = [response for url in urls() if (response := person.get(url)).status_code == 200]
    assert len(pages) > 15
    for page in pages:
        assert not re.search("CELLCAST_|manage.py", text_of(page.text)), page.request["PATH_INFO"]


# What was sent to people who had opted out


def test_overview_counts_and_links_last_weeks_texts_to_opted_out(reader: Client) -> None:
    assert "cellcast-although-opted-out" not in html_of(reader)
    for number in ("0400 000 001", "0400 000 003"):
        opt_out(number)
    for place in (1, 2, 3):
        Message.objects.record_sent(f"{place}", receiver=f"0400 000 00{place}")
    old = Message.objects.filter(cellcast_id="3")
    old.update(created_at=timezone.now() - timedelta(days=8))
    found = reader.get(reverse(OVERVIEW)).context["page"].although_opted_out
    assert found.count == 1
    rows = reader.get(found.url).context["cl"].result_list
    assert [row.cellcast_id for row in rows] == ["1"]
    response = staff("view_webhookevent").get(reverse(OVERVIEW))
    assert response.context["page"].although_opted_out is None


# Other sites

everything = admin.AdminSite("everything")
everything.register(Message, MessageAdmin)
everything.register(WebhookEvent, WebhookEventAdmin)
everything.register(HandlerCall, HandlerCallAdmin)
messages_alone = admin.AdminSite("messages-alone")
messages_alone.register(Message, MessageAdmin)
plain = admin.AdminSite("plain")
plain.register(WebhookEvent)
plain.register(Message, MessageAdmin)
for each_site in (everything, messages_alone, plain):
    give_desk_to(each_site)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("everything/", everything.urls),
    path("messages/", messages_alone.urls),
    path("plain/", plain.urls),
    path("sms/", include("cellcast_django.urls")),
]


@pytest.fixture
def other_sites(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize(
    ("site", "home", "offered"),
    [
        ("everything", "webhookevent", ["run_again", "skip"]),
        ("plain", "message", []),  # its events have a class of the host's
    ],
)
def test_other_site_has_its_own_pages_and_offers_what_its_classes_do(
    other_sites: None, admin_client: Client, site: str, home: str, offered: list[str]
) -> None:
    WebhookEventFactory.create(failed=True)
    base = f"/{site}/cellcast_django"
    conversation = f"{base}/message/{Message.objects.get().pk}/conversation/"
    urls = [f"{base}/{home}/{page}/" for page in ("overview", "setup")]
    assert {*urls, conversation} <= set(addresses(admin_client.get(f"{base}/message/").text))
    pages = [admin_client.get(url) for url in (*urls, conversation)]
    assert [page.status_code for page in pages] == [200, 200, 200]
    assert not re.search('(href|action)="/admin/', "".join(page.text for page in pages))
    [row] = failing(pages[0].text).values()
    assert [each.get("data-action") for each in every(row, "a[@data-action]")] == offered


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
    assert not every(section_page, "section[@aria-labelledby='cellcast-waiting-heading']")
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
