"""Statuses that no webhook reported."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cellcast_django.inbox.drafts import message_of
from cellcast_django.models import StatusChange, database_alias
from cellcast_django.payloads import Endpoint, StatusReport, read
from cellcast_django.recovery.client import (
    Client,
    Findings,
    Item,
    ItemError,
    Span,
    as_body,
    as_object,
    read_time,
)
from cellcast_django.statuses import Status

PATH = "/api/v2/report/message"
ITEMS_PER_PAGE = 100

DAY = timedelta(days=1)

Identity = tuple[str, str]
"""The key of a message, and a status of it."""


def missing_statuses(
    client: Client, span: Span, findings: Findings
) -> Iterator[Sequence[StatusReport]]:
    """Yield, page by page, the listed statuses that are in no history. Raises ``RecoveryError``.

    The list is by whole days in an undocumented time zone, so the request has one more day at each
    end.
    """
    pages = client.pages(
        PATH,
        fromDate=f"{span.since - DAY:%Y-%m-%d}",
        toDate=f"{span.now + DAY:%Y-%m-%d}",
        limit=ITEMS_PER_PAGE,
        requestFrom="API",
    )
    seen: set[Identity] = set()
    for page in pages:
        reports = dict(_read_page(page, findings))
        new = {each: reports[each] for each in reports if each not in seen}
        seen |= new.keys()
        findings.seen = len(seen)
        yield _missing(new)


def _read_page(page: list[Any], findings: Findings) -> Iterator[tuple[Identity, StatusReport]]:
    for item in page:
        try:
            report = _read(as_object(item))
        except ItemError:
            findings.unreadable += 1
        else:
            yield (message_of(report).key, report.status), report


def _read(item: Item) -> StatusReport:
    """Return the report of an item, which has the keys of a webhook. Raises ``ItemError``.

    Its time is known only for a delivery: the last update of the item.
    """
    [report] = read(as_body(item).encode(), "application/json", Endpoint.STATUS)
    if not isinstance(report, StatusReport):
        raise ItemError
    if report.status == Status.DELIVERED:
        with suppress(ItemError):
            return replace(report, happened_at=read_time(item, "updatedAt"))
    return report


def _missing(reports: dict[Identity, StatusReport]) -> list[StatusReport]:
    keys = {key for key, _status in reports}
    history = StatusChange.objects.using(database_alias()).filter(message__key__in=keys)
    known = set(history.values_list("message__key", "status"))
    return [report for identity, report in reports.items() if identity not in known]
