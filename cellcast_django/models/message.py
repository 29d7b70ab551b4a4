"""One SMS or MMS, received or sent, and the history of its statuses."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.db import connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from phonenumbers import PhoneNumber

from cellcast_django.conf import conf
from cellcast_django.contacts import text_of, to_contact
from cellcast_django.database import rows
from cellcast_django.database.fields import (
    BooleanField,
    DateTimeField,
    ExactCharField,
    PartialIndex,
    UnicodeTextField,
)
from cellcast_django.database.transactions import again_if_refused
from cellcast_django.fold import Direction, Snapshot, Update, fold, values_of
from cellcast_django.models.base import (
    FreshQuerySet,
    one_of,
    optional_number,
    optional_text,
    optional_time,
    optional_username,
    optional_word,
    username_of,
)
from cellcast_django.models.opt_out import OptOut
from cellcast_django.models.webhook_event import WebhookEvent, reported_by
from cellcast_django.payloads import MAX_ID_LENGTH, MAX_NUMBER_LENGTH, MAX_STATUS_LENGTH, clean
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

MAX_REFERENCE_LENGTH = 128
MAX_NOTE_LENGTH = 200
ANSWERED_WITHIN = timedelta(days=30)
"""How long after a message a reply that does not quote it may still be an answer to it."""

logger = logging.getLogger("cellcast_django")


class _Literal(models.Func):
    """Text inlined into the statement: SQLite uses a partial index only if it sees the value."""

    def __init__(self, text: str) -> None:
        super().__init__(template=f"'{text}'", output_field=models.CharField())


HAS_REFERENCE = ~models.Q(reference=_Literal(""))

IS_UNHANDLED = models.Q(direction=_Literal(Direction.INBOUND.value), handled_at__isnull=True)


def may_be_of(own_number: str) -> models.Q:
    """Messages of this own number, and those of a name, which may stand for any number."""
    return models.Q(own_number=own_number) | ~models.Q(own_number__startswith="+")


class MessageQuerySet(FreshQuerySet["Message"]):
    """Messages by direction, status and contact."""

    def inbound(self) -> Self:
        """Replies: messages that customers sent you."""
        return self.filter(direction=Direction.INBOUND)

    def outbound(self) -> Self:
        """Messages you sent."""
        return self.filter(direction=Direction.OUTBOUND)

    def delivered(self) -> Self:
        """Messages you sent that arrived."""
        return self.outbound().filter(status=Status.DELIVERED)

    def undelivered(self) -> Self:
        """Messages you sent whose final status is not delivered."""
        return self.outbound().filter(status__in=UNDELIVERED)

    def on_the_way(self) -> Self:
        """Messages you sent without a final status."""
        return self.outbound().exclude(status__in=FINAL)

    def unhandled(self) -> Self:
        """Replies that nobody has handled; a stop word is handled from the start."""
        return self.filter(IS_UNHANDLED)

    def silent(self, older_than: timedelta) -> Self:
        """Messages you recorded longer ago than this ``timedelta``, with no report so far."""
        if not isinstance(older_than, timedelta):
            raise TypeError(f"older_than must be a timedelta, not {type(older_than).__name__}.")
        unreported = self.outbound().filter(status="", recorded_at__isnull=False)
        return unreported.filter(created_at__lte=timezone.now() - older_than)

    def of_tests(self) -> Self:
        """Messages that exist only because of our own Test Sends, and that nobody recorded."""
        events = WebhookEvent.objects.using(self.db)
        tested = events.filter(is_test=True).exclude(message=None)
        # Not DISTINCT: without statistics, SQLite would read the messages of all events for it.
        keys = set(tested.values_list("message_id", flat=True))
        if not keys:
            return self.none()
        own = events.filter(message=models.OuterRef("pk"))
        # One that is older than its first test was there before anybody tested with its id.
        made_it = own.filter(is_test=True, received_at__lte=models.OuterRef("created_at"))
        is_real = models.Exists(own.filter(is_test=False))
        return self.filter(models.Exists(made_it), ~is_real, pk__in=keys, recorded_at=None)

    def with_contact(self, number: str | PhoneNumber) -> Self:
        """Messages from and to one customer, in any spelling of the number."""
        contact = to_contact(number)
        return self.filter(contact=contact) if contact else self.none()

    def with_reference(self, reference: str) -> Self:
        """Messages that you recorded with exactly this reference, the newest first."""
        recorded = self.filter(reference=_checked("reference", reference))
        # By the condition, SQLite uses the index too.
        return recorded.filter(HAS_REFERENCE).order_by("-recorded_at", "-pk")

    def record_sent(
        self,
        cellcast_id: str | int,
        *,
        receiver: str | PhoneNumber,
        sender: str | PhoneNumber = "",
        body: str = "",
        reference: str = "",
        answers: "Message | None" = None,
        username: str = "",
    ) -> "Message":
        """Record a message you have just sent, by the id in the send API's response.

        Idempotent. Your values overwrite those of a delivery report that was quicker.
        ``reference`` is your own text, for finding your own object again. ``answers`` is the reply
        that this message answers, which alone is then handled. ``username`` is the person who sent
        it. Raises ``TypeError`` for values of another type, and ``ValueError`` for what is empty or
        too long, or if ``answers`` is not a reply.
        """
        parts = outgoing_parts(
            receiver=receiver, sender=sender, body=body, reference=reference, answers=answers
        )
        if isinstance(cellcast_id, bool) or not isinstance(cellcast_id, str | int):
            kind = type(cellcast_id).__name__
            raise TypeError(f"cellcast_id must be a string or an integer, not {kind}.")
        cellcast_id = _checked("cellcast_id", str(cellcast_id), MAX_ID_LENGTH, required=True)
        using = self._db or router.db_for_write(self.model)  # type: ignore[attr-defined]
        sent_by = username_of(username)
        values = values_of(Direction.OUTBOUND, cellcast_id=cellcast_id, sent_by=sent_by, **parts)
        update = Update(values=values, at=timezone.now(), is_recorded=True)

        def record() -> Message:
            with transaction.atomic(using=using):
                message = _record(connections[using], update)
                if answers is not None:
                    answers.mark_handled(username=username)
            return message

        return again_if_refused(record, using=using)  # the SMS has gone


def _record(connection: BaseDatabaseWrapper, update: Update) -> "Message":
    """Insert a message that the host's code has sent, or adopt the row that a report has made."""
    if_new, _ = fold(None, update)
    columns = {**if_new.columns, "created_at": update.at}
    with connection.cursor() as cursor:
        message, is_new = rows.insert_or_lock(cursor, Message, columns, unique="key")
        changes = {}
        if not is_new:
            if message.recorded_at and message.contact not in ("", update.values["contact"]):
                logger.warning(
                    "Message %s was recorded again, for another receiver: it is filed under that "
                    "one now. Does each receiver have an id of its own?",
                    message.pk,
                )
            adopted, _ = fold(message.snapshot(), update)
            changes = message.take(adopted.columns)
        changes |= message.opted_out_when_sent(is_new=is_new)
        if changes:
            rows.update(cursor, Message, message.pk, changes)
    return message


def outgoing_parts(
    *,
    receiver: str | PhoneNumber,
    sender: str | PhoneNumber,
    body: str,
    reference: str,
    answers: "Message | None",
) -> dict[str, str]:
    """Return the parts of a message as ``record_sent`` stores them; raises what it raises."""
    if answers is not None:
        if not isinstance(answers, Message):
            raise TypeError(f"answers must be a Message or None, not {type(answers).__name__}.")
        if answers.direction != Direction.INBOUND:
            raise ValueError("Only a reply can be answered, and this is a message you sent.")
    return {
        "receiver": _checked("receiver", text_of(receiver), MAX_NUMBER_LENGTH, required=True),
        "sender": _checked("sender", text_of(sender or ""), MAX_NUMBER_LENGTH),
        "body": _checked("body", body),
        "reference": _checked("reference", reference, MAX_REFERENCE_LENGTH),
    }


def _checked(name: str, value: object, limit: int | None = None, *, required: bool = False) -> str:
    """Return a clean string, also of a lazy translation."""
    if not isinstance(value, str | Promise):
        raise TypeError(f"{name} must be text, not {type(value).__name__}.")
    text = clean(str(value))
    if required and not text.strip():
        raise ValueError(f"{name} is empty.")
    if limit is not None and len(text) > limit:
        raise ValueError(f"{name} is longer than {limit} characters.")
    return text


def handled_mark(at: datetime | None, username: str = "", note: str = "") -> dict[str, Any]:
    """Return the columns that say that a reply is handled, or with no time that it is not.

    Always all of them: older code takes a mark back, and leaves its note.
    """
    by, note = username_of(username), _checked("note", note, MAX_NOTE_LENGTH)
    return {"handled_at": at, "handled_by": by, "handled_note": note}


def is_own_number(number: str) -> bool:
    """Whether a number or name is known to be yours, by more than a webhook's word."""
    if own := {to_contact(each) for each in conf.own_numbers} - {""}:
        return number in own
    recorded = Message.objects.fresh().filter(own_number=number, recorded_at__isnull=False)
    return number != "" and recorded.exists()


class Message(models.Model):
    """One SMS or MMS: a reply you received, or a message you sent."""

    if TYPE_CHECKING:
        id: int
        status_history: RelatedManager["StatusChange"]
        events: RelatedManager[WebhookEvent]

    NOT_REPORTED = {
        *("id", "status", "status_changed_at", "recorded_at", "created_at"),
        *("handled_at", "handled_by", "handled_note", "opted_out_at"),
    }
    """Columns that follow from what else is known. All others are what events and your code say."""
    REPORTED = ("sender", "receiver", "own_number", "contact", "body", "original_body", "media")
    """What an event says of a message, beside its identity and status."""

    key = ExactCharField(
        _("key"),
        max_length=32,
        editable=False,
        help_text=_("Events with the same key are about the same message."),
    )
    direction = one_of(
        Direction,
        _("direction"),
        _("Inbound: a reply from a customer. Outbound: a message you sent."),
    )
    cellcast_id = ExactCharField(
        _("Cellcast id"),
        max_length=MAX_ID_LENGTH,
        help_text=_("Cellcast’s id; replies may share one, and recovered ones have none."),
    )
    sender = optional_number(_("sender"), _("The sender, as Cellcast or your code wrote it."))
    receiver = optional_number(_("receiver"), _("The receiver, as Cellcast or your code wrote it."))
    own_number = optional_number(
        _("own number"), _("Your number or name, written to or sent from.")
    )
    contact = optional_number(_("contact"), _("The customer’s number, such as +61400000000."))
    body = optional_text(_("text"), _("The text of the message."))
    original_body = optional_text(
        _("original text"), _("For a reply: the text it answers, if Cellcast included it.")
    )
    media: "models.JSONField[Sequence[str], list[str]]" = models.JSONField(
        _("media"),
        default=list,
        blank=True,
        help_text=_("The URLs of an MMS’s pictures and other media."),
    )
    reference = optional_word(
        _("reference"),
        _("Your own text about a message you sent."),
        MAX_REFERENCE_LENGTH,
    )
    status = optional_word(
        _("status"),
        _("The highest status in the history; empty until the first report."),
        MAX_STATUS_LENGTH,
    )
    submitted_at = optional_time(
        _("submitted at"),
        _("When Cellcast accepted a message you sent, by its id."),
    )
    created_at = DateTimeField(
        _("created at"),
        default=timezone.now,
        help_text=_("When it came or was first known; if a recovered reply, by Cellcast’s list."),
    )
    status_changed_at = optional_time(_("status changed at"), _("When the status last changed."))
    handled_at = optional_time(_("done at"), _("Since when a reply needs nobody’s attention."))
    handled_by = optional_username(_("done by"), _("Who dealt with a reply; empty if code did."))
    handled_note = UnicodeTextField(
        _("note"),
        blank=True,
        default="",
        db_default="",  # older code inserts rows without it
        help_text=_("What was noted for colleagues when it was done; counts only while it is."),
    )
    sent_by = optional_username(_("sent by"), _("Who sent a message of yours; empty if code did."))
    opted_out_at = optional_time(
        _("opted out at"),
        _("If the contact had opted out when you sent it: since when."),
    )
    recorded_at = optional_time(
        _("recorded at"),
        _("When your code recorded a message you sent; empty if only reports speak of it."),
    )

    # A manager, to be exact; without a plugin, type checkers would know none of its own methods.
    objects: ClassVar[MessageQuerySet] = MessageQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        default_permissions = ("view",)
        indexes = [
            # By both, replies without an id are found: each new reply asks for its contact's.
            models.Index(fields=["cellcast_id", "contact"], name="cellcast_message_cellcast_id"),
            models.Index(fields=["contact", "created_at"], name="cellcast_message_contact"),
            models.Index(
                fields=["direction", "status", "created_at"], name="cellcast_message_status"
            ),
            models.Index(fields=["created_at"], name="cellcast_message_created"),
            # Which of your numbers are in use, and the messages of one of them.
            models.Index(fields=["own_number", "created_at"], name="cellcast_message_own_number"),
            # Which of them you have sent from, whatever webhooks claim. (The time is for MariaDB,
            # whose index holds all rows: it reads no row to tell them apart.)
            PartialIndex(
                fields=["own_number", "recorded_at"],
                name="cellcast_message_recorded",
                where=models.Q(recorded_at__isnull=False),
            ),
            PartialIndex(
                fields=["reference"],
                name="cellcast_message_reference",
                where=~models.Q(reference=""),
            ),
            PartialIndex(
                fields=["direction", "handled_at", "created_at"],
                name="cellcast_message_unhandled",
                where=models.Q(direction=Direction.INBOUND, handled_at__isnull=True),
            ),
        ]
        # Not unique=True, for which Django would add an index for LIKE on PostgreSQL.
        constraints = [models.UniqueConstraint(fields=["key"], name="cellcast_message_key")]
        permissions = [
            ("answer_message", _("Can answer in conversations")),
            ("write_message", _("Can begin conversations")),
            ("handle_message", _("Can mark replies as done, and as new again")),
            ("export_message", _("Can export messages")),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.cellcast_id}"

    @property
    def is_final(self) -> bool:
        """Whether no further status is expected."""
        return self.status in FINAL

    @property
    def is_undelivered(self) -> bool:
        """Whether you sent it, and it has a final status other than delivered."""
        return self.direction == Direction.OUTBOUND and self.status in UNDELIVERED

    @property
    def delivery_time(self) -> timedelta | None:
        """From ``submitted_at`` to the record of ``delivered``; ``None`` if either is missing."""
        if self.submitted_at is None:
            return None
        # From the message's own database: a replica may not have the row yet.
        for change in self.status_history.db_manager(self._state.db).all():
            if change.status == Status.DELIVERED:
                return max(change.recorded_at - self.submitted_at, timedelta())
        return None

    def mark_handled(self, *, username: str = "", note: str = "") -> None:
        """Mark this reply, and no other of its contact, as needing nobody's attention.

        Code that has understood one reply has not read the others. A mark that is already there
        stays, and the instance shows it. ``username`` is the person who says so, ``note`` is for
        colleagues. Raises ``ValueError`` for a message you sent, or a note over 200 characters.
        """
        if self.direction != Direction.INBOUND:
            raise ValueError("Only a reply can be handled, and this is a message you sent.")
        mark = handled_mark(timezone.now(), username, note)
        reply = Message.objects.fresh().filter(pk=self.pk)
        new = reply.filter(IS_UNHANDLED)
        if not again_if_refused(lambda: new.update(**mark), using=new.db):
            mark = reply.values(*mark).first() or mark  # the first one's; or the reply is deleted
        self.take(mark)

    def conversation(self, own_number: str | PhoneNumber | None = None) -> MessageQuerySet:
        """Return all messages with the same contact, this one included, oldest first.

        With one of your numbers, in any spelling, only those with it, or with a name.
        """
        messages = Message.objects.using(self._state.db)
        if not self.contact:
            return messages.filter(pk=self.pk)
        messages = messages.filter(contact=self.contact).order_by("created_at", "pk")
        return messages.filter(may_be_of(to_contact(own_number))) if own_number else messages

    @cached_property
    def in_reply_to(self) -> "Message | None":
        """For a reply, the message that it most probably answers, if there is one.

        The one with the same id, unless both name a contact and these differ. Otherwise, of what
        you had sent to the contact before: the newest whose text the reply quotes
        (``original_body``), else the newest of the last 30 days; not from another of your numbers
        than it came to. Two queries at most.
        """
        if self.direction != Direction.INBOUND:
            return None
        # Excluded, as with old statistics SQLite would rather use an index of directions.
        sent = Message.objects.using(self._state.db).exclude(direction=Direction.INBOUND)
        if self.cellcast_id:
            same_id = sent.filter(cellcast_id=self.cellcast_id).order_by("-pk").first()
            if same_id and (not same_id.contact or self.contact in ("", same_id.contact)):
                return same_id
        return self._newest_before(sent) if self.contact else None

    def _newest_before(self, sent: MessageQuerySet) -> "Message | None":
        """Return the newest sent to the contact before this reply; of those it quotes, if any."""
        at = self.created_at
        is_before = models.Q(sent_at__lt=at) | models.Q(sent_at=at, pk__lt=self.pk)
        is_recent = models.Q(sent_at__gte=at - ANSWERED_WITHIN)
        never = models.Q(pk__in=[])  # an empty text quotes nothing
        is_quoted = models.Q(body=self.original_body) if self.original_body else never
        if self.own_number.startswith("+"):
            sent = sent.filter(may_be_of(self.own_number))
        candidates = sent.filter(contact=self.contact).annotate(
            sent_at=Coalesce("submitted_at", "created_at"),
            is_quoted=models.Case(models.When(is_quoted, then=1), default=0),
        )
        candidates = candidates.filter(is_before, is_recent | is_quoted)
        return candidates.order_by("-is_quoted", "-sent_at", "-pk").first()

    def snapshot(self, history: Iterable[str] = ()) -> Snapshot:
        """Return what is known of the message; ``history`` are the statuses reported so far."""
        columns = (field.attname for field in self._meta.concrete_fields)
        return Snapshot(
            values={name: getattr(self, name) for name in columns if name not in self.NOT_REPORTED},
            status=self.status,
            status_changed_at=self.status_changed_at,
            history=frozenset(history),
            recorded_at=self.recorded_at,
        )

    def take(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Take these columns over, without saving them; return those that have changed."""
        changes = {name: value for name, value in columns.items() if value != getattr(self, name)}
        for name, value in changes.items():
            setattr(self, name, value)
        return changes

    def opted_out_when_sent(self, *, is_new: bool) -> dict[str, Any]:
        """Take over since when the contact had opted out when it was sent, unless that is known."""
        if self.opted_out_at is not None:
            return {}
        active = OptOut.objects.using(self._state.db).active().filter(contact=self.contact)
        if not is_new:  # what has begun since then says nothing
            active = active.filter(since__lte=self.created_at)
        return self.take({"opted_out_at": active.values_list("since", flat=True).first()})


class StatusChangeQuerySet(FreshQuerySet["StatusChange"]):
    """Rows of a history: type checkers know no manager of a generic QuerySet."""


class StatusChange(models.Model):
    """A reported status: one row of a message's history, whether or not it arrived late."""

    if TYPE_CHECKING:
        id: int
        message_id: int
        event_id: int | None

    message: "models.ForeignKey[Message, Message]" = models.ForeignKey(
        Message,
        verbose_name=_("message"),
        on_delete=models.CASCADE,
        related_name="status_history",
        db_index=False,  # the unique constraint begins with it
        help_text=_("The message whose history this is."),
    )
    status = ExactCharField(
        _("status"), max_length=MAX_STATUS_LENGTH, help_text=_("The reported status.")
    )
    previous_status = optional_word(
        _("previous status"), _("The message’s status before this report."), MAX_STATUS_LENGTH
    )
    applied = BooleanField(
        _("applied"),
        help_text=_("Whether it changed the message’s status; no if a higher one had come before."),
    )
    reason = optional_text(
        _("reason"), _("Cellcast’s explanation, from the first report of this status.")
    )
    recorded_at = DateTimeField(
        _("recorded at"),
        default=timezone.now,
        help_text=_("When the report came; of a recovered delivery, by Cellcast’s list."),
    )
    event = reported_by("status_change", _("The event that reported it; empty once it is pruned."))

    objects: ClassVar[StatusChangeQuerySet] = StatusChangeQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("status change")
        verbose_name_plural = _("status history")
        default_permissions = ("view",)
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["message", "status"], name="cellcast_change_status")
        ]

    def __str__(self) -> str:
        if not self.applied:
            return f"{self.status} (late)"
        return f"{self.previous_status or '–'} → {self.status}"
