"""The page that says who did what."""

import logging
from collections.abc import Sequence
from secrets import token_urlsafe
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from phonenumbers import PhoneNumber

from cellcast_django.admin.actions import CALL_ACTIONS, EVENT_ACTIONS
from cellcast_django.admin.display.texts import readable_number
from cellcast_django.desk import activity, setup
from cellcast_django.diagnostics.test_send import Response
from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.models import MAX_USERNAME_LENGTH, Message, OptOut, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import Know, staff, url_of
from tests.desk import every_page
from tests.desk.every_page import (
    NAME,
    NEW_NUMBER,
    NUMBER,
    REASON,
    TEXT,
    Everybody,
    Form,
    on_one_database,
)
from tests.handlers import Calls, Connect
from tests.html import addresses, every, only, words

pytestmark = pytest.mark.django_db


@pytest.fixture
def auditor() -> Client:
    return staff("view_activity")


def rows_of(client: Client, **query: Any) -> list[Any]:
    response = client.get(reverse("admin:cellcast_django_activity"), query)
    assert response.status_code == 200
    return every(response.content.decode(), "tr[@data-activity]")


def log(model: type[Model], obj: Model | None = None, message: str = "Did it.") -> LogEntry:
    user, _ = User.objects.get_or_create(username="ann", is_staff=True)
    return LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(model),
        object_id=None if obj is None else str(obj.pk),
        object_repr="many" if obj is None else str(obj),
        action_flag=CHANGE,
        change_message=message,
    )


def test_activity_names_person_action_and_object_newest_first(auditor: Client) -> None:
    event = WebhookEventFactory.create()
    log(WebhookEvent, event, "Skipped the handler gone.")
    log(Message, None, "Exported 20 rows.")

    exported, skipped = (list(map(words, row)) for row in rows_of(auditor))

    assert skipped[1:] == ["ann", f"Skipped the handler gone. webhook event {event.pk}"]
    assert exported[1:] == ["ann", "Exported 20 rows."]


def test_page_describes_djangos_own_entries(auditor: Client) -> None:
    entry = log(OptOut, None, "")
    LogEntry.objects.filter(pk=entry.pk).update(action_flag=ADDITION)
    [row] = rows_of(auditor)
    assert words(every(row, "td")[1]) == "Addition"


def test_object_is_linked_for_permitted_users(auditor: Client) -> None:
    event, gone = WebhookEventFactory.create(), WebhookEventFactory.create()
    log(WebhookEvent, event)
    log(WebhookEvent, gone)
    gone.delete()

    assert [addresses(row) for row in rows_of(auditor)] == [[], []]
    viewer = staff("view_activity", "view_webhookevent")
    assert [addresses(row) for row in rows_of(viewer)] == [
        [],
        [url_of("webhookevent", "change", event.pk)],
    ]


def test_page_requires_its_permission(reader: Client) -> None:
    url = reverse("admin:cellcast_django_activity")
    assert reader.get(url).status_code == 403
    assert url not in reader.get(url_of("webhookevent")).content.decode()
    viewer = staff("view_activity", "view_webhookevent")
    assert url in addresses(viewer.get(url_of("webhookevent")).content.decode())


def test_page_can_be_filtered_by_user(auditor: Client) -> None:
    log(Message)
    other = log(Message)
    bob = User.objects.create(username="bob")
    LogEntry.objects.filter(pk=other.pk).update(user=bob)

    html = auditor.get(reverse("admin:cellcast_django_activity"), {"person": bob.pk})

    assert words(only(html.content.decode(), "option[@selected]")) == "bob"
    [row] = rows_of(auditor, person=bob.pk)
    assert row.get("data-activity") == str(other.pk)
    assert len(rows_of(auditor, person="x")) == 2


def test_page_links_to_older_activity(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "PER_PAGE", 2)
    entries = [log(Message) for _ in range(3)]
    url = reverse("admin:cellcast_django_activity")

    first = auditor.get(url).content.decode()
    link = only(first, "a[@id='cellcast-older']").get("href", "")
    second = auditor.get(url + link).content.decode()

    [row] = every(second, "tr[@data-activity]")
    assert row.get("data-activity") == str(entries[0].pk)
    assert not every(second, "a[@id='cellcast-older']")


def test_customer_is_named_to_whoever_may_see_the_object(auditor: Client, know: Know) -> None:
    know(names=Everybody().names)
    message = MessageFactory.create()
    log(Message, message)
    [for_auditor] = rows_of(auditor)
    [for_reader] = rows_of(staff("view_activity", "view_message"))
    assert words(for_auditor).endswith(f"message {message.pk}")
    assert NAME in words(for_reader)


@pytest.mark.parametrize("page", ["admin:index", "admin:cellcast_django_activity"])
def test_auditor_finds_the_way_from_the_front_page(auditor: Client, page: str) -> None:
    section = reverse("admin:app_list", args=["cellcast_django"])
    assert section in addresses(auditor.get(reverse(page)).text)
    html = auditor.get(section).text
    assert reverse("admin:cellcast_django_activity") in addresses(html)
    assert url_of("webhookevent") not in addresses(html)
    assert auditor.get(url_of("webhookevent")).status_code == 403


def test_query_count_does_not_grow_with_rows() -> None:
    viewer = staff("view_activity", "view_webhookevent", "view_message")

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            rows_of(viewer)
        return len(queries)

    log(WebhookEvent, WebhookEventFactory.create())
    log(Message, MessageFactory.create())
    count()
    before = count()
    for _ in range(10):
        log(WebhookEvent, WebhookEventFactory.create())
        log(Message, MessageFactory.create())
    assert count() == before


# What no log may hold


def loses(receiver: str, body: str, sender: str, *, reference: str) -> str:
    raise ValueError(f"{receiver}: {body}")


@on_one_database
@pytest.mark.exhaustive
def test_no_page_or_action_writes_number_name_or_text_into_a_log(
    connect: Connect,
    admin_client: Client,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    settings.CELLCAST_DIRECTORY = f"{every_page.__name__}.Everybody"
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    response = Response(url="", status=200)
    monkeypatch.setattr(setup, "post_as_cellcast", lambda *arguments: response)
    connect(message_received, Calls("moody", error=ValueError(f"{NUMBER} {TEXT}")))
    every_page.store_something_of_everything()
    written = set[str]()

    def press(forms: Sequence[Form]) -> None:
        for form in forms:
            start: Any = connection.savepoint()
            admin_client.post(form.url, form.data)
            entries = LogEntry.objects.values_list("object_repr", "change_message")
            written.update(" ".join(entry) for entry in entries)
            connection.savepoint_rollback(start)

    forms = every_page.forms(admin_client, every_page.addresses())
    press(forms)
    settings.CELLCAST_SEND_WITH = f"{__name__}.loses"
    press([form for form in forms if "text" in form.data])

    did = [kind.log for kind in [*EVENT_ACTIONS, *CALL_ACTIONS]]
    did += ["Sent an answer", "may have been sent", "Marked", "Reopened", "Exported"]
    did += ["Opted the customer out", "Opted the customer back in", "Sent a test", "Deleted"]
    assert [each for each in did if not any(each in entry for entry in written)] == []
    written.update(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    secrets = (NUMBER[3:], readable_number(NUMBER), NEW_NUMBER[3:], NAME, TEXT, REASON)
    assert [each for each in written for secret in secrets if secret in each] == []


@pytest.mark.parametrize(
    ("username", "stored"),
    [
        (4711, "4711"),
        (PhoneNumber(61, 400000000), str(PhoneNumber(61, 400000000))),
        ("n" * 300, "n" * MAX_USERNAME_LENGTH),
    ],
)
def test_username_of_any_type_and_length_is_recorded(
    settings: Any,
    admin_client: Client,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    username: Any,
    stored: str,
) -> None:
    """As custom user models have them, whose people sign in by phone or staff number."""
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    monkeypatch.setattr(User, "get_username", lambda user: username)

    def handler(**kwargs: Any) -> None:
        raise ValueError

    connect(message_received, handler)
    WebhookClient().reply()
    reply, event = Message.objects.get(), WebhookEvent.objects.get()

    def handled_by(model: str, page: str, form: dict[str, Any]) -> str:
        assert admin_client.post(url_of(model, page), form).status_code == 302
        reply.refresh_from_db()
        return reply.handled_by

    assert handled_by("message", "handle", {"one": reply.pk}) == stored
    assert handled_by("message", "reopen", {"replies": reply.pk}) == ""
    action = {"action": "mark_done", ACTION_CHECKBOX_NAME: reply.pk}
    assert handled_by("message", "changelist", action) == stored

    call = event.calls.get()
    url = url_of("handlercall", "act", call.pk, "skip")
    admin_client.post(url, {"confirmed": "yes", "keys": call.pk})
    call.refresh_from_db()
    assert call.skipped_by == stored

    url = url_of("message", "conversation", reply.pk)
    admin_client.post(url, {"text": "Yes", "ticket": token_urlsafe(16), "seen": reply.pk})
    assert Message.objects.outbound().get().sent_by == stored

    admin_client.post(url_of("optout", "add"), {"number": reply.contact, "reason": "x"})
    opt_out = OptOut.objects.get()
    admin_client.post(url_of("optout", "end", opt_out.pk), {"reason": "x"})
    assert [change.username for change in opt_out.history.all()] == [stored, stored]
