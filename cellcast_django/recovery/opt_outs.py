"""Opt-outs that no webhook reported: Cellcast keeps its own list.

The list has no times, so it does not say how long a phone number has been on it. Other differences
are counted for a person to look into, and left alone: only people end an opt-out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from cellcast_django.models import (
    OptOut as StoredOptOut,
    OptOutQuerySet,
    contact_of,
    database_alias,
)
from cellcast_django.payloads import MAX_NUMBER_LENGTH, OptOut
from cellcast_django.recovery.client import (
    Client,
    Findings,
    ItemError,
    Span,
    as_body,
    as_object,
    read_text,
)

PATH = "/api/v1/apiClient/getOptout"
ITEMS_PER_PAGE = 1_000


def missing_opt_outs(client: Client, _span: Span, findings: Findings) -> Iterator[Sequence[OptOut]]:
    """Yield, page by page, the listed opt-outs of contacts who have none here.

    Raises ``RecoveryError``.
    """
    listed: set[str] = set()
    for page in client.pages(PATH, size=ITEMS_PER_PAGE):
        opt_outs = dict(_read_page(page, findings))
        new = opt_outs.keys() - listed
        listed |= new
        findings.seen = len(listed)
        begun = _opt_outs().exclude(source="").filter(contact__in=new)
        stored = dict(begun.values_list("contact", "ended_at"))
        findings.ended += sum(ended_at is not None for ended_at in stored.values())
        yield [opt_outs[contact] for contact in sorted(new - stored.keys())]
    active = _opt_outs().active().values_list("contact", flat=True)
    findings.not_listed = sum(contact not in listed for contact in active.iterator())


def _read_page(page: list[Any], findings: Findings) -> Iterator[tuple[str, OptOut]]:
    """Yield each opt-out with its contact."""
    for each in page:
        try:
            item = as_object(each)
            number = read_text(item, "number", limit=MAX_NUMBER_LENGTH)
            contact = contact_of(number)
            if not contact.strip():
                raise ItemError
        except ItemError:
            findings.unreadable += 1
        else:
            yield contact, OptOut(raw=as_body(item), number=number)


def _opt_outs() -> OptOutQuerySet:
    return StoredOptOut.objects.using(database_alias())
