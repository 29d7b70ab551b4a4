"""The figures: what is counted in a period, and where each figure leads."""

import csv
from datetime import datetime, timedelta
from io import StringIO
from math import floor
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from cellcast_django.desk import figures
from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    OptOutFactory,
    WebhookEventFactory,
)
from cellcast_django.models import Message
from cellcast_django.statuses import UNDELIVERED, Status
from cellcast_django.testing import WebhookClient
from tests.admin_pages import CUSTOMER, changelist_at, staff
from tests.html import addresses, every, only, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

FIGURES = "admin:cellcast_django_figures"


@pytest.fixture
def reader(db: None) -> Client:
    """A member of staff who may view messages, opt-outs and events."""
    return staff("view_message", "view_optout", "view_webhookevent")


def html_of(client: Client, **query: Any) -> str:
    response = client.get(reverse(FIGURES), query)
    assert response.status_code == 200
    return response.content.decode()


def table_of(html: str) -> dict[str, list[str]]:
    """Return the cells of each row of the first table by the figure's name."""
    rows = every(html, "tr[@data-figure]")
    return {row.get("data-figure", ""): [words(each) for each in every(row, "td")] for row in rows}


def reasons_of(html: str) -> list[tuple[str, str]]:
    """Return each reason, and how often it was given in this month."""
    rows = every(html, "tr[@data-reason]")
    return [(words(only(row, "th")), words(every(row, "td")[1])) for row in rows]


def fail(at: datetime, reason: str = "", status: str = "failed") -> None:
    MessageFactory.create(status=status, history__reason=reason, created_at=at)


@pytest.fixture
def two_months(noon: datetime) -> datetime:
    """Messages of this month and the last one: of each status, with and without reasons."""
    times = [noon - timedelta(days=days) for days in (0, 2, 3, 11, 12, 20, 40)]
    for status in (*Status.values, "", "on-its-way"):
        message = MessageFactory.create(status=status, created_at=times[0])
        add_copies(message, len(times) - 1, lambda number: {"created_at": times[number + 1]})
    for at in times:
        MessageFactory.create(inbound=True, created_at=at)
        fail(at, "Absent subscriber")
        fail(at, "absent subscriber")
        fail(at, "Call 0491 570 006")
        OptOutFactory.create(since=at)
    OptOutFactory.create(since=noon, ended=True)
    tester = WebhookClient(headers={"Cellcast-Test-Send": "1"})
    tester.status()
    tester.reply()
    return noon


# Every figure leads to what it counts


@pytest.mark.parametrize(
    "page", ["overview", pytest.param("figures", marks=pytest.mark.exhaustive)]
)
def test_every_figure_links_to_exactly_the_rows_it_counts(
    reader: Client, two_months: datetime, page: str
) -> None:
    WebhookEventFactory.create_batch(2, failed=True)
    WebhookEventFactory.create(failed=True, is_test=True)
    HandlerCallFactory.create(retrying=True)
    WebhookEventFactory.create(invalid=True)
    WebhookEventFactory.create(invalid=True, is_test=True)
    for days in (1, 5, 8):
        sent_at = two_months - timedelta(days=days)
        Message.objects.filter(
            pk=Message.objects.record_sent(f"sent-{days}", receiver=CUSTOMER).pk
        ).update(opted_out_at=sent_at, created_at=sent_at)
    counts: dict[str, int] = {}

    for period in ("", "2026-07"):
        url = f"{reverse(f'admin:cellcast_django_{page}')}?period={period}"
        found = every(reader.get(url).content.decode(), "a[@data-count]")
        assert len(found) >= 3
        for link in found:
            url = link.get("href", "")
            assert "0491" not in url
            if url not in counts:
                counts[url] = changelist_at(reader, url).result_count
            assert counts[url] == int(link.get("data-count", "")), (period, url)


# Months


def test_page_compares_this_month_with_last_month(reader: Client, two_months: datetime) -> None:
    html = html_of(reader)
    heads = every(html, "table[@id='cellcast-months']/thead//th")
    assert [words(head)[:3] for head in heads] == ["Jul", "Aug"]
    assert ["data-unfinished" in head.attrib for head in heads] == [False, True]
    levels = [each.get("class", "")[-1:] for each in every(html, "tr[@data-figure]/th")]
    assert "".join(levels) == f"01{'1' + '2' * len(UNDELIVERED)}1100", "parts are indented"
    undelivered = len(UNDELIVERED) + 3
    open_ = len(Status.values) - len(UNDELIVERED) - 1 + 2
    sent = undelivered + open_ + 1
    share = f"{floor(1_000 / (undelivered + 1)) / 10}% of"
    assert table_of(html) == {
        "share": [f"{share} {count * (undelivered + 1)}" for count in (3, 4)],
        "sent": [str(3 * sent), str(4 * sent)],
        "delivered": ["3", "4"],
        "not_delivered": [str(3 * undelivered), str(4 * undelivered)],
        **{status: ["3", "4"] for status in UNDELIVERED},
        "failed": ["12", "16"],
        "on_the_way": ["0", str(2 * open_)],
        "unreported": [str(3 * open_), str(2 * open_)],
        "replies": ["3", "4"],
        "opt_outs": ["3", "5"],
    }


@pytest.mark.parametrize(
    ("period", "name", "linked"),
    [
        ("", "August 2026", ["2026-07", "2026-08"]),
        ("2026-07", "July 2026", ["2026-06", "2026-07", "2026-08"]),
        ("2026-02", "February 2026", ["2026-01", "2026-02", "2026-03", "2026-08"]),
        ("2027-01", "August 2026", ["2026-07", "2026-08"]),
        ("2026-13", "August 2026", ["2026-07", "2026-08"]),
        ("20٢٦-07", "August 2026", ["2026-07", "2026-08"]),  # digits, but no ASCII
    ],
)
def test_url_selects_the_month_which_links_to_its_neighbours_and_the_present_one(
    reader: Client, noon: datetime, period: str, name: str, linked: list[str]
) -> None:
    nav = only(html_of(reader, period=period), "nav[@aria-label='Month']")
    assert words(only(nav, "a[@aria-current='page']")) == name
    assert addresses(nav) == [f"?period={each}" for each in linked]


# Reasons


def test_each_column_of_the_days_has_a_heading(reader: Client, two_months: datetime) -> None:
    table = only(html_of(reader), "table[@id='cellcast-days']")
    heads = [int(each.get("colspan", "1")) for each in every(table, "thead/tr/th")]
    assert sum(heads) == len([*every(table, "tbody/tr")[0]])


def test_reasons_are_counted_exactly(reader: Client, noon: datetime) -> None:
    for reason in ("Absent", "Absent", "absent", "Absent ", "Äbsent", "", ""):
        fail(noon, reason)
    fail(noon - timedelta(days=40), "Absent")
    MessageFactory.create(delivered=True, history__reason="Absent", created_at=noon)
    html = html_of(reader)
    assert "Absent 1 2" in map(words, every(html, "tr[@data-reason]"))
    assert sorted(reasons_of(html)) == [
        ("Absent", "1"),
        ("Absent", "2"),
        ("absent", "1"),
        ("no reason given", "2"),
        ("Äbsent", "1"),
    ]


def test_rare_reasons_are_summed(
    reader: Client, noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_REASONS", 2)
    for reason in ("a", "a", "a", "b", "b", "c", "d", ""):
        fail(noon, reason)
    rare = Message.objects.get(status_history__reason="d")
    rare.status_history.create(status="sent", applied=False, reason="a")  # of another status
    html = html_of(reader)
    named, counts = zip(*reasons_of(html), strict=True)
    assert [int(count) for count in counts] == [3, 2, 2, 1]
    links = every(only(html, "tbody[@id='cellcast-reasons']"), "a[@data-count]")
    for name, link in zip(named, links, strict=True):
        found = changelist_at(reader, link.get("href", ""))
        assert str(found.result_count) == link.get("data-count")
        [by_reason] = [each for each in found.filter_specs if each.parameter_name == "reason"]
        chosen = [each["display"] for each in by_reason.choices(found) if each["selected"]]
        assert chosen == [name], "the list says which reason it is"


# Who may see what


def test_figures_require_permission_to_view_what_they_count(noon: datetime) -> None:
    assert staff("view_webhookevent").get(reverse(FIGURES)).status_code == 403
    assert "opt_outs" not in table_of(html_of(staff("view_message")))


def test_month_keeps_its_opt_out_when_the_contact_opts_out_again(noon: datetime) -> None:
    last_month = noon - timedelta(days=31)
    found = OptOutFactory.create(since=last_month)
    found.history.create(kind="ended", at=noon - timedelta(days=2), source="person")
    found.history.create(kind="begun", at=noon, source="reply")
    found.since, found.source = noon, "reply"
    found.save()
    ended = OptOutFactory.create(since=last_month)
    ended.history.create(kind="ended", at=noon, source="person")
    visitor = staff("view_message", "view_optout")
    html = html_of(visitor)
    assert table_of(html)["opt_outs"] == ["2", "1"]
    [last, this] = every(html, "tr[@data-figure='opt_outs']/td/a")
    for link, count in ((last, 2), (this, 1)):
        assert changelist_at(visitor, link.get("href", "")).result_count == count


# As a file


def test_file_has_what_the_page_shows(reader: Client, two_months: datetime) -> None:
    html = html_of(reader)
    form = only(html, "form[@id='cellcast-export']")
    response: Any = reader.post(reverse(FIGURES) + form.get("action", ""))
    assert response["Content-Type"].startswith("text/csv")
    assert LogEntry.objects.count() == 1
    heading, *rows = csv.reader(StringIO(response.getvalue().decode("utf-8-sig")))
    assert heading == ["own_number", "from", "to", "figure", "reason", "count"]
    table = {name: cells for name, cells in table_of(html).items() if name != "share"}
    for place, month in enumerate(("2026-07", "2026-08")):
        days = [f"{month}-01", f"{month}-31"]
        of_month = [row[3:] for row in rows if row[1:3] == days]
        counted = {name: n for name, why, n in of_month if not why}
        share = f"{floor(1_000 * float(counted.pop('delivery_rate'))) / 10}%"
        assert table_of(html)["share"][place].startswith(f"{share} of ")
        assert counted == {name: cells[place] for name, cells in table.items()}
        reasons = [n for _, why, n in of_month if why]
        shown = [words(every(row, "td")[place]) for row in every(html, "tr[@data-reason]")]
        assert reasons == shown
    by_day = {tuple(row[2:4]): row[5] for row in rows if row[1] == row[2]}
    assert by_day["2026-08-12", "delivered"] == "1"
    assert len({day for day, _ in by_day}) == 12  # so far


# One of your numbers

BRANCHES = ("+61480000001", "+61480000002")


@pytest.fixture
def branches(noon: datetime) -> None:
    """Two numbers that customers write to; the second one loses messages."""
    for own in BRANCHES:
        MessageFactory.create(inbound=True, receiver=own, own_number=own, created_at=noon)
        for at in (noon, noon - timedelta(days=31)):
            MessageFactory.create(delivered=True, own_number=own, created_at=at)
    for reason in ("Absent", "Absent", ""):
        values = {"own_number": BRANCHES[1], "history__reason": reason}
        MessageFactory.create(status="failed", created_at=noon, **values)
    MessageFactory.create(delivered=True, created_at=noon)


def test_figures_reasons_links_and_file_are_of_the_chosen_number(
    reader: Client, branches: None
) -> None:
    links = {
        each.get("href", ""): "aria-current" in each.attrib
        for each in every(html_of(reader, own=BRANCHES[1]), "ul[@id='cellcast-numbers']//a")
    }
    assert list(links.values()) == [False, False, True, False]
    everything, first, second, others = (reader.get(reverse(FIGURES) + url).text for url in links)
    assert table_of(others)["sent"] == ["0", "1"]
    assert table_of(everything)["sent"] == ["2", "6"]
    unknown = html_of(reader, own="+61480000009")
    assert table_of(unknown)["sent"] == ["2", "6"]
    assert table_of(first)["sent"] == ["1", "1"]
    assert table_of(second)["sent"] == ["1", "4"]
    assert table_of(second)["replies"] == ["0", "1"]
    assert reasons_of(first) == []
    assert reasons_of(second) == [("Absent", "2"), ("no reason given", "1")]
    assert "opt_outs" in table_of(everything)
    assert "opt_outs" not in table_of(second)
    for link in every(second, "a[@data-count]"):
        count = changelist_at(reader, link.get("href", "")).result_count
        assert str(count) == link.get("data-count"), link.get("href")
    months = addresses(only(second, "nav[@aria-label='Month']"))
    assert all(BRANCHES[1][1:] in url for url in months)
    form = only(second, "form[@id='cellcast-export']")
    response: Any = reader.post(reverse(FIGURES) + form.get("action", ""))
    _heading, *rows = csv.reader(StringIO(response.getvalue().decode("utf-8-sig")))
    assert {row[0] for row in rows} == {BRANCHES[1]}
    assert ["2026-08-01", "2026-08-31", "sent", "", "4"] in [row[1:] for row in rows]


@pytest.mark.parametrize("configured", [True, False])
def test_numbers_names_and_others_add_up_to_all(
    reader: Client, noon: datetime, settings: Any, configured: bool
) -> None:
    if configured:
        settings.CELLCAST_OWN_NUMBERS = [*BRANCHES, "BRIGHTDENT"]
    for own in (*BRANCHES, "BRIGHTDENT", "BRIGHTDENT"):
        MessageFactory.create(delivered=True, created_at=noon, sender=own, own_number=own)
    for claimed in ("+61480000007", ""):  # what a customer wrote to, as a webhook says
        MessageFactory.create(inbound=True, own_number=claimed, created_at=noon)
    html = html_of(reader)
    total = {name: cells[1] for name, cells in table_of(html).items() if name in ADDED_UP}
    switches = every(html, "ul[@id='cellcast-numbers']//a")[1:]
    assert [words(each) for each in switches][2:] == ["Only BRIGHTDENT", "Others"]
    parts = [reader.get(reverse(FIGURES) + each.get("href", "")).text for each in switches]
    for name in ADDED_UP:
        assert int(total[name]) == sum(int(table_of(part)[name][1]) for part in parts)
    assert table_of(parts[-1])["replies"] == ["0", "2"]
    for link in every(parts[-1], "a[@data-count]"):
        count = changelist_at(reader, link.get("href", "")).result_count
        assert str(count) == link.get("data-count"), link.get("href")


ADDED_UP = ("sent", "delivered", "replies")


def test_reason_is_not_in_what_error_trackers_print(reader: Client, noon: datetime) -> None:
    fail(noon, "no such number 0491570006")
    page = reader.get(reverse(FIGURES)).context["page"]
    assert "0491570006" not in repr([page, page.reasons, page.columns])
