"""Is this message here already? Asked for each reply that looks new, and for nothing else.

Cellcast's API lists replies without an id: contact, text and time tell that two are one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.backends.utils import CursorWrapper

from cellcast_django.database import rows
from cellcast_django.database.transactions import lock_for_insert
from cellcast_django.fold import Update
from cellcast_django.inbox.drafts import MessageDraft, listed_as
from cellcast_django.models import Direction, Message, MessageQuerySet, StatusChange
from cellcast_django.payloads import Listed, Reply

EARLIEST = timedelta(minutes=-5)
LATEST = timedelta(hours=24)
"""How long before or after the API's ``received_at`` the webhook may have been stored."""
LATE_WEBHOOK = timedelta(hours=48)
"""How long after ``received_at`` a webhook may still belong to a recovered reply."""

Window = tuple[timedelta, timedelta]  # before and after the time of a listed reply
EXACTLY: Window = timedelta(), timedelta()
NEAR: Window = timedelta(minutes=-1), timedelta(minutes=1)
"""Those are paired first: a webhook is seldom late."""
ANY: Window = EARLIEST, LATEST


def distinguishing_media(body: str, media: Iterable[str]) -> tuple[str, ...]:
    """Return the media of a reply without a text, which distinguish it; else none."""
    return () if body.strip() else tuple(media)


Alike = tuple[str, str]
"""Contact, and text without its white space: what replies that may be the same have in common."""


def alike(contact: str, body: str) -> Alike:
    """Return what a reply has in common with those that may be the same."""
    return contact, " ".join(body.split())


def replies_since(
    messages: MessageQuerySet, contacts: Collection[str], since: datetime
) -> MessageQuerySet:
    """Narrow messages to the replies of these contacts, stored at that time or later."""
    # By what they are not: by what they are, SQLite reads everybody's replies of that time.
    replies = messages.exclude(direction=Direction.OUTBOUND)
    return replies.filter(contact__in=contacts, created_at__gte=since)


class StoredReply(NamedTuple):
    """A stored reply, to be matched with those that the API lists."""

    created_at: datetime
    pk: int
    media: tuple[str, ...]
    is_recovered: bool
    """Its webhook has not come."""
    own_number: str = ""


def stored_replies(messages: MessageQuerySet) -> dict[Alike, list[StoredReply]]:
    """Return the messages by contact and text, the oldest first."""
    by_text = defaultdict(list)
    names = "contact", "body", "created_at", "pk", "media", "cellcast_id", "own_number"
    rows = messages.order_by("created_at", "pk").values_list(*names)
    for contact, body, created_at, pk, media, cellcast_id, own_number in rows.iterator():
        media = distinguishing_media(body, media)
        reply = StoredReply(created_at, pk, media, not cellcast_id, own_number)
        by_text[alike(contact, body)].append(reply)
    return by_text


Pairs = dict[Listed, StoredReply]


def match(listed: Iterable[Listed], stored: Sequence[StoredReply]) -> Pairs:
    """Return the message of each listed reply that has one; all are of one contact and text.

    A recovered message has exactly the time of its item. Of the others, which are in the order of
    time, as many as possible are matched, so that nothing is stored twice; where that makes no
    fewer, first those near each other, so that the right item is left over as missing.
    """
    pairs: Pairs = {}
    items = sorted(set(listed))
    for some, messages in _by_media(items, stored):
        pairs = _with_more(pairs, some, messages, EXACTLY)
    arrived = [each for each in stored if not each.is_recovered]
    for some, messages in _by_media(items, arrived):
        most = _with_more(pairs, some, messages, ANY)
        near_first = _with_more(_with_more(pairs, some, messages, NEAR), some, messages, ANY)
        pairs = most if len(near_first) < len(most) else near_first
    return pairs


def _by_media(
    items: Sequence[Listed], messages: Sequence[StoredReply]
) -> Iterator[tuple[Sequence[Listed], Sequence[StoredReply]]]:
    """Yield what to pair: those with the same media, then those of which one side tells none."""
    for media in {each.media for each in items}:
        same = [each for each in items if each.media == media]
        yield same, [each for each in messages if each.media == media]
    yield [each for each in items if not each.media], messages
    yield items, [each for each in messages if not each.media]


def _with_more(
    some: Pairs, items: Sequence[Listed], messages: Sequence[StoredReply], within: Window
) -> Pairs:
    """Return these pairs, and as many more as there can be of what is in none."""
    pairs, taken, (earliest, latest) = dict(some), set(some.values()), within
    left = [each for each in reversed(items) if each not in some]  # the oldest last
    # Each gets the oldest item left that is not too far away. No other way pairs more: what is too
    # old for one is too old for the next, which may have each younger item that this one might.
    for message in (each for each in messages if each not in taken):
        while left and left[-1].received_at < message.created_at - latest:
            left.pop()
        if left and left[-1].received_at <= message.created_at - earliest:
            pairs[left.pop()] = message
    return pairs


def lock_out_others(using: str, drafts: Iterable[MessageDraft]) -> None:
    """Keep others from storing replies of the contacts of whom the API has listed one."""
    if listed := _listed_by(drafts):
        first = min(place.received_at for places in listed.values() for place in places)
        contacts = {contact for contact, _ in listed}
        lock_for_insert(replies_since(Message.objects.using(using), contacts, first + EARLIEST))


def unite(cursor: CursorWrapper, new: Mapping[int, MessageDraft]) -> dict[int, Message]:
    """Return the messages, stored before, that new replies turn out to be, by the new rows' keys.

    ``new`` are the drafts of rows just inserted, all of a webhook or all of the API. The row
    of one that was there is deleted; a recovered message takes over what its webhook knows.
    """
    using = cursor.db.alias
    if listed := _listed_by(new.values()):
        stored_before = _brought_by_webhooks(using, new, listed)
    elif _is_any_without_id(cursor, new.values()):
        stored_before = _recovered_before(using, new)
    else:
        return {}
    if stored_before:  # first, as the others may take over their keys
        Message.objects.using(using).filter(pk__in=stored_before).delete()
    if not listed:
        for pk, message in stored_before.items():
            _take_over(using, message, new[pk].update)
    return stored_before


def _is_any_without_id(cursor: CursorWrapper, drafts: Iterable[MessageDraft]) -> bool:
    """Whether a contact has a message without an id: asked for every new reply, by the index."""
    contacts = {_alike(each)[0] for each in drafts}
    return any(rows.column(cursor, Message, "id", cellcast_id="", contact=one) for one in contacts)


def _alike(draft: MessageDraft) -> Alike:
    return alike(draft.update.values["contact"], draft.update.values["body"])


def _listed_by(drafts: Iterable[MessageDraft]) -> dict[Alike, set[Listed]]:
    """Return all places in the API's list of what is alike; nothing for replies of webhooks."""
    listed: dict[Alike, set[Listed]] = defaultdict(set)
    for each in drafts:
        if isinstance(each.payload, Reply) and each.payload.listed is not None:
            listed[_alike(each)].update([each.payload.listed, *each.payload.alike])
    return listed


def _brought_by_webhooks(
    using: str, new: Mapping[int, MessageDraft], listed: Mapping[Alike, set[Listed]]
) -> dict[int, Message]:
    """Return the messages that webhooks have stored since the recovery looked."""
    times = [place.received_at for places in listed.values() for place in places]
    contacts = {contact for contact, _ in listed}
    replies = replies_since(Message.objects.using(using), contacts, min(times) + EARLIEST)
    replies = replies.filter(created_at__lte=max(times) + LATEST).exclude(pk__in=new)
    stored = stored_replies(replies)
    pairs = {group: match(places, stored.get(group, [])) for group, places in listed.items()}
    stored_before = {}
    for pk, each in new.items():
        place: Any = listed_as(each.payload)
        if (message := pairs[_alike(each)].get(place)) is not None:
            stored_before[pk] = Message.objects.using(using).get(pk=message.pk)
    return stored_before


def _recovered_before(using: str, new: Mapping[int, MessageDraft]) -> dict[int, Message]:
    """Return the recovered replies whose webhooks these are, the oldest first."""
    contacts = {_alike(each)[0] for each in new.values()}
    since = min(each.arrival.time for each in new.values()) - LATE_WEBHOOK
    replies = replies_since(Message.objects.using(using), contacts, since)
    replies = replies.filter(cellcast_id="").order_by("created_at", "pk")
    waiting: dict[Alike, list[Message]] = defaultdict(list)
    # Whoever has locked one may keep it for long, and MariaDB's own limit is 50 seconds.
    for reply in replies.select_for_update(nowait=True):
        waiting[alike(reply.contact, reply.body)].append(reply)
    stored_before = {}
    for pk, each in new.items():
        candidates = waiting[_alike(each)]
        same = next((reply for reply in candidates if _has_same_media(reply, each)), None)
        if same is not None:
            candidates.remove(same)
            stored_before[pk] = same
    return stored_before


def _has_same_media(recovered: Message, draft: MessageDraft) -> bool:
    """Whether replies of the same text may be the same, though one may not tell its media."""
    media = distinguishing_media(recovered.body, recovered.media)
    others = distinguishing_media(draft.update.values["body"], draft.update.values["media"])
    return media == others or not media or not others


def _take_over(using: str, recovered: Message, update: Update) -> None:
    """Take over what only the webhook knows, as if it had come first.

    Its status too: the recovered reply's was a guess, so replacing it runs no handler.
    """
    taken = {"status": update.status, "media": recovered.media or update.values["media"]}
    changes = recovered.take({**update.values, **taken})
    recovered.save(using=using, update_fields=changes)
    StatusChange.objects.using(using).filter(message=recovered).update(status=recovered.status)
