"""Replies that no webhook delivered.

The API gives them no id, so an item is matched with a stored message by contact, text and time. All
items of the period are matched with all its messages in one go.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox.same_message import EARLIEST, LATEST, text_key
from cellcast_django.models import Message, contact_of, database_alias
from cellcast_django.payloads import MAX_NUMBER_LENGTH, RecoveredReply, unpack_mms
from cellcast_django.recovery.client import (
    Client,
    ItemError,
    as_body,
    as_object,
    read_text,
    read_time,
)
from cellcast_django.recovery.matching import match
from cellcast_django.recovery.run import Findings, Run, store

PATH = "/api/v1/apiClient/getResponses"

GRACE = timedelta(minutes=10)  # the webhook of a more recent reply may still be on its way

CONTACTS_PER_QUERY = 500


@dataclass(frozen=True, slots=True, order=True)
class ListedReply:
    """A reply as the API lists it. If two pages list the same one, it counts once."""

    received_at: datetime
    contact: str = field(repr=False)
    sender: str = field(repr=False)
    body: str = field(repr=False)
    media: tuple[str, ...] = field(repr=False)
    raw: str = field(repr=False)


class StoredReply(NamedTuple):
    """What is needed of a stored message to match it."""

    created_at: datetime
    pk: int
    is_recovered: bool


@hides_variables
def recover_replies(client: Client, run: Run, findings: Findings) -> None:
    """Store the replies of the list that are missing, oldest first. Raises ``RecoveryError``."""
    listed = _read_list(client, run, findings)
    missing = _find_missing(listed)
    absorbed: dict[tuple[str, str], set[int]] = defaultdict(set)
    for payload in sorted(missing, key=lambda reply: reply.received_at):
        if payload.received_at < run.since:
            continue
        if payload.received_at > run.now - GRACE:
            findings.waiting += 1
            continue
        findings.missing += 1
        if not run.dry_run:
            findings.stored += _store(payload, absorbed[_group(payload.sender, payload.body)])
        run.progress(findings)


def _store(reply: RecoveredReply, absorbed: set[int]) -> bool:
    """Store a reply, and return whether it was new.

    ``absorbed`` holds the messages already taken by equal replies of this run, and gains that of
    this one: a webhook that arrives at the same moment must not count for two replies.
    """
    reply = replace(reply, claimed=reply.claimed | absorbed)
    event = store(reply)
    absorbed.update(filter(None, [event.message_id]))
    return event.is_news


def _group(sender: str, body: str) -> tuple[str, str]:
    """Return the contact and text, which a reply and its message have in common."""
    return contact_of(sender), text_key(body)


def _read_list(client: Client, run: Run, findings: Findings) -> set[ListedReply]:
    """Return the replies of the run's period, and of a day before it.

    The latter are not stored, but their messages must not be matched with later replies.
    """
    horizon = run.since - LATEST
    listed: set[ListedReply] = set()
    for page in client.pages(PATH):
        replies = list(_read_page(page, findings))
        new = {reply for reply in replies if reply.received_at >= horizon} - listed
        listed |= new
        findings.seen += sum(reply.received_at >= run.since for reply in new)
        run.progress(findings)
        if replies and all(reply.received_at < horizon for reply in replies):
            break
    return listed


def _read_page(page: list[Any], findings: Findings) -> Iterator[ListedReply]:
    for item in page:
        try:
            yield _read(item)
        except ItemError:
            findings.unreadable += 1


def _read(each: Any) -> ListedReply:
    item = as_object(each)
    sender = read_text(item, "from", limit=MAX_NUMBER_LENGTH)
    contact = contact_of(sender)
    if not contact.strip():
        raise ItemError
    # The list may not mark an MMS as one; its text is JSON, as in a webhook.
    body, media = unpack_mms(item | {"mms": True}, read_text(item, "body"))
    return ListedReply(
        received_at=read_time(item, "received_at"),
        contact=contact,
        sender=sender,
        body=body,
        media=media,
        raw=as_body(item),
    )


def _find_missing(listed: set[ListedReply]) -> list[RecoveredReply]:
    """Return the replies that have no stored message."""
    groups: dict[tuple[str, str], list[ListedReply]] = defaultdict(list)
    for reply in sorted(listed):
        groups[_group(reply.sender, reply.body)].append(reply)
    stored = _read_stored(sorted(listed))
    return [
        reply for group, replies in groups.items() for reply in _unmatched(replies, stored[group])
    ]


def _read_stored(listed: Sequence[ListedReply]) -> dict[tuple[str, str], list[StoredReply]]:
    """Return the messages that may match one of these replies, grouped as the replies are."""
    stored: dict[tuple[str, str], list[StoredReply]] = defaultdict(list)
    if not listed:
        return stored
    contacts = sorted({reply.contact for reply in listed})
    times = listed[0].received_at + EARLIEST, listed[-1].received_at + LATEST
    messages = Message.objects.using(database_alias()).inbound().filter(created_at__range=times)
    names = "contact", "body", "created_at", "pk", "cellcast_id"
    for start in range(0, len(contacts), CONTACTS_PER_QUERY):
        found = messages.filter(contact__in=contacts[start : start + CONTACTS_PER_QUERY])
        for contact, body, created_at, pk, cellcast_id in found.values_list(*names).iterator():
            reply = StoredReply(created_at, pk, is_recovered=not cellcast_id)
            stored[contact, text_key(body)].append(reply)
    return stored


def _unmatched(
    replies: Sequence[ListedReply], stored: Sequence[StoredReply]
) -> Iterator[RecoveredReply]:
    """Yield the replies, all of one contact and text, that match none of the messages."""
    at_the_time = {message.created_at for message in stored}
    times = {reply.received_at for reply in replies}
    # A recovered message has exactly the time of its item, and matches no other item.
    left = [reply for reply in replies if reply.received_at not in at_the_time]
    candidates = sorted(
        message
        for message in stored
        if not message.is_recovered and message.created_at not in times
    )
    matches = match(
        [reply.received_at for reply in left],
        [message.created_at for message in candidates],
        earliest=EARLIEST,
        latest=LATEST,
    )
    claimed = {candidates[position].pk for position in matches.values()}
    claimed |= {message.pk for message in stored if message.created_at in times}
    for position, reply in enumerate(left):
        if position not in matches:
            yield RecoveredReply(
                raw=reply.raw,
                cellcast_id="",
                sender=reply.sender,
                receiver="",
                status="received",
                body=reply.body,
                original_body="",
                media=reply.media,
                received_at=reply.received_at,
                claimed=frozenset(claimed),
            )
