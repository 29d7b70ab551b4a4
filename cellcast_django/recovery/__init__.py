"""Cellcast's API → payloads: fetches what no webhook delivered, and stores it exactly once.

``client`` fetches the pages of a list. ``lists`` finds what is missing from the database, and that
takes the way of a webhook. Start with ``recover``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone

from cellcast_django.error_reports import hides_variables
from cellcast_django.models import CommandRun
from cellcast_django.payloads import Endpoint, Payload
from cellcast_django.receiving import receive
from cellcast_django.recovery.client import ApiList, Client, Findings, RecoveryError
from cellcast_django.recovery.lists import (
    OnPage,
    Reading,
    missing_opt_outs,
    missing_replies,
    missing_statuses,
)

__all__ = ["DEFAULT_AGE", "ApiList", "Findings", "RecoveryError", "problems_of", "recover"]

DEFAULT_AGE = timedelta(days=2)

ITEMS_PER_TRANSACTION = 20

MISSING: dict[ApiList, Callable[[Reading], Iterator[Sequence[Payload]]]] = {
    ApiList.REPLIES: missing_replies,
    ApiList.STATUSES: missing_statuses,
    ApiList.OPT_OUTS: missing_opt_outs,
}


def recover(
    *,
    age: timedelta = DEFAULT_AGE,
    dry_run: bool = False,
    progress: OnPage = lambda _findings: None,
) -> list[Findings]:
    """Ask Cellcast's API for what never arrived, store it and run its handlers.

    A list that cannot be read to its end has an ``error`` in its findings, and does not stop the
    others; a key that the API does not know stops all of it, after one request. The account's
    credit is kept with the run. Safe to interrupt, to run again, and to run several times at once.
    Raises ``RecoveryError`` if the API cannot be asked at all, and ``django.db.Error``.
    """
    now = timezone.now()
    by_list = [Findings(kind) for kind in ApiList]
    with Client() as client:
        for findings in by_list:
            try:
                _recover(Reading(client, findings, now - age, now, progress), dry_run=dry_run)
            except RecoveryError as error:
                findings.error = str(error)
        credit = client.credit()
    if not dry_run:
        command = CommandRun.Command.RECOVER
        summary: dict[str, Any] = {each.kind.value: each.summary() for each in by_list}
        # A run that cannot read the credit keeps the last reading, which says how old it is.
        summary["credit"] = credit or CommandRun.last_summary(command).get("credit")
        CommandRun.record(command, summary)
    return by_list


@hides_variables
def _recover(reading: Reading, *, dry_run: bool) -> None:
    """Read one list and store what is missing, as if webhooks had brought it."""
    findings = reading.findings
    for missing in MISSING[findings.kind](reading):
        for start in range(0, len(missing), ITEMS_PER_TRANSACTION):
            payloads = missing[start : start + ITEMS_PER_TRANSACTION]
            if not dry_run:
                events = receive(payloads, endpoint=Endpoint.API, content_type="application/json")
                findings.stored += sum(event.is_stored for event in events)
            reading.progress(findings)


def problems_of(by_list: Iterable[Findings]) -> list[str]:
    """Return a sentence for each reason why lists could not be read to their end."""
    lists: dict[str, list[str]] = {}
    for findings in by_list:
        if findings.error:
            lists.setdefault(findings.error, []).append(findings.kind)
    return [f"{', '.join(kinds)}: {error}" for error, kinds in lists.items()]
