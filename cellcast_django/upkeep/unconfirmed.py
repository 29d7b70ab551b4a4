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
    invalid_items: int

    def confirming(self, event: Any) -> ApiList | None:
        """Return the list that has what it reports, or the opt-out that it began (a reply may)."""
        opts_out = event.has_begun or event.kind == WebhookEvent.Kind.OPT_OUT
        if opts_out and event.contact in self.opt_outs:
            return ApiList.OPT_OUTS
        if event.kind == WebhookEvent.Kind.REPLY:
            return ApiList.REPLIES if event.message_id in self.replies else None
        if event.kind == WebhookEvent.Kind.STATUS and self._have_report(event):
            return ApiList.STATUSES
        return None

    def _have_report(self, event: WebhookEvent) -> bool:
        """Whether the message is listed with its receiver, if it names one, and its status."""
        report = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
        if not isinstance(report, StatusReport):
            return False
        key, claimed = key_of(report), to_contact(report.receiver)
        receivers = self.receivers.get(key)
        if not receivers or (claimed and claimed not in receivers):
            return False
        # A status that is not final has gone from the list when the next one comes.
        return report.status not in FINAL or (key, report.status) in self.statuses


@hides_variables
def find_unconfirmed(
    since: datetime,
    until: datetime | None = None,
    *,
    received_as: str | None = None,
    progress: OnPage = lambda _findings: None,
) -> Comparison:
    """Compare webhooks' events with the lists of Cellcast's API.

    Those that came from ``since`` to ``until``, both included. A list that confirms no event
    accuses none: the key may be that of another account. Raises ``RecoveryError`` if a list cannot
    be read to its end, or if all of them together confirm nothing, and ``django.db.Error``.
    """
    until = until or timezone.now()  # the lists are read later, so they have what came until then
    lists = _read_lists(since, progress)
    events: Any = WebhookEvent.objects.fresh().exclude(endpoint=Endpoint.API)
    events = events.filter(received_at__gte=since, received_at__lte=until)
    if received_as is not None:
        events = events.filter(received_as=received_as)
    begun = OptOutChange.objects.using(events.db).filter(event=OuterRef("pk"))
    events = events.annotate(has_begun=Exists(begun)).order_by().prefetch_related("calls")
    comparison = Comparison(invalid=lists.invalid_items)
    for event in events.iterator(500):
        _compare(event, lists, comparison)
    if comparison.events and not comparison.confirmed:
        raise RecoveryError(
            f"Cellcast's lists confirm none of {len(comparison.events):,} events. Is this the key "
            "of the account whose webhooks these are?"
        )
    for kind in list(comparison.accused):
        # Opt-outs are judged by their list as soon as that has any number.
        has_numbers = kind == ApiList.OPT_OUTS and len(lists.opt_outs) > 0
        if not has_numbers and comparison.confirmed[kind] == 0:
            comparison.spared[kind] = len(comparison.accused.pop(kind))
    return comparison


def _compare(event: Any, lists: Lists, comparison: Comparison) -> None:
    """Add to the comparison what the lists have of this event."""
    is_gone = event.kind == WebhookEvent.Kind.REPLY and event.message_id is None
    if event.outcome == WebhookEvent.Outcome.DEFERRED:
        comparison.deferred += 1
    elif is_gone or not event.body or event.kind not in LISTS:
        comparison.not_compared += 1
    elif confirming := lists.confirming(event):
        comparison.confirmed[confirming] += 1
    else:
        told = sorted({call.handler for call in event.calls.all() if call.attempts})
        alike = event.message_id in lists.alike
        comparison.accused[LISTS[WebhookEvent.Kind(event.kind)]].append(
            Unconfirmed(event.pk, event.received_at, event.kind, event.received_as, alike, told)
        )


def _read_lists(since: datetime, progress: OnPage) -> Lists:
    """Read all three lists to their ends."""
    with Client() as client:
        now = timezone.now()
        readings = [Reading(client, Findings(kind), since, now, progress) for kind in ApiList]
        replies, statuses, opt_outs = readings  # in the order of ``ApiList``
        listed, alike = _listed_and_alike(replies)
        receivers: dict[str, set[str]] = defaultdict(set)
        reported: set[tuple[str, str]] = set()
        for reports in new_reports(statuses, since - LONGEST_WAY):
            reported |= reports.keys()
            for (key, _status), report in reports.items():
                receivers[key].add(to_contact(report.receiver))
        contacts = set(chain.from_iterable(new_opt_outs(opt_outs)))
    invalid = sum(each.findings.invalid for each in readings)
    return Lists(listed, alike, receivers, reported, contacts, invalid)


def _listed_and_alike(reading: Reading) -> tuple[set[int], set[int]]:
    """Return the keys of listed replies, and of others to which a listed one is alike."""
    listed: set[int] = set()
    alike: set[int] = set()
    is_own = cache(is_own_number)
    horizon = reading.since - LATEST
    for replies, stored in with_stored(listed_replies(reading, horizon), horizon):
        # A forger has to guess your numbers, so what was written to one of them comes first.
        to_yours = [each for each in stored if is_own(each.own_number)]
        to_others = [each for each in stored if each not in to_yours]
        pairs = match(replies, to_yours)
        pairs |= match([place for place in replies if place not in pairs], to_others)
        confirmed = {each.pk for each in pairs.values()}
        listed |= confirmed
        if confirmed:
            alike |= {each.pk for each in stored} - confirmed
    return listed, alike
