"""What Cellcast's API lists and no webhook has delivered: replies, statuses and opt-outs."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, TypeVar

from cellcast_django.api import Item
from cellcast_django.contacts import to_contact
from cellcast_django.inbox import same_message
from cellcast_django.inbox.drafts import key_of
from cellcast_django.models import Message, OptOut as StoredOptOut, StatusChange, WebhookEvent
from cellcast_django.payloads import (
    MAX_NUMBER_LENGTH,
    Endpoint,
    Listed,
    OptOut,
    Reply,
    StatusReport,
    read,
    unpack_mms,
)
from cellcast_django.recovery.client import (
    Client,
    Findings,
    ItemError,
    RecoveryError,
    as_body,
    read_text,
    read_time,
)
from cellcast_django.statuses import Status

ONE_DAY = timedelta(days=1)

GRACE = timedelta(minutes=10)  # the webhook of a more recent reply may still be on its way

CONTACTS_PER_QUERY = 500

OnPage = Callable[[Findings], object]
"""Called for each page that has been read, with the counts so far."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Reading:
    """One list as it is read; nothing older than ``since`` is missing."""

    client: Client
    findings: Findings
    since: datetime
    now: datetime
    progress: OnPage

    def understood(self, page: Iterable[Any], read_item: Callable[[Item], V]) -> Iterator[V]:
        """Yield what the items of a page say; count those that cannot be understood."""
        for item in page:
            try:
                if not isinstance(item, dict):
                    raise ItemError
                yield read_item(item)
            except ItemError:
                self.findings.invalid += 1

    def new_items(
        self, pages: Iterable[Iterable[Any]], read_item: Callable[[Item], tuple[K, V]]
    ) -> Iterator[dict[K, V]]:
        """Yield for each page what none before it has listed, by the key that it is read with."""
        seen: set[K] = set()
        for page in pages:
            items = dict(self.understood(page, read_item))
            new = {key: item for key, item in items.items() if key not in seen}
            seen |= new.keys()
            self.findings.seen = len(seen)
            self.progress(self.findings)
            yield new

    def brought_by_webhooks(self, kind: WebhookEvent.Kind, column: str) -> set[Any]:
        """Return this column of the messages about which webhooks have brought such an event."""
        events = WebhookEvent.objects.fresh().filter(kind=kind, is_test=False)
        events = events.exclude(endpoint=Endpoint.API).exclude(message=None)
        events = events.filter(received_at__gte=self.since)
        return set(events.values_list(f"message__{column}", flat=True))


Identity = tuple[str, str]
"""The key of a message, and a status of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedReport(StatusReport):
    """A status report as the API lists it: with the text, which no webhook says."""

    body: str = field(default="", repr=False)


def new_reports(reading: Reading, since: datetime) -> Iterator[dict[Identity, ListedReport]]:
    """Yield the reports on what was sent since then."""
    return reading.new_items(_pages_of_reports(reading, since), report_of)


def _pages_of_reports(reading: Reading, since: datetime) -> Iterator[list[Any]]:
    for campaign in "sms", "mms":
        try:
            yield from reading.client.pages(
                "/api/v2/report/message",
                campType=campaign,
                # Whole days in an undocumented time zone, hence one more at each end.
                fromDate=f"{since - ONE_DAY:%Y-%m-%d}",
                toDate=f"{reading.now + ONE_DAY:%Y-%m-%d}",
                limit=100,
                requestFrom="API",
            )
        except RecoveryError as error:
            # Only "sms" is documented, so an account may know no other.
            if campaign == "sms" or not error.is_of_list:
                raise


def missing_statuses(reading: Reading) -> Iterator[Sequence[StatusReport]]:
    """Yield, page by page, the listed statuses that are in no history, and missing texts."""
    findings = reading.findings
    brought = reading.brought_by_webhooks(WebhookEvent.Kind.STATUS, "key")
    findings.webhooks = len(brought)
    listed: set[str] = set()
    for reports in new_reports(reading, reading.since):
        keys = {key for key, _status in reports}
        findings.webhooks_listed += len(brought & (keys - listed))  # each key once
        listed |= keys
        history = StatusChange.objects.fresh().filter(message__key__in=keys)
        known = set(history.values_list("message__key", "status"))
        # To these ``fold`` gives a listed text, if it was sent to their contact.
        textless = Message.objects.fresh().filter(key__in=keys, recorded_at=None, body="")
        contact_of = dict(textless.exclude(contact="").values_list("key", "contact"))
        missing = []
        for (key, status), report in reports.items():
            is_missing = (key, status) not in known
            brings_text = report.body != "" and contact_of.get(key) == to_contact(report.receiver)
            findings.missing += is_missing
            findings.texts += brings_text
            if is_missing or brings_text:
                missing.append(report)
        yield missing


def report_of(item: Item) -> tuple[Identity, ListedReport]:
    """Return what tells a report from others, and the report. Raises ``ItemError``."""
    # An item has the keys of a webhook.
    [report] = read(as_body(item).encode(), "application/json", Endpoint.STATUS)
    if not isinstance(report, StatusReport):
        raise ItemError
    said = asdict(report)
    with suppress(ItemError):  # a text or a time that cannot be read is left out
        said["body"] = read_text(item, "message")
    if report.status == Status.DELIVERED:  # of no other does ``updatedAt`` say when it came about
        with suppress(ItemError):
            said["happened_at"] = read_time(item, "updatedAt")
    return (key_of(report), report.status), ListedReport(**said)


# Opt-outs


def new_opt_outs(reading: Reading) -> Iterator[dict[str, OptOut]]:
    """Yield the opt-outs that Cellcast knows, by contact."""
    pages = reading.client.pages("/api/v1/apiClient/getOptout", size=1_000)
    return reading.new_items(pages, opt_out_of)


def missing_opt_outs(reading: Reading) -> Iterator[Sequence[OptOut]]:
    """Yield, page by page, the listed opt-outs of contacts who never had one here."""
    findings = reading.findings
    stored = StoredOptOut.objects.fresh()
    listed: set[str] = set()
    for opt_outs in new_opt_outs(reading):
        listed |= opt_outs.keys()
        # A row without a source was inserted only to be locked: its opt-out has not begun.
        begun = stored.exclude(source="").filter(contact__in=opt_outs)
        ended_at = dict(begun.values_list("contact", "ended_at"))
        findings.ended += sum(time is not None for time in ended_at.values())  # they stay ended
        missing = [opt_outs[contact] for contact in sorted(opt_outs.keys() - ended_at.keys())]
        findings.missing += len(missing)
        yield missing
    active = stored.active().values_list("contact", flat=True)
    findings.not_listed = sum(contact not in listed for contact in active.iterator())


def opt_out_of(item: Item) -> tuple[str, OptOut]:
    """Return the contact of an item, and its opt-out. Raises ``ItemError``."""
    number = _number_of(item, "number")
    return to_contact(number), OptOut(raw=as_body(item), number=number)


def _number_of(item: Item, name: str) -> str:
    """Return a number that names a contact. Raises ``ItemError``."""
    number = read_text(item, name)
    if len(number) > MAX_NUMBER_LENGTH or not to_contact(number).strip():
        raise ItemError
    return number


TimedReply = tuple[datetime, Reply]
"""A reply as the API lists it, as a text, and when it was received."""


def listed_replies(reading: Reading, since: datetime) -> set[TimedReply]:
    """Read the list, which is newest first, back to this time; return what came since."""
    listed: set[TimedReply] = set()
    for page in reading.client.pages("/api/v1/apiClient/getResponses"):
        replies = list(reading.understood(page, _reply_of))
        listed.update((time, reply) for time, reply in replies if time >= since)
        reading.findings.seen = len(listed)
        reading.progress(reading.findings)
        if replies and all(time < since for time, _reply in replies):
            break
    return listed


def missing_replies(reading: Reading) -> Iterator[Sequence[Reply]]:
    """Yield all missing replies at once, the oldest first.

    The list has no ids, so all its items are matched with all messages of that time, by contact,
    text and time. The day before ``since`` is matched too, lest later replies get its messages. The
    inbox matches what is missing once more, as its webhook may have come meanwhile; for that, each
    takes along the places of all that are ``alike``.
    """
    findings, horizon = reading.findings, reading.since - same_message.LATEST
    listed = listed_replies(reading, horizon)
    findings.seen = sum(time >= reading.since for time, _reply in listed)
    brought = reading.brought_by_webhooks(WebhookEvent.Kind.REPLY, "pk")
    findings.webhooks = len(brought)
    missing = []
    for replies, stored in with_stored(listed, horizon):
        matched = same_message.match(replies, stored)
        findings.webhooks_listed += sum(each.pk in brought for each in matched.values())
        for place, reply in replies.items():
            if place in matched:
                continue
            if place.received_at > reading.now - GRACE:
                findings.waiting += 1
            elif place.received_at >= reading.since:
                missing.append((place, replace(reply, alike=tuple(replies))))
    findings.missing = len(missing)
    yield [reply for _place, reply in sorted(missing, key=itemgetter(0))]


def _reply_of(item: Item) -> TimedReply:
    return read_time(item, "received_at"), Reply(
        raw=as_body(item),
        cellcast_id="",
        sender=_number_of(item, "from"),
        receiver="",
        status="received",
        body=read_text(item, "body"),
        original_body="",
    )


def with_stored(
    listed: Iterable[TimedReply], horizon: datetime
) -> Iterator[tuple[dict[Listed, Reply], list[same_message.StoredReply]]]:
    """Yield listed replies that are alike, by their places, with the stored ones they may be."""
    by_contact: dict[str, list[TimedReply]] = defaultdict(list)
    for time, reply in sorted(listed, key=itemgetter(0)):
        by_contact[to_contact(reply.sender)].append((time, reply))
    contacts, since = list(by_contact), horizon + same_message.EARLIEST  # it is negative
    for start in range(0, len(contacts), CONTACTS_PER_QUERY):
        some = contacts[start : start + CONTACTS_PER_QUERY]
        messages = same_message.replies_since(Message.objects.fresh(), some, since)
        stored = same_message.stored_replies(messages)
        groups: dict[same_message.Alike, dict[Listed, Reply]] = defaultdict(dict)
        for contact in some:
            for time, reply in by_contact[contact]:
                # A customer may have typed what looks like an MMS: then it is stored as it is.
                is_typed = same_message.alike(contact, reply.body) in stored
                place, placed = _placed(time, reply if is_typed else _unpacked(reply))
                groups[same_message.alike(contact, placed.body)][place] = placed
        for group, replies in groups.items():
            yield replies, stored.get(group, [])


def read_stored_item(body: str) -> Reply | StatusReport | None:
    """Return the reply or the report that an event of the API holds; ``None`` if it is redacted."""
    if not body:
        return None
    item = json.loads(body)
    if "received_at" not in item:  # which every listed reply has
        return report_of(item)[1]
    time, reply = _reply_of(item)
    return _placed(time, _unpacked(reply))[1]


def _unpacked(reply: Reply) -> Reply:
    """Return the reply with its pictures if it is an MMS, which the list may not mark."""
    body, media = unpack_mms(json.loads(reply.raw) | {"mms": True}, reply.body)
    return replace(reply, body=body, media=media) if media else reply


def _placed(time: datetime, reply: Reply) -> tuple[Listed, Reply]:
    """Return the place of a reply in the list, and the reply with it."""
    place = Listed(time, same_message.distinguishing_media(reply.body, reply.media))
    return place, replace(reply, listed=place)
