"""What people do with replies: mark them as done, and make them new again.

Whoever may mark replies as done may take it back at any time, whoever did it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import grouped
from cellcast_django.admin.own_numbers import narrow_to_sender, senders
from cellcast_django.admin.viewer import Viewer
from cellcast_django.database.transactions import again_if_refused
from cellcast_django.desk.waiting import WaitingReply
from cellcast_django.models import Direction, Message, database_alias
from cellcast_django.models.message import handled_mark

UNDO = "cellcast_django.undo"
"""The session's key for what the last click has marked, until a page has offered to undo it."""


def replies_of(viewer: Viewer) -> Any:
    """Return the replies that this person sees."""
    return viewer.latest_rows(Message).filter(direction=Direction.INBOUND)


def with_earlier(
    viewer: Viewer, replies: Any, *, own_number: str = "", seen_until: int | None = None
) -> list[WaitingReply]:
    """Return those of the replies that nobody has dealt with, and their customers' earlier ones.

    On a page that is narrowed to an own number, those to another are left out. ``seen_until`` is
    the highest key when the page was made: what has come since is left out too, whatever its clock
    said.
    """
    chosen = rows_of(replies.filter(handled_at=None))
    # Reversed, so that the newest reply of each contact overwrites the older ones.
    newest_at = {row.contact: row.created_at for row in reversed(chosen) if row.contact}
    others = replies_of(viewer).filter(handled_at=None, contact__in=newest_at)
    if own_number:
        others = narrow_to_sender(others, own_number, senders(viewer.latest_rows(Message)))
    if seen_until is not None:  # what is chosen counts as seen: an old page may show less
        others = others.filter(pk__lte=max([seen_until, *(row.pk for row in chosen)]))
    earlier = [row for row in rows_of(others) if row.created_at <= newest_at[row.contact]]
    return sorted({*chosen, *earlier}, reverse=True)


def rows_of(replies: Any) -> list[WaitingReply]:
    """Return the replies, the newest first."""
    rows = replies.order_by("-created_at", "-pk").values_list(*WaitingReply._fields)
    return [WaitingReply(*row) for row in rows]


class Marked(NamedTuple):
    """What has been marked as handled."""

    replies: int
    """How many."""
    has_note: bool
    """Whether the note was kept: a colleague may have marked its reply first."""


def mark(viewer: Viewer, keys: Sequence[int], at: datetime, note: str = "") -> Marked:
    """Mark replies, all or none, as handled by this person at that time; a colleague's mark stays.

    The note is the first one's: of what ``with_earlier`` returns, the newest. That is marked before
    the earlier ones.
    """
    new = replies_of(viewer).filter(handled_at=None)
    noted, others = (keys[:1], keys[1:]) if note else ([], keys)

    def write() -> Marked:
        with transaction.atomic(using=database_alias()):
            with_note = new.filter(pk__in=noted).update(**handled_mark(at, viewer.username, note))
            without = new.filter(pk__in=others).update(**handled_mark(at, viewer.username))
        return Marked(with_note + without, has_note=with_note > 0)

    return again_if_refused(write, using=database_alias())


def reopen(viewer: Viewer, keys: Sequence[int]) -> int:
    """Make replies new again, whoever has handled them."""
    done = replies_of(viewer).filter(pk__in=keys, handled_at__isnull=False)
    return int(again_if_refused(partial(done.update, **handled_mark(None)), using=database_alias()))


def handled_with(viewer: Viewer, replies: Iterable[Message]) -> list[int]:
    """Return the keys of replies, and of their customers' others that were handled with them."""
    same = Q()
    for reply in replies:
        same |= Q(pk=reply.pk)
        if reply.contact:
            same |= Q(contact=reply.contact, handled_at=reply.handled_at)
    return list(replies_of(viewer).filter(same).values_list("pk", flat=True)) if same else []


def to_undo(viewer: Viewer, keys: Sequence[int]) -> list[Message]:
    """Return what *Undo* makes new: one's own last click, without customers answered since."""
    sent = Message.objects.fresh().outbound().exclude(contact="")
    answers = sent.filter(contact=OuterRef("contact"), created_at__gte=OuterRef("handled_at"))
    mine = replies_of(viewer).filter(pk__in=keys, handled_by=viewer.username)
    return list(mine.filter(handled_at__isnull=False).exclude(Exists(answers)))


@shown
class Undo:
    """What the last click has marked as done, and whose replies these are."""

    marked: Mapping[int, str]
    """The keys of the replies, one of each customer, with their contacts."""
    customers: Mapping[str, Customer]

    @property
    def keys(self) -> str:
        return ",".join(map(str, self.marked))

    @property
    def sentence(self) -> str:
        contact, *others = self.marked.values()  # without any, the template shows nothing
        if others:
            words = gettext("%(count)s customers marked as done.")
            return words % {"count": grouped(len(self.marked))}
        label = (self.customers.get(contact) or Customer(contact)).label
        words = gettext("Marked as done: %(customer)s.")
        return words % {"customer": label or gettext("(no number)")}


def take_marked_last(viewer: Viewer) -> dict[int, str]:
    """Return the replies that the last click has marked, with their contacts, and forget them."""
    keys: list[int] = viewer.request.session.pop(UNDO, [])
    return dict(replies_of(viewer).filter(pk__in=keys).values_list("pk", "contact")) if keys else {}
