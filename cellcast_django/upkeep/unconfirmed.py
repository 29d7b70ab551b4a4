"""Which events of webhooks Cellcast's own lists do not have: after a leak, they may be forged."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef
from django.utils import timezone

from cellcast_django.contacts import to_contact
from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox.drafts import key_of
from cellcast_django.inbox.same_message import LATEST, match
from cellcast_django.models import OptOutChange, WebhookEvent, is_own_number
from cellcast_django.payloads import Endpoint, StatusReport, read
from cellcast_django.recovery.client import ApiList, Client, Findings, RecoveryError
from cellcast_django.recovery.lists import (
    OnPage,
    Reading,
    listed_replies,
    new_opt_outs,
    new_reports,
    with_stored,
)
from cellcast_django.statuses import FINAL

LONGEST_WAY = timedelta(days=30)
"""How long before its report a message may have been sent, for the list goes by that time."""

LISTS = {
    WebhookEvent.Kind.REPLY: ApiList.REPLIES,
    WebhookEvent.Kind.STATUS: ApiList.STATUSES,
    WebhookEvent.Kind.OPT_OUT: ApiList.OPT_OUTS,
}
"""Which list has what events of a kind report."""


class Unconfirmed(NamedTuple):
    """An event that the list does not have: no number, no text."""

    id: int
    received_at: datetime
    kind: str
    received_as: str
    alike: bool
    """Whether one that is alike is confirmed."""
    handlers: list[str]
    """Those that have been told."""


@dataclass(slots=True)
class Comparison:
    """What the comparison of events with Cellcast's lists has found."""

    confirmed: Counter[ApiList] = field(default_factory=Counter)
    """How many events each list has confirmed."""
    accused: dict[ApiList, list[Unconfirmed]] = field(default_factory=lambda: defaultdict(list))
    spared: Counter[ApiList] = field(default_factory=Counter)
    """How many are accused of nothing, because their list confirms no event at all."""
    not_compared: int = 0
    """Events that could not be understood, or have been redacted or pruned in part."""
    deferred: int = 0
    invalid: int = 0
    """Items that could not be understood: a genuine event may be theirs."""

    @property
    def events(self) -> list[Unconfirmed]:
        """The accused events, the oldest first."""
        return sorted(chain.from_iterable(self.accused.values()))


@dataclass(slots=True, repr=False)
class Lists:
    """What Cellcast's lists have."""

    replies: set[int]
    """The keys of the messages that are listed as replies."""
    alike: set[int]
    """The keys of those that are not, although one of the same contact and text is."""
    receivers: dict[str, set[str]]
    """Whom each message was sent to, by its key."""
    statuses: set[tuple[str, str]]
    """The key of each message, and a status of it."""
    opt_outs: set[str]

    def confirming(self, event: WebhookEvent, *, has_opted_out: bool) -> ApiList | None:
        """Return the list that has what the event reports."""
        if has_opted_out and event.contact in self.opt_outs:
            return ApiList.OPT_OUTS
        if event.kind == WebhookEvent.Kind.REPLY:
            return ApiList.REPLIES if event.message_id in self.replies else None
        if event.kind == WebhookEvent.Kind.STATUS and self._have_report(event):
            return ApiList.STATUSES
        return None

    def _have_report(self, event: WebhookEvent) -> bool:
        """Whether the message is listed with this receiver, and with the status if it is final."""
        report = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
        if not isinstance(report, StatusReport):
            return False
        key, claimed = key_of(report), to_contact(report.receiver)
        receivers = self.receivers.get(key, set())
        is_listed = claimed in receivers or bool(receivers and not claimed)
        # A status that is not final has gone from the list when the next one comes.
        return is_listed and (report.status not in FINAL or (key, report.status) in self.statuses)


@hides_variables
def find_unconfirmed(
    since: datetime,
    until: datetime | None = None,
    *,
    received_as: str | None = None,
    progress: OnPage = lambda _findings: None,
) -> Comparison:
    """Compare events with the lists of Cellcast's API.

    Those of webhooks that came in this time, both ends included. A list that confirms no event
    accuses none: the key may be that of another account. Raises ``RecoveryError`` if a list cannot
    be read to its end, or if all of them together confirm nothing, and ``django.db.Error``.
    """
    events = WebhookEvent.objects.fresh().exclude(endpoint=Endpoint.API)
    events = events.filter(received_at__gte=since, received_at__lte=until or timezone.now())
    if received_as is not None:
        events = events.filter(received_as=received_as)
    events = events.annotate(
        has_begun=Exists(OptOutChange.objects.using(events.db).filter(event=OuterRef("pk")))
    )
    found = Comparison()
    lists = _read_lists(since, found, progress)
    rows: Any = events.order_by().prefetch_related("calls")
    for event in rows.iterator(500):
        has_opted_out = event.has_begun or event.kind == WebhookEvent.Kind.OPT_OUT
        is_gone = event.kind == WebhookEvent.Kind.REPLY and event.message_id is None
        if event.outcome == WebhookEvent.Outcome.DEFERRED:
            found.deferred += 1
        elif is_gone or not event.body or event.kind not in LISTS:
            found.not_compared += 1
        elif confirming := lists.confirming(event, has_opted_out=has_opted_out):
            found.confirmed[confirming] += 1
        else:
            told = sorted({call.handler for call in event.calls.all() if call.attempts})
            alike = event.message_id in lists.alike
            found.accused[LISTS[WebhookEvent.Kind(event.kind)]].append(
                Unconfirmed(event.pk, event.received_at, event.kind, event.received_as, alike, told)
            )
    if found.events and not found.confirmed:
        raise RecoveryError(
            f"Cellcast's lists confirm none of {len(found.events):,} events. Is this the key of "
            "the account whose webhooks these are?"
        )
    for kind in list(found.accused):
        # Opt-outs are judged by their list as soon as that has any number.
        is_telling = lists.opt_outs if kind == ApiList.OPT_OUTS else found.confirmed[kind]
        if not is_telling:
            found.spared[kind] = len(found.accused.pop(kind))
    return found


def _read_lists(since: datetime, found: Comparison, progress: OnPage) -> Lists:
    """Read all three lists to their ends."""
    with Client() as client:
        now = timezone.now()
        readings = [Reading(client, Findings(kind), since, now, progress) for kind in ApiList]
        replies, statuses, opt_outs = readings
        confirmed, alike = _matching_replies(replies)
        receivers: dict[str, set[str]] = defaultdict(set)
        reported: set[tuple[str, str]] = set()
        for reports in new_reports(statuses, since - LONGEST_WAY):
            reported |= reports.keys()
            for (key, _status), report in reports.items():
                receivers[key].add(to_contact(report.receiver))
        contacts = set(chain.from_iterable(new_opt_outs(opt_outs)))
    found.invalid = sum(each.findings.invalid for each in readings)
    return Lists(confirmed, alike, receivers, reported, contacts)


def _matching_replies(reading: Reading) -> tuple[set[int], set[int]]:
    """Return the replies that are listed, and those that are not but for one that is alike."""
    confirmed: set[int] = set()
    alike: set[int] = set()
    is_own = cache(is_own_number)
    horizon = reading.since - LATEST
    for replies, stored in with_stored(listed_replies(reading, horizon), horizon):
        # A forger has to guess your numbers, so what was written to one of them comes first.
        known = [each for each in stored if is_own(each.own_number)]
        found = match(replies, known)
        others = [each for each in stored if each not in known]
        found |= match([place for place in replies if place not in found], others)
        listed = {each.pk for each in found.values()}
        confirmed |= listed
        if listed:
            alike |= {each.pk for each in stored} - listed
    return confirmed, alike
