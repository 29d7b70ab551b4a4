"""One SMS or MMS, received or sent."""

from datetime import timedelta
from typing import Any, Self

from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import ExactCharField, UnicodeTextField
from cellcast_django.database.indexes import PartialIndex
from cellcast_django.models.message_identity import Direction, message_values
from cellcast_django.models.message_queryset import IS_UNHANDLED, MessageQuerySet
from cellcast_django.payloads import MAX_ID_LENGTH, MAX_NUMBER_LENGTH, MAX_STATUS_LENGTH
from cellcast_django.statuses import Status, is_final

FILLABLE_FIELDS = ("sender", "receiver", "contact", "body", "original_body", "media")
"""The fields that a later event fills in if they are empty."""


class Message(models.Model):
    """One SMS or MMS: a reply you received, or a message you sent."""

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
                fields=["direction", "handled_at", "created_at", "contact"],
                name="cellcast_message_unhandled",
                where=models.Q(direction=Direction.INBOUND, handled_at__isnull=True),
            ),
        ]
        # Not unique=True, for which Django would add an index for LIKE on PostgreSQL.
        constraints = [models.UniqueConstraint(fields=["key"], name="cellcast_message_key")]
        permissions = [
            ("answer_message", _("Can answer messages")),
            ("handle_message", _("Can mark replies as handled")),
            ("export_message", _("Can export messages")),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.cellcast_id}"

    @classmethod
    def from_parts(cls, direction: Direction, **parts: Any) -> Self:
        """Build an unsaved message from the arguments of ``message_values``."""
        return cls(**message_values(direction, **parts))

    @property
    def is_final(self) -> bool:
        """Whether no further status is expected."""
        return is_final(self.status)

    @property
    def delivery_time(self) -> timedelta | None:
        """From ``submitted_at`` to the record of ``delivered``; ``None`` if either is missing."""
        if self.submitted_at is None:
            return None
        # From the message's own database: a replica may not have the row yet.
        for change in self.status_history.db_manager(self._state.db).all():
            if change.status == Status.DELIVERED:
                return change.recorded_at - self.submitted_at
        return None

    def mark_handled(self) -> None:
        """Mark this reply, and the earlier ones of its contact, as needing nobody's attention.

        One UPDATE; replies already handled keep their time. Raises ``ValueError`` for a message you
        sent.
        """
        if self.direction != Direction.INBOUND:
            raise ValueError("Only a reply can be handled, and this is a message you sent.")
        this_and_earlier = models.Q(pk=self.pk)
        if self.contact:
            this_and_earlier |= models.Q(contact=self.contact, created_at__lte=self.created_at)
        now = timezone.now()
        replies = Message.objects.using(database_alias()).filter(IS_UNHANDLED)
        replies.filter(this_and_earlier).update(handled_at=now)
        self.handled_at = self.handled_at or now

    def conversation(self) -> MessageQuerySet:
        """Return all messages with the same contact, this one included, oldest first."""
        messages = Message.objects.using(self._state.db)
        if not self.contact:
            return messages.filter(pk=self.pk)
        return messages.filter(contact=self.contact).order_by("created_at", "pk")

    def fill_in_from(self, other: "Message") -> list[str]:
        """Copy from ``other`` what is empty here, and return the names of the fields copied."""
        filled = []
        for name in FILLABLE_FIELDS:
            if not getattr(self, name) and getattr(other, name):
                setattr(self, name, getattr(other, name))
                filled.append(name)
        return filled

    def overwrite_from(self, sent: "Message") -> list[str]:
        """Copy the sending side's values, and return the names of the fields that changed."""
        names = ("sender", "receiver", "contact", "body")
        values = {name: getattr(sent, name) for name in names if getattr(sent, name)}
        changed = [name for name in values if values[name] != getattr(self, name)]
        for name in changed:
            setattr(self, name, values[name])
        return changed


def database_alias() -> str:
    """Return the alias of the database that messages are written to.

    Whatever must be fresh is read from it too, never from a replica.
    """
    return router.db_for_write(Message)
