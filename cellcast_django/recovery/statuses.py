"""Statuses that no webhook reported."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import timedelta
from typing import Any

from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox.drafts import message_of
from cellcast_django.models import StatusChange, database_alias
from cellcast_django.payloads import Endpoint, RecoveredReport, StatusReport, read
from cellcast_django.recovery.client import (
    Client,
    Item,
    ItemError,
    as_body,
    as_object,
    read_time,
)
from cellcast_django.recovery.run import Findings, Run, store
from cellcast_django.statuses import Status

PATH = "/api/v2/report/message"
ITEMS_PER_PAGE = 100

DAY = timedelta(days=1)


@hides_variables
def recover_statuses(client: Client, run: Run, findings: Findings) -> None:
    """Store the listed statuses that are in no history. Raises ``RecoveryError``.

    The list is by whole days in an undocumented time zone, so the request has one more day at each
    end.
    """
    pages = client.pages(
        PATH,
        fromDate=f"{run.since - DAY:%Y-%m-%d}",
        toDate=f"{run.now + DAY:%Y-%m-%d}",
        limit=ITEMS_PER_PAGE,
        requestFrom="API",
    )
    seen: set[tuple[str, str]] = set()
    for page in pages:
        reports = dict(_read_page(page, findings))
        seen |= reports.keys()
        findings.seen = len(seen)
        for report in _missing(reports):
            findings.missing += 1
            if not run.dry_run:
                findings.stored += store(report).is_news
            run.progress(findings)
        run.progress(findings)


def _read_page(
    page: list[Any], findings: Findings
) -> Iterator[tuple[tuple[str, str], StatusReport]]:
    """Yield each report under its message's key and status."""
    for item in page:
        try:
            report = _read(as_object(item))
        except ItemError:
            findings.unreadable += 1
        else:
            yield (message_of(report).key, report.status), report


def _read(item: Item) -> StatusReport:
    """Return the report of an item, which has the keys of a webhook. Raises ``ItemError``."""
    [payload] = read(as_body(item).encode(), "application/json", Endpoint.STATUS)
    if not isinstance(payload, StatusReport):
        raise ItemError
    return _recovered(payload, item)


def _recovered(report: StatusReport, item: Item) -> RecoveredReport:
    """Return the report with its time, known only for a delivery: the last update of the item."""
    happened_at = None
    if report.status == Status.DELIVERED:
        with suppress(ItemError):
            happened_at = read_time(item, "updatedAt")
    values = {each.name: getattr(report, each.name) for each in fields(report)}
    return RecoveredReport(**values, happened_at=happened_at)


def _missing(reports: dict[tuple[str, str], StatusReport]) -> list[StatusReport]:
    keys = {key for key, _status in reports}
    history = StatusChange.objects.using(database_alias()).filter(message__key__in=keys)
    known = set(history.values_list("message__key", "status"))
    return [report for identity, report in reports.items() if identity not in known]
