"""The admin's pages of opt-outs: found by number, added and ended by hand, never edited."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import OptOutFactory, WebhookEventFactory
from cellcast_django.models import OptOut
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from tests.admin_pages import CUSTOMER, listed, page_of, staff, text_of, url_of
from tests.database_faults import just_before

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer() -> Client:
    return staff("view_optout", "view_webhookevent")


@pytest.fixture
def clerk() -> Client:
    """A member of staff who may opt contacts out and end it."""
    return staff("view_optout", "add_optout", "end_optout")


# The list


def test_list_shows_contact_since_how_event_and_state(viewer: Client) -> None:
    event = WebhookEventFactory.create(
        opt_out=True, contact=CUSTOMER, received_at=timezone.now() - timedelta(days=3)
    )
    OptOutFactory.create(contact="+61400000009", ended=True)
    words = text_of(page_of(viewer, "optout"))
    assert "3 days ago" in words
    assert f"opt-out webhook #{event.pk}" in words
    assert "opted out" in words and "member of staff" in words and "ended" in words


@pytest.mark.parametrize("term", [CUSTOMER, "0400 000 001", "61400000001", " 400000001 "])
def test_contact_is_found_in_any_spelling(viewer: Client, term: str) -> None:
    found = opt_out(CUSTOMER)
    opt_out("+61400000002")
    assert listed(viewer, "optout", q=term) == [found.pk]


def test_filters(viewer: Client) -> None:
    old = OptOutFactory.create(since=timezone.now() - timedelta(days=8))
    ended = OptOutFactory.create(ended=True)
    by_webhook = OptOutFactory.create(source="webhook")
    assert listed(viewer, "optout", state="active") == [by_webhook.pk, old.pk]
    assert listed(viewer, "optout", state="ended") == [ended.pk]
    assert len(listed(viewer, "optout", state="x")) == 3
    assert listed(viewer, "optout", source="webhook") == [by_webhook.pk]
    assert listed(viewer, "optout", period="7") == [by_webhook.pk, ended.pk]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="asks SQLite itself")
@pytest.mark.parametrize(
    "query", [{}, {"state": "active"}, {"source": "list"}, {"period": "7"}, {"q": "0400000001"}]
)
def test_list_is_read_by_an_index(viewer: Client, query: dict[str, str]) -> None:
    with CaptureQueriesContext(connection) as queries:
        listed(viewer, "optout", **query)
    selects = [q["sql"] for q in queries if 'FROM "cellcast_django_optout"' in q["sql"]]
    with connection.cursor() as cursor:
        for sql in selects:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            steps = [row[3] for row in cursor.fetchall()]
            if "LIMIT 10001" in sql:  # nearly all stand, so that many are met at once
                continue
            assert not any("TEMP B-TREE" in step for step in steps), (sql, steps)
            scans = [step for step in steps if "SCAN cellcast" in step and "INDEX" not in step]
            assert not scans, (sql, steps)


def test_export(viewer: Client) -> None:
    assert viewer.get(url_of("optout", "export")).status_code == 403
    assert "Export" not in page_of(viewer, "optout")
    opt_out(CUSTOMER, note="asked at the counter")
    exporter = staff("view_optout", "export_optout")
    assert url_of("optout", "export") in page_of(exporter, "optout")
    response = exporter.get(url_of("optout", "export"))
    lines = b"".join(response).decode("utf-8-sig").splitlines()
    assert lines[0] == '"id","contact","since","source","event_id","ended_at","note"'
    assert CUSTOMER in lines[1] and "asked at the counter" in lines[1]


def test_page_shows_what_is_kept(viewer: Client) -> None:
    event = WebhookEventFactory.create(opt_out=True, contact=CUSTOMER)
    opt_in(CUSTOMER, note="signed up again")
    words = text_of(page_of(viewer, "optout", "change", event.opt_out_change.opt_out.pk))
    assert f"#{event.pk}" in words and "signed up again" in words and "ended" in words


def test_nobody_edits_or_deletes_by_hand(admin_client: Client) -> None:
    made = opt_out(CUSTOMER)
    changed = admin_client.post(url_of("optout", "change", made.pk), {"note": "x"})
    assert changed.status_code == 403
    deleted = admin_client.post(url_of("optout", "delete", made.pk), {"post": "yes"})
    assert deleted.status_code == 403
    assert "delete_selected" not in page_of(admin_client, "optout")
    assert OptOut.objects.values().get() == OptOut.objects.filter(note="").values().get()


def test_pages_need_the_permission_to_view() -> None:
    made = opt_out(CUSTOMER)
    other = staff("view_message", "view_webhookevent", "end_optout")
    for url in (
        url_of("optout"),
        url_of("optout", "change", made.pk),
        url_of("optout", "end", made.pk),
    ):
        assert other.get(url).status_code == 403
        assert Client().get(url).status_code == 302


# Adding


def add(client: Client, **data: str) -> Any:
    return client.post(
        url_of("optout", "add"), {"number": "0400 000 001", "reason": "asked"} | data
    )


def test_contact_is_opted_out_by_hand(clerk: Client) -> None:
    assert url_of("optout", "add") in page_of(clerk, "optout")
    assert text_of(page_of(clerk, "optout", "add")).count("Reason") == 1
    assert add(clerk, reason="asked at the counter").status_code == 302
    made = OptOut.objects.get()
    assert (made.contact, made.source, made.note) == (CUSTOMER, "person", "asked at the counter")
    entry = LogEntry.objects.get()
    assert (entry.is_addition(), entry.object_id) == (True, str(made.pk))
    assert CUSTOMER not in f"{entry.object_repr} {entry.change_message}"


def test_one_that_had_ended_begins_again(clerk: Client) -> None:
    made = opt_out(CUSTOMER, note="first")
    opt_in(CUSTOMER)
    assert add(clerk).status_code == 302
    assert OptOut.objects.get() == made
    assert is_opted_out(CUSTOMER)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"number": "0400 000"}, "This is not a valid phone number."),
        ({"number": "cellcast"}, "This is not a valid phone number."),
        ({"number": ""}, "This field is required."),
        ({"reason": " "}, "This field is required."),
    ],
)
def test_slip_of_the_pen_opts_nobody_out(
    clerk: Client, data: dict[str, str], complaint: str
) -> None:
    response = add(clerk, **data)
    assert complaint in response.content.decode()
    assert not OptOut.objects.exists()


def test_contact_who_has_opted_out_is_not_opted_out_again(clerk: Client) -> None:
    opt_out(CUSTOMER, note="first")
    assert "This contact has already opted out." in add(clerk).content.decode()
    assert OptOut.objects.get().note == "first"


def test_adding_needs_its_permission(viewer: Client) -> None:
    assert add(viewer).status_code == 403
    assert url_of("optout", "add") not in page_of(viewer, "optout")
    assert not OptOut.objects.exists()


# Ending


def test_opt_out_is_ended_with_a_reason(clerk: Client) -> None:
    made = opt_out(CUSTOMER, note="asked")
    url = url_of("optout", "end", made.pk)
    assert url in page_of(clerk, "optout", "change", made.pk)
    assert "Only do this with the customer’s consent" in clerk.get(url).content.decode()
    assert "This field is required." in clerk.post(url, {"reason": ""}).content.decode()
    assert is_opted_out(CUSTOMER)
    response = clerk.post(url, {"reason": "signed up again"}, follow=True)
    assert "The opt-out has ended." in response.content.decode()
    made.refresh_from_db()
    assert made.ended_at is not None
    assert made.note == "signed up again"
    entry = LogEntry.objects.get()
    assert (entry.change_message, entry.object_id) == ("Ended the opt-out.", str(made.pk))
    assert url not in page_of(clerk, "optout", "change", made.pk)


def test_one_that_has_ended_is_not_ended_again(clerk: Client) -> None:
    made = OptOutFactory.create(ended=True)
    response = clerk.post(url_of("optout", "end", made.pk), {"reason": "x"}, follow=True)
    assert "This opt-out has already ended." in response.content.decode()
    assert not LogEntry.objects.exists()


def test_one_that_somebody_else_ends_at_the_same_moment_is_not_logged_twice(
    clerk: Client,
) -> None:
    made = OptOutFactory.create()
    with just_before("^UPDATE .*optout", lambda: opt_in(made.contact)):
        response = clerk.post(url_of("optout", "end", made.pk), {"reason": "x"})
    assert response.status_code == 302
    assert not LogEntry.objects.exists()


def test_ending_needs_its_permission(viewer: Client) -> None:
    made = opt_out(CUSTOMER)
    url = url_of("optout", "end", made.pk)
    assert viewer.post(url, {"reason": "x"}).status_code == 403
    assert url not in page_of(viewer, "optout", "change", made.pk)
    assert is_opted_out(CUSTOMER)


def test_one_that_is_not_there(clerk: Client) -> None:
    assert clerk.get(url_of("optout", "end", 1)).status_code == 404


# On other pages


@pytest.mark.parametrize("opt_out_event", [True, False])
def test_page_of_an_event_says_that_its_contact_has_opted_out(
    viewer: Client, opt_out_event: bool
) -> None:
    if opt_out_event:
        event = WebhookEventFactory.create(opt_out=True)
    else:
        event = WebhookEventFactory.create(reply=True)
        opt_out(event.contact)
    assert "opted out since" in text_of(page_of(viewer, "webhookevent", "change", event.pk))
    opt_in(event.contact)
    assert "opted out since" not in text_of(page_of(viewer, "webhookevent", "change", event.pk))


def names(contacts: list[str]) -> dict[str, str]:
    return dict.fromkeys(contacts, "Ms Kim Lee")


def test_list_shows_the_names_that_the_host_project_knows(viewer: Client, settings: Any) -> None:
    settings.CELLCAST_CONTACT_NAMES = "tests.test_admin_opt_outs.names"
    OptOutFactory.create()
    assert "Ms Kim Lee" in page_of(viewer, "optout")


def figures_of(client: Client, **query: str) -> str:
    response = client.get(reverse("admin:cellcast_django_figures"), query)
    return text_of(response.content.decode())


def test_figures_count_new_opt_outs_of_the_period() -> None:
    person = staff("view_message", "view_optout")
    OptOutFactory.create_batch(2)
    OptOutFactory.create(since=timezone.now() - timedelta(days=20))
    assert "New opt-outs 2 contacts" in figures_of(person)
    assert "New opt-outs 3 contacts" in figures_of(person, period="30")
    assert "New opt-outs" not in figures_of(staff("view_message"))
