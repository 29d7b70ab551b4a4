"""What the desk adds to the admin: pages, links, panels, an action, and what opting out marks."""

import re
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone

import cellcast_django
from cellcast_django.admin import (
    MessageAdmin,
    register as register_models,
)
from cellcast_django.desk.admin import register
from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    OptOutFactory,
    WebhookEventFactory,
)
from cellcast_django.models import Message, OptOutChange, WebhookEvent
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.testing import WebhookClient
from tests.admin_pages import CUSTOMER, fill, page_of, staff, url_of
from tests.html import addresses, every, only, words
from tests.many import add_copies
from tests.plans import HAS_STATISTICS, gather_statistics, plan_of, queries_of, scans

pytestmark = pytest.mark.django_db
only_on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="asks SQLite itself")


# On which sites it is

bare = admin.AdminSite("bare")  # not given to the desk
register_models(bare)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("bare/", bare.urls),
    path("sms/", include("cellcast_django.urls")),
]


@override_settings(ROOT_URLCONF=__name__)
def test_site_that_was_not_given_to_the_desk_has_none_of_it(
    admin_client: Client, client: WebhookClient
) -> None:
    client.reply()
    base, key = "/bare/cellcast_django", Message.objects.get().pk
    addresses = (f"{base}/{page}" for page in ("message/", f"message/{key}/change/", ""))
    pages = [admin_client.get(address) for address in addresses]
    assert {response.status_code for response in pages} == {200}
    everything = "".join(response.text for response in pages)
    assert not re.search("conversation|to-answer|mark_done|cellcast-handle|overview", everything)
    no_such_page = admin_client.get(f"{base}/message/{key}/conversation/")
    assert no_such_page["Location"].startswith(f"{base}/message/{key}/conversation/change")


@override_settings(ROOT_URLCONF=__name__)
def test_without_the_desk_a_message_leads_to_its_customers_others(admin_client: Client) -> None:
    first, second = MessageFactory.create_batch(2, inbound=True, sender=CUSTOMER)
    MessageFactory.create(inbound=True, sender="+61400000009")
    nobody = MessageFactory.create(inbound=True, sender="")
    base = "/bare/cellcast_django/message"

    link = only(admin_client.get(f"{base}/{first.pk}/change/").text, "a[@id='cellcast-others']")
    found = admin_client.get(link.get("href", "")).context["cl"].result_list

    assert {row.pk for row in found} == {first.pk, second.pk}
    assert CUSTOMER[1:] not in link.get("href", "")
    assert "cellcast-others" not in admin_client.get(f"{base}/{nobody.pk}/change/").text
    assert len(admin_client.get(f"{base}/?customer_of=x").context["cl"].result_list) == 4
    assert not admin_client.get(f"{base}/?customer_of={nobody.pk}").context["cl"].result_list


def test_registered_models_are_left_alone() -> None:
    site = admin.AdminSite()
    own = type("Own", (MessageAdmin,), {})
    site.register(Message, own)
    register_models(site)
    for _ in range(2):
        register(site)
    assert type(site.get_model_admin(Message)) is own
    assert site.is_registered(WebhookEvent)


class WithOwnActions(MessageAdmin):
    """A host project's own, which has actions and columns besides."""

    actions = ["shout"]
    list_display = [*MessageAdmin.list_display, "loud"]

    @admin.display
    def loud(self, message: Message) -> str:
        return message.contact.upper()

    def shout(self, request: HttpRequest, queryset: Any) -> None:
        """Do nothing."""


own_site = admin.AdminSite("own")
own_site.register(Message, WithOwnActions)
register(own_site)
urlpatterns.append(path("own/", own_site.urls))


@override_settings(ROOT_URLCONF=__name__)
def test_hosts_own_class_keeps_its_actions_and_columns(
    admin_client: Client, client: WebhookClient
) -> None:
    client.reply()
    page = admin_client.get("/own/cellcast_django/message/").text
    offered = {each.get("value") for each in every(page, "option[@value]")}
    assert {"mark_done", "shout"} <= offered
    [cell] = every(page, "td[@class='field-loud']")
    assert words(cell) == Message.objects.get().contact
    Message.objects.update(handled_at=timezone.now())
    assert "formaction" in admin_client.get("/own/cellcast_django/message/?handled=done").text
    popup = admin_client.get("/own/cellcast_django/message/?handled=done&_popup=1").text
    assert not re.search("mark_done|formaction", popup)


@pytest.mark.parametrize("missing", ["cellcast_django", "django.contrib.admin"])
def test_missing_app_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != missing)
    with pytest.raises(ImproperlyConfigured, match=f'"{missing}".*INSTALLED_APPS.*remove'):
        apps.get_app_config("cellcast_desk").import_models()


def test_no_template_is_in_both_apps() -> None:
    package = Path(cellcast_django.__file__).parent
    core, desk = (
        {path.relative_to(folder) for path in folder.rglob("*.html")}
        for folder in (package / "templates", package / "desk" / "templates")
    )
    assert core and desk and not core & desk


# Links and panels


@pytest.mark.parametrize(
    ("model", "choice"),
    [
        ("message", {"direction": "outbound"}),
        ("webhookevent", {"outcome": "failed"}),
    ],
)
def test_empty_list_links_to_the_setup_page(
    admin_client: Client, reader: Client, client: WebhookClient, model: str, choice: dict[str, str]
) -> None:
    def said(client: Client, **query: str) -> list[list[str]]:
        found = every(page_of(client, model, **query), "p[@id='cellcast-nothing-here']")
        return [addresses(each) for each in found]

    assert said(admin_client) == [[reverse("admin:cellcast_django_setup")]]
    assert said(admin_client, q="nobody") == []
    assert said(admin_client, **choice) == []
    assert said(reader) == [[]]
    client.status()
    assert said(admin_client) == []


@only_on_sqlite
@pytest.mark.parametrize("order", ["", "longest"])
def test_to_answer_uses_its_own_index(reader: Client, order: str) -> None:
    fill(300)

    with CaptureQueriesContext(connection) as captured:
        assert reader.get(url_of("message", "to_answer", order=order)).status_code == 200

    statements = [q["sql"] for q in captured if 'FROM "cellcast_django_message"' in q["sql"]]
    plans = [" ".join(plan_of(statement)) for statement in statements]
    walks = [plan for plan in plans if "cellcast_message_unhandled" in plan]
    assert len(walks) == 2  # who waits, and whether they may want to stop
    for plan in walks:
        assert "cellcast_message_unhandled (direction=? AND handled_at=?)" in plan
        assert "B-TREE" not in plan
    assert not [plan for plan in plans if "SCAN cellcast" in plan]


@pytest.mark.parametrize("page", ["overview", "figures"])
@pytest.mark.parametrize("has_statistics", HAS_STATISTICS)
def test_every_query_of_what_counts_uses_an_index(
    admin_client: Client, page: str, has_statistics: bool
) -> None:
    message = MessageFactory.create(status="failed", history__reason="Absent")
    event = WebhookEventFactory.create(message=message, duplicate=True)
    days = [timezone.now() - timedelta(days=age) for age in range(300)]
    statuses = ["delivered" if age % 10 else "failed" for age in range(300)]
    keys = add_copies(message, 300, lambda n: {"created_at": days[n], "status": statuses[n]})
    change = message.status_history.get()
    add_copies(change, 300, lambda n: {"message_id": keys[n], "status": statuses[n]})
    events = add_copies(event, 300, lambda n: {"message_id": keys[n], "received_at": days[n]})
    add_copies(HandlerCallFactory.create(event=event), 300, lambda n: {"event_id": events[n]})
    add_copies(OptOutFactory.create(), 300, lambda n: {"contact": f"+61400{n:06}"})
    WebhookEventFactory.create(failed=True)
    if has_statistics:
        gather_statistics()
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(reverse(f"admin:cellcast_django_{page}"))
    statements = [q["sql"] for q in queries if "FROM" in q["sql"] and "1 = 0" not in q["sql"]]
    if page == "figures":  # of opt-outs nearly all stand, so all are counted
        statements = [sql for sql in statements if "optout" not in sql]
    assert len(statements) >= 6
    assert {sql: steps for sql in statements if (steps := scans(sql))} == {}


@pytest.mark.exhaustive
def test_query_count_does_not_grow_with_rows(admin_client: Client) -> None:
    fill(70)
    message = Message.objects.get(cellcast_id="id-7")
    pages = [
        url_of("message", "change", message.pk),
        url_of("message", "conversation", message.pk),
        url_of("message", "to_answer"),
        reverse("admin:cellcast_django_figures"),
        reverse("admin:cellcast_django_overview"),
    ]

    def queries() -> dict[str, int]:
        return {page: queries_of(partial(admin_client.get, page)) for page in pages}

    queries()  # Django keeps the content types
    few = queries()
    fill(300)
    for model in (Message, WebhookEvent):
        model.objects.filter(pk__gt=200).update(contact=message.contact)
    many = queries()
    # Nobody waits in the first conversation.
    assert {name: (few[name], many[name]) for name in few if many[name] > few[name] + 3} == {}
    assert max(few.values()) < 30


# Opting out from a reply


@pytest.fixture
def receptionist() -> Client:
    """A member of staff who answers, marks as done, and opts customers out and in."""
    return staff(
        "view_message", "handle_message", "view_optout", "add_optout", "end_optout", "change_optout"
    )


def test_form_opened_from_a_reply_is_prefilled_and_marks_it_alone(receptionist: Client) -> None:
    earlier = MessageFactory.create(inbound=True, sender=CUSTOMER, body="Hello?")
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER, body="No more texts")
    url = url_of("optout", "add", message=reply.pk)
    form = receptionist.get(url).context["adminform"].form
    assert form["number"].value() == "0400 000 001"
    assert "No more texts" in form["reason"].value()
    data = {name: form[name].value() for name in ("number", "reason")}
    response = receptionist.post(url, data)
    assert response["Location"] == url_of("message", "conversation", reply.pk)
    assert is_opted_out(CUSTOMER)
    assert OptOutChange.objects.get().username == "staff-0"
    reply.refresh_from_db()
    assert (reply.handled_at is not None, reply.handled_by) == (True, "staff-0")
    assert Message.objects.unhandled().get() == earlier
    entry = LogEntry.objects.get()
    assert "No more" not in f"{entry.object_repr} {entry.change_message}"
    assert "400000001" not in f"{entry.object_repr} {entry.change_message}"


def test_adding_locks_messages_before_the_opt_out(receptionist: Client) -> None:
    """As the inbox does, which would otherwise wait for this transaction while it waits for it."""
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER)
    with CaptureQueriesContext(connection) as queries:
        receptionist.post(
            url_of("optout", "add", message=reply.pk), {"number": CUSTOMER, "reason": "asked"}
        )
    writes = [q["sql"] for q in queries if re.match("INSERT|UPDATE|SELECT .* FOR UPDATE", q["sql"])]
    written = [sql for sql in writes if re.match(r"\S+ (INTO )?\S*_(message|optout)\b", sql)]
    assert "_message" in written[0]
    assert any("_optout" in sql for sql in written)


def test_ending_from_a_conversation_returns_there(receptionist: Client) -> None:
    message = MessageFactory.create(receiver=CUSTOMER)
    made = OptOutFactory.create(contact=CUSTOMER)
    url = url_of("optout", "end", made.pk, message=message.pk)
    back = url_of("message", "conversation", message.pk)
    assert f'href="{back}"' in receptionist.get(url).content.decode()
    response = receptionist.post(url, {"reason": "signed up again"})
    assert response["Location"] == back
    change = OptOutChange.objects.latest("pk")
    assert (change.kind, change.note, change.username) == ("ended", "signed up again", "staff-0")
