"""A message, its QuerySet, and what identifies it."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Self

from django.apps import apps
from django.conf import settings
from django.db import connections, models, router, transaction
from django.db.models import OuterRef
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.conf import conf
from cellcast_django.contacts import normalise
from cellcast_django.database.fields import ExactCharField, UnicodeTextField
from cellcast_django.database.indexes import PartialIndex
from cellcast_django.payloads import (
    MAX_ID_LENGTH,
    MAX_NUMBER_LENGTH,
    MAX_STATUS_LENGTH,
    clean,
)
from cellcast_django.statuses import FINAL, UNDELIVERED, Status, is_final

FILLED_IN = ("sender", "receiver", "contact", "body", "original_body", "media")
"""The fields of a message that a later event fills in where they are empty."""


class Direction(models.TextChoices):
    """Which way a message went."""

    INBOUND = "inbound", _("inbound")
    OUTBOUND = "outbound", _("outbound")


class _Literal(models.Func):
    """A text in the statement itself: SQLite uses a partial index only for what it can read."""

    def __init__(self, text: str) -> None:
        super().__init__(template=f"'{text}'", output_field=models.CharField())


_IS_UNHANDLED = models.Q(direction=_Literal(Direction.INBOUND.value), handled_at__isnull=True)


class MessageQuerySet(models.QuerySet["Message", "Message"]):
    """Messages by what people ask of them."""

    def inbound(self) -> Self:
        """Replies: messages that customers sent to you."""
        return self.filter(direction=Direction.INBOUND)

    def outbound(self) -> Self:
        """Messages that you sent."""
        return self.filter(direction=Direction.OUTBOUND)

    def delivered(self) -> Self:
        """Messages that you sent and that arrived."""
        return self.outbound().filter(status=Status.DELIVERED)

    def undelivered(self) -> Self:
        """Messages that you sent and that ended otherwise."""
        return self.outbound().filter(status__in=UNDELIVERED)

    def pending(self) -> Self:
        """Messages that you sent and that have no final status yet."""
        return self.outbound().exclude(status__in=FINAL)

    def unhandled(self) -> Self:
        """Replies that are not handled, of contacts who have not opted out."""
        opt_out: Any = apps.get_model("cellcast_django", "OptOut")  # which imports this module
        standing = opt_out.objects.active().filter(contact=OuterRef("contact"))
        return self.filter(_IS_UNHANDLED).exclude(models.Exists(standing))

    def silent(self, older_than: timedelta) -> Self:
        """Messages that you sent so long ago, and of which nothing has been reported.

        Only what ``record_sent`` has recorded can be: anything else was made by a report.
        """
        return self.outbound().filter(status="", created_at__lte=timezone.now() - older_than)

    def with_contact(self, number: str) -> Self:
        """Messages from and to one customer, whatever the spelling of the number."""
        contact = normalise(clean(number), conf.default_region)
        return self.filter(contact=contact) if contact else self.none()

    def record_sent(
        self,
        cellcast_id: str,
        *,
        receiver: str,
        sender: str = "",
        body: str = "",
        answers: "Message | None" = None,
    ) -> "Message":
        """Record a message that you have just sent, by the id in the send API's answer.

        Idempotent. A delivery report that came earlier has made the row already: it is adopted, and
        what you say here overwrites what it claimed, so that nobody's report can file your text
        under another number. ``answers`` is the reply that it answers, which is handled then.
        Raises ``ValueError`` for an id or a receiver that is empty, for anything that is too long,
        and for an answer to what is no reply.
        """
        sent = Message.from_parts(
            Direction.OUTBOUND,
            cellcast_id=_checked("cellcast_id", cellcast_id, MAX_ID_LENGTH, required=True),
            sender=_checked("sender", sender, MAX_NUMBER_LENGTH),
            receiver=_checked("receiver", receiver, MAX_NUMBER_LENGTH, required=True),
            body=clean(str(body)),
        )
        using = self._db or router.db_for_write(Message)  # type: ignore[attr-defined]
        with transaction.atomic(using=using):
            message = Message.objects.using(using).lock([sent])[sent.key]
            if overwritten := message.overwrite_from(sent):
                message.save(using=using, update_fields=overwritten)
            if answers is not None:
                answers.mark_handled()
        return message

    def lock(self, messages: Iterable["Message"]) -> dict[str, "Message"]:
        """Make sure that these messages have a row, lock the rows, and return them by key.

        Must be the first statement of a transaction. It writes before it reads, in the order of the
        keys: anything else is "database is locked" on SQLite and a deadlock on the others.
        """
        by_key = {message.key: message for message in messages}
        has_target = connections[self.db].features.supports_update_conflicts_with_target
        self.bulk_create(
            [by_key[key] for key in sorted(by_key)],
            update_conflicts=True,
            update_fields=["key"],
            unique_fields=["key"] if has_target else None,
        )
        return {message.key: message for message in self.filter(key__in=by_key)}


class Message(models.Model):
    """One SMS: a reply that came in, or a message that you sent."""

    key = ExactCharField(
        _("key"),
        max_length=32,
        editable=False,
        help_text=_("Identifies the message: events with the same key are about the same message."),
    )
    direction = models.CharField(
        _("direction"),
        max_length=8,
        choices=Direction,
        help_text=_("Inbound: a reply from a customer. Outbound: a message you sent."),
    )
    cellcast_id = ExactCharField(
        _("Cellcast id"),
        max_length=MAX_ID_LENGTH,
        help_text=_("Cellcast’s id for the message. Two replies to one message may share it."),
    )
    sender = ExactCharField(
        _("sender"),
        max_length=MAX_NUMBER_LENGTH,
        blank=True,
        help_text=_("Who sent the message, as written by Cellcast."),
    )
    receiver = ExactCharField(
        _("receiver"),
        max_length=MAX_NUMBER_LENGTH,
        blank=True,
        help_text=_("Who the message was sent to, as written by Cellcast."),
    )
    contact = ExactCharField(
        _("contact"),
        max_length=MAX_NUMBER_LENGTH,
        blank=True,
        help_text=_("The customer’s number, in international format if it is a phone number."),
    )
    body = UnicodeTextField(_("text"), blank=True, help_text=_("The text of the message."))
    original_body = UnicodeTextField(
        _("original text"),
        blank=True,
        help_text=_("For a reply: the text it answers, if Cellcast included it."),
    )
    media = models.JSONField(
        _("media"),
        default=list,
        blank=True,
        help_text=_("For an MMS: the URLs of its pictures and other media."),
    )
    status = ExactCharField(
        _("status"),
        max_length=MAX_STATUS_LENGTH,
        blank=True,
        help_text=_("The highest status in the history; empty until the first report."),
    )
    previous_status = ExactCharField(
        _("previous status"),
        max_length=MAX_STATUS_LENGTH,
        blank=True,
        editable=False,
        help_text=_("The status before the latest report."),
    )
    submitted_at = models.DateTimeField(
        _("submitted at"),
        null=True,
        blank=True,
        help_text=_("When Cellcast accepted an outbound message: the time encoded in its id."),
    )
    created_at = models.DateTimeField(
        _("first seen"), default=timezone.now, help_text=_("When this site first recorded it.")
    )
    status_changed_at = models.DateTimeField(
        _("status changed at"),
        null=True,
        blank=True,
        help_text=_("When the status last changed."),
    )
    handled_at = models.DateTimeField(
        _("handled at"),
        null=True,
        blank=True,
        help_text=_("For a reply: when it stopped needing anybody’s attention."),
    )

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        indexes = [
            models.Index(fields=["cellcast_id"], name="cellcast_message_id"),
            models.Index(fields=["contact", "created_at"], name="cellcast_message_contact"),
            models.Index(fields=["direction", "created_at"], name="cellcast_message_direction"),
            models.Index(
                fields=["direction", "status", "created_at"], name="cellcast_message_status"
            ),
            models.Index(fields=["created_at"], name="cellcast_message_created"),
            PartialIndex(
                fields=["direction", "handled_at", "contact", "created_at"],
                name="cellcast_message_unhandled",
                where=models.Q(direction=Direction.INBOUND, handled_at__isnull=True),
            ),
        ]
        # Not by unique=True, for which Django adds an index for LIKE on PostgreSQL.
        constraints = [models.UniqueConstraint(fields=["key"], name="cellcast_message_key")]
        permissions = [
            ("reply_message", _("Can reply to messages")),
            ("handle_message", _("Can mark replies as handled")),
            ("export_message", _("Can export messages")),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.cellcast_id}"

    @classmethod
    def from_parts(cls, direction: Direction, **parts: Any) -> Self:
        """Build an unsaved message; the parts are those of ``message_values``."""
        return cls(**message_values(direction, **parts))

    @property
    def is_final(self) -> bool:
        """Whether no other status is expected to follow."""
        return is_final(self.status)

    @property
    def delivery_time(self) -> timedelta | None:
        """From ``submitted_at`` to the record of ``delivered``; ``None`` where one is missing."""
        if self.submitted_at is None:
            return None
        # Of the database that the message is from: a replica may not have it yet.
        for change in self.status_history.db_manager(self._state.db).all():
            if change.status == Status.DELIVERED:
                return change.recorded_at - self.submitted_at
        return None

    def mark_handled(self) -> None:
        """Note that nobody needs to act on this reply and the earlier ones of its contact.

        One UPDATE; what had been handled keeps its time. Raises ``ValueError`` for a message that
        you sent.
        """
        if self.direction != Direction.INBOUND:
            raise ValueError("Only a reply can be handled, and this is a message that you sent.")
        is_meant = models.Q(pk=self.pk)
        if self.contact:
            is_meant |= models.Q(contact=self.contact, created_at__lte=self.created_at)
        now = timezone.now()
        replies = Message.objects.using(database_alias()).filter(_IS_UNHANDLED)
        replies.filter(is_meant).update(handled_at=now)
        self.handled_at = self.handled_at or now

    def conversation(self) -> MessageQuerySet:
        """Return all messages with the same contact, oldest first, this one included."""
        messages = Message.objects.using(self._state.db)
        if not self.contact:
            return messages.filter(pk=self.pk)
        return messages.filter(contact=self.contact).order_by("created_at", "pk")

    def fill_in_from(self, other: "Message") -> list[str]:
        """Take from ``other`` what is empty here, and return the names of the fields taken."""
        filled = []
        for name in FILLED_IN:
            if not getattr(self, name) and getattr(other, name):
                setattr(self, name, getattr(other, name))
                filled.append(name)
        return filled

    def overwrite_from(self, sent: "Message") -> list[str]:
        """Take what the sending side says, and return the names of the fields that changed."""
        names = ("sender", "receiver", "contact", "body")
        values = {name: getattr(sent, name) for name in names if getattr(sent, name)}
        changed = [name for name in values if values[name] != getattr(self, name)]
        for name in changed:
            setattr(self, name, values[name])
        return changed


def message_values(
    direction: Direction,
    *,
    cellcast_id: str,
    sender: str,
    receiver: str,
    body: str = "",
    original_body: str = "",
    media: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the fields of a message: these parts, and what follows from them.

    An outbound message is known by its id. An inbound one is known by id, sender, receiver,
    text and media: Cellcast may give a reply the id of the message replied to.
    """
    outbound = direction == Direction.OUTBOUND
    identity = [cellcast_id] if outbound else [cellcast_id, sender, receiver, body, *media]
    return {
        "key": message_key(direction, *identity),
        "direction": direction.value,
        "cellcast_id": cellcast_id,
        "sender": sender,
        "receiver": receiver,
        "contact": normalise(receiver if outbound else sender, conf.default_region),
        "body": body,
        "original_body": original_body,
        "media": list(media),
        "submitted_at": submission_time(cellcast_id) if outbound else None,
    }


def message_key(direction: Direction, *identity: str) -> str:
    """Return the key of the message that has this identity: a digest, which compares everywhere."""
    return sha256("\0".join([direction.value, *identity]).encode()).hexdigest()[:32]


def database_alias() -> str:
    """Return the alias of the database that the router gives for writing messages.

    Everything that must be fresh is read from it too, and never from a replica.
    """
    return router.db_for_write(Message)


_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


def submission_time(cellcast_id: str) -> datetime | None:
    """Return the creation time inside a MongoDB ObjectId, to the second; ``None`` for other ids.

    Its first four bytes are Unix seconds. It is naive, in the default time zone, with
    ``USE_TZ = False``. Source: mongodb.com/docs/manual/reference/bson-types/#objectid
    """
    if not _OBJECT_ID.fullmatch(cellcast_id):
        return None
    time = datetime.fromtimestamp(int(cellcast_id[:8], 16), tz=UTC)
    if settings.USE_TZ:
        return time
    return timezone.make_naive(time, timezone.get_default_timezone())


def _checked(name: str, value: Any, limit: int, *, required: bool = False) -> str:
    text = "" if value is None else clean(str(value))
    if required and not text.strip():
        raise ValueError(f"{name} is empty.")
    if len(text) > limit:
        raise ValueError(f"{name} is longer than {limit} characters.")
    return text
