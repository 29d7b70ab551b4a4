"""Replies that no webhook delivered.

The API gives them no id, so an item is matched with a stored message by contact, text and time. All
items of the span are matched with all its messages in one go. The inbox matches those that it is
given once more, since a webhook or another recovery may have brought one of them meanwhile.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from operator import itemgetter
from typing import Any

from cellcast_django.inbox.same_message import (
    EARLIEST,
    LATEST,
    Alike,
    Stored,
    match,
    pair_in_order,
    stored_replies,
    telling_media,
    text_key,
)
from cellcast_django.models import Message, contact_of, database_alias
from cellcast_django.payloads import MAX_NUMBER_LENGTH, Listed, Reply, unpack_mms
from cellcast_django.recovery.client import (
    Client,
    Findings,
    Item,
    ItemError,
    Span,
    as_body,
    as_object,
    read_text,
    read_time,
)

PATH = "/api/v1/apiClient/getResponses"

GRACE = timedelta(minutes=10)  # the webhook of a more recent reply may still be on its way

CONTACTS_PER_QUERY = 500


@dataclass(frozen=True, slots=True, order=True)
class ListedReply:
    """A reply as the API lists it. If two pages list the same one, it counts once.

    The ``text`` of an MMS is JSON, which holds its ``body`` and ``media``.
    """

    received_at: datetime
    contact: str = field(repr=False)
    sender: str = field(repr=False)
    text: str = field(repr=False)
    body: str = field(repr=False)
    media: tuple[str, ...] = field(repr=False)
    raw: str = field(repr=False)


def missing_replies(client: Client, span: Span, findings: Findings) -> Iterator[Sequence[Reply]]:
    """Yield nothing for each page that is read, then all missing replies, the oldest first.

    Raises ``RecoveryError``. A day before the span is read too: its replies are not stored, but
    their messages must not be matched with later ones.
    """
    horizon = span.since - LATEST
    listed: set[ListedReply] = set()
    for page in client.pages(PATH):
        replies = list(_read_page(page, findings))
        new = {reply for reply in replies if reply.received_at >= horizon} - listed
        listed |= new
        findings.seen += sum(reply.received_at >= span.since for reply in new)
        yield ()
        if replies and all(reply.received_at < horizon for reply in replies):
            break
    missing = []
    for place, reply in _find_missing(listed, horizon):
        if place.received_at > span.now - GRACE:
            findings.waiting += 1
        elif place.received_at >= span.since:
            missing.append((place, reply))
    yield [reply for _, reply in sorted(missing, key=itemgetter(0))]


def _read_page(page: list[Any], findings: Findings) -> Iterator[ListedReply]:
    for item in page:
        try:
            yield _read(as_object(item))
        except ItemError:
            findings.unreadable += 1


def _read(item: Item) -> ListedReply:
    sender = read_text(item, "from", limit=MAX_NUMBER_LENGTH)
    contact = contact_of(sender)
    if not contact.strip():
        raise ItemError
    text = read_text(item, "body")
    # The list may not mark an MMS as one. What holds no media is a text that looks like one.
    body, media = unpack_mms(item | {"mms": True}, text)
    return ListedReply(
        received_at=read_time(item, "received_at"),
        contact=contact,
        sender=sender,
        text=text,
        body=body if media else text,
        media=media,
        raw=as_body(item),
    )


# Matching


def _find_missing(
    listed: Iterable[ListedReply], horizon: datetime
) -> Iterator[tuple[Listed, Reply]]:
    """Yield the replies that have no stored message, with their places in the list."""
    stored = _read_stored({each.contact for each in listed}, horizon)
    groups: dict[Alike, dict[Listed, Reply]] = defaultdict(dict)
    for each in sorted(listed):
        # A customer may have typed what looks like an MMS: then the webhook has stored it as it is.
        is_text = (each.contact, text_key(each.text)) in stored
        place, reply = _as_payload(each, is_text=is_text)
        groups[each.contact, text_key(reply.body)][place] = reply

    missing: dict[Alike, list[Listed]] = {}
    shifted: list[Shifted] = []
    for alike, replies in groups.items():
        matched = match(replies, stored.get(alike, []))
        missing[alike] = [place for place in replies if place not in matched]
        taken = set(matched.values())
        left = [each for each in stored.get(alike, []) if each not in taken]
        shifted += _shifted(alike, missing[alike], left)
    known = set(_agreeing(shifted))
    for alike, replies in groups.items():
        others = tuple(place for place in replies if (alike, place) not in known)
        for place in missing[alike]:
            if (alike, place) not in known:
                yield place, replace(replies[place], alike=others)


def _as_payload(each: ListedReply, *, is_text: bool) -> tuple[Listed, Reply]:
    body, media = (each.text, ()) if is_text else (each.body, each.media)
    place = Listed(each.received_at, telling_media(body, media))
    return place, Reply(
        raw=each.raw,
        cellcast_id="",
        sender=each.sender,
        receiver="",
        status="received",
        body=body,
        original_body="",
        media=media,
        listed=place,
    )


def _read_stored(contacts: Collection[str], horizon: datetime) -> dict[Alike, list[Stored]]:
    """Return the messages that may match replies of these contacts."""
    messages = Message.objects.using(database_alias()).inbound()
    messages = messages.filter(created_at__gte=horizon + EARLIEST)
    in_order = sorted(contacts)
    stored: dict[Alike, list[Stored]] = {}
    for start in range(0, len(in_order), CONTACTS_PER_QUERY):
        some = in_order[start : start + CONTACTS_PER_QUERY]
        stored |= stored_replies(messages.filter(contact__in=some))
    return stored


# A clock that was behind

Shifted = tuple[timedelta, Alike, Listed]
"""How long before it was received a reply seems to have been stored, and which one."""


def _shifted(alike: Alike, items: Sequence[Listed], left: Sequence[Stored]) -> Iterator[Shifted]:
    """Yield the replies that may be a message which was stored too early to be matched."""
    arrived = [each for each in left if not each.is_recovered]
    for place, message in pair_in_order(items, arrived, -LATEST, EARLIEST).items():
        if place.media == message.media:
            yield place.received_at - message.created_at, alike, place


def _agreeing(shifted: Iterable[Shifted]) -> Iterator[tuple[Alike, Listed]]:
    """Yield the replies that were stored by a host whose clock was behind.

    It was behind for all replies of that time, and by as much: one alone proves nothing.
    """
    in_order = sorted(shifted)
    for one, next_one in pairwise(in_order):
        if next_one[0] - one[0] <= -EARLIEST:
            yield one[1:]
            yield next_one[1:]
