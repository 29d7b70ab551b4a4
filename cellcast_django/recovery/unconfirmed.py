"""The other way round: which events of webhooks Cellcast's own lists do not have.

For after a password has leaked: whatever came with it and is in no list may be forged. Start with
``find_unconfirmed``. Nothing is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from django.db.models import Max, Min
from django.utils import timezone

from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox.drafts import key_of
from cellcast_django.inbox.same_message import LATEST, match
from cellcast_django.models import WebhookEvent, WebhookEventQuerySet
from cellcast_django.payloads import Endpoint, StatusReport, read
from cellcast_django.recovery.client import Client, Findings, Kind
from cellcast_django.recovery.lists import (
    Progress,
    Reading,
    listed_replies,
    new_opt_outs,
    new_reports,
    with_stored,
)
from cellcast_django.statuses import supersedes

LONGEST_WAY = timedelta(days=30)
"""How long before its report a message may have been sent, for the list goes by that time."""

EVENTS_PER_QUERY = 500


@dataclass(slots=True)
class Comparison:
    """What the lists have, and how many events and items could not be compared with them."""

    events: WebhookEventQuerySet
    replies: set[int]
    """The keys of the messages that are listed as replies."""
    statuses: dict[str, str]
    """The highest listed status of each message, by its key."""
    opt_outs: set[str]
    invalid: int
    """Items that could not be understood: a genuine event may be theirs."""
    count: int = 0
    """How many events are unconfirmed, once they have been iterated over."""
    not_compared: int = 0
    """Events that could not be understood, or have been redacted or pruned in part."""

    def __iter__(self) -> Iterator[WebhookEvent]:
        ends = self.events.aggregate(first=Min("pk"), last=Max("pk"))
        last = (ends["first"] or 0) - 1
        # By keys at both ends: by the times, SQLite would sort all of them for each page.
        rest = self.events.filter(pk__lte=ends["last"] or 0).order_by("pk")
        while events := list(rest.filter(pk__gt=last)[:EVENTS_PER_QUERY]):
            for event in events:
                is_confirmed = self._confirms(event)
                self.not_compared += is_confirmed is None
                if is_confirmed is False:
                    self.count += 1
                    yield event
            last = events[-1].pk

    def _confirms(self, event: WebhookEvent) -> bool | None:
        """Return whether the lists have what the event reports; ``None`` if it does not say."""
        if not event.body:
            return None
        if event.kind == WebhookEvent.Kind.OPT_OUT:
            return event.contact in self.opt_outs
        if event.kind == WebhookEvent.Kind.REPLY:
            return None if event.message_id is None else event.message_id in self.replies
        report = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
        if not isinstance(report, StatusReport):
            return None
        listed = self.statuses.get(key_of(report))
        return listed is not None and not supersedes(report.status, listed)


@hides_variables
def find_unconfirmed(
    since: datetime,
    until: datetime | None = None,
    *,
    username: str | None = None,
    progress: Progress = lambda _findings: None,
) -> Comparison:
    """Read the lists of Cellcast's API; iterate over the result for the events that none has.

    Those of webhooks that came in this time, both ends included, and with the secret of this
    username if one is given. A reply is confirmed by one of the same contact and text about that
    time, a report by its message with that or a higher status, an opt-out by its number. Raises
    ``RecoveryError`` unless every list can be read to its end, and ``django.db.Error``.
    """
    now = timezone.now()
    events = WebhookEvent.objects.fresh().prefetch_related("calls").exclude(endpoint=Endpoint.API)
    events = events.filter(received_at__gte=since, received_at__lte=until or now)
    if username is not None:
        events = events.filter(username=username)
    with Client() as client:
        replies, statuses, opt_outs = (
            Reading(client, Findings(kind), since, now, progress) for kind in Kind
        )
        listed = listed_replies(replies, since - LATEST)
        matches = [match(*alike) for alike in with_stored(listed, since - LATEST)]
        highest = _listed_statuses(statuses)
        contacts = set(chain.from_iterable(new_opt_outs(opt_outs)))
    confirmed = {each.pk for matched in matches for each in matched.values()}
    invalid = sum(each.findings.invalid for each in (replies, statuses, opt_outs))
    return Comparison(events, confirmed, highest, contacts, invalid)


def _listed_statuses(reading: Reading) -> dict[str, str]:
    """Return the highest listed status of each message, by its key."""
    highest: dict[str, str] = {}
    for reports in new_reports(reading, reading.since - LONGEST_WAY):
        for key, status in reports:
            if supersedes(status, highest.get(key, "")):
                highest[key] = status
    return highest
