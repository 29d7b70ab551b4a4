"""Opt-outs: the contacts who must not be texted, and each time that one began or ended."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self

from django.db import connections, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from phonenumbers import PhoneNumber

from cellcast_django.contacts import to_contact
from cellcast_django.database.fields import CharField, DateTimeField, ExactCharField
from cellcast_django.database.rows import insert_or_lock
from cellcast_django.models.base import (
    FreshQuerySet,
    one_of,
    optional_text,
    optional_time,
    optional_username,
)
from cellcast_django.models.webhook_event import reported_by
from cellcast_django.payloads import MAX_NUMBER_LENGTH
from cellcast_django.statuses import choice

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

FOLLOWING_FIELDS = ("since", "source", "event", "note", "ended_at")
"""The fields of an opt-out that follow from its history."""
MAX_OPT_OUT_TEXT_LENGTH = 1_000
"""Characters of what was received that the history keeps."""


class OptOutQuerySet(FreshQuerySet["OptOut"]):
    """Opt-outs by state and by contact."""

    def active(self) -> Self:
        """Opt-outs that stand: begun, and not ended."""
        return self.filter(~models.Q(source=""), ended_at__isnull=True)

    def with_contact(self, number: str | PhoneNumber) -> Self:
        """The opt-out of one contact, in any spelling of the number."""
        contact = to_contact(number)
        return self.filter(contact=contact) if contact else self.none()

    def insert_and_lock(
        self, contacts: Iterable[str], *, briefly: bool = False
    ) -> dict[str, "OptOut"]:
        """Lock the opt-outs of these contacts, after any messages, and return them by contact.

        ``briefly`` waits for others as the inbox does.
        """
        opt_outs = {}
        with connections[self.db].cursor() as cursor:
            for contact in sorted(set(contacts)):
                new = {"contact": contact, "since": timezone.now()}
                opt_outs[contact], _ = insert_or_lock(
                    cursor, OptOut, new, unique="contact", briefly=briefly
                )
        return opt_outs

    def save_changes(self, changes: Sequence["OptOutChange"]) -> None:
        """Write what ``begin`` or ``end`` returned, and the locked opt-outs that follow from it."""
        for change in changes:
            change.save(using=self.db, force_insert=True)
            change.opt_out.save(using=self.db, update_fields=FOLLOWING_FIELDS)


class OptOut(models.Model):
    """A contact who must not be texted, until somebody ends it: how it stands now.

    Everything but the contact follows from the newest rows of ``history``; ``note`` also has what
    people add while it stands.
    """

    if TYPE_CHECKING:
        id: int
        event_id: int | None
        history: RelatedManager["OptOutChange"]

    class Source(models.TextChoices):
        """How an opt-out was made."""

        WEBHOOK = choice("webhook", _("opt-out webhook"))
        REPLY = choice("reply", _("reply with a stop word"))
        LIST = choice("list", _("Cellcast’s opt-out list or refusal"))
        PERSON = choice("person", _("member of staff"))

    contact = ExactCharField(
        _("contact"),
        max_length=MAX_NUMBER_LENGTH,
        help_text=_("The customer’s number, such as +61400000000."),
    )
    since = DateTimeField(
        _("since"), default=timezone.now, help_text=_("When the contact opted out.")
    )
    source: CharField = one_of(Source, _("source"), _("How the contact opted out."))
    event = reported_by("+", _("The event that reported it, if one did and is not pruned."))
    note = optional_text(_("note"), _("Why it stands or was ended, as a member of staff wrote."))
    ended_at = optional_time(_("ended at"), _("When it was ended; empty while it is active."))

    objects: ClassVar[OptOutQuerySet] = OptOutQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("opt-out")
        verbose_name_plural = _("opt-outs")
        default_permissions = ("add", "view")
        permissions = [
            ("end_optout", _("Can end opt-outs")),
            ("export_optout", _("Can export opt-outs")),
        ]
        # No other index: opt-outs are few, next to messages.
        constraints = [models.UniqueConstraint(fields=["contact"], name="cellcast_optout_contact")]

    def __str__(self) -> str:
        return f"opt-out {self.pk}"  # no number: it may be logged

    @property
    def is_active(self) -> bool:
        """Whether the contact must not be texted: begun, and not ended."""
        return bool(self.source) and self.ended_at is None

    def begin(
        self, source: Source, *, at: datetime, has_just_arrived: bool, note: str = "", **proof: str
    ) -> "OptOutChange | None":
        """Begin it, without saving it; return the change to save, ``None`` if it does not begin.

        The texts are clean. The caller sets its event, if one reports it, on both. What has just
        arrived counts, whatever the clocks say. What comes from elsewhere has a time of its own: if
        that is before the last end, it does not undo that decision. Cellcast's list, which has no
        times, never begins one again: it may still name somebody who has been opted in here.
        """
        if self.is_active:
            return None
        ended_at = self.ended_at
        if ended_at and not has_just_arrived and (source == self.Source.LIST or at < ended_at):
            return None
        self.source, self.since, self.event = source, at, None
        self.ended_at, self.note = None, note
        return self._change(OptOutChange.Kind.BEGUN, source, at, note=note, **proof)

    def add_reason(self, *, at: datetime, note: str, **proof: str) -> "OptOutChange":
        """Add why it stands, too, according to a person; return the change to save."""
        has_note = f"\n{note}\n" in f"\n{self.note}\n"  # as lines of its own
        if note and not has_note:
            self.note = f"{self.note}\n{note}" if self.note else note
        return self._change(OptOutChange.Kind.BEGUN, self.Source.PERSON, at, note=note, **proof)

    def end(self, *, at: datetime, note: str = "", username: str = "") -> "OptOutChange":
        """End it while it stands, without saving it; return the change to save."""
        self.ended_at, self.note = at, note
        proof = {"note": note, "username": username}
        return self._change(OptOutChange.Kind.ENDED, self.Source.PERSON, at, **proof)

    def _change(
        self, kind: str, source: Source, at: datetime, *, text: str = "", **proof: str
    ) -> "OptOutChange":
        text = text[:MAX_OPT_OUT_TEXT_LENGTH]
        return OptOutChange(opt_out=self, kind=kind, source=source, at=at, text=text, **proof)


class OptOutChangeQuerySet(FreshQuerySet["OptOutChange"]):
    """Rows of a history: type checkers know no manager of a generic QuerySet."""


class OptOutChange(models.Model):
    """An opt-out that began or ended: one row of its history, which nothing changes or prunes.

    A person may give another reason for one that stands, which then has begun twice. In the order
    of the primary key, which is that of the decisions; clocks may be wrong.
    """

    class Kind(models.TextChoices):
        BEGUN = choice("begun", _("opted out"))
        ENDED = choice("ended", _("opted back in"))

    if TYPE_CHECKING:
        id: int
        opt_out_id: int
        event_id: int | None

    opt_out: "models.ForeignKey[OptOut, OptOut]" = models.ForeignKey(
        OptOut,
        verbose_name=_("opt-out"),
        on_delete=models.CASCADE,
        related_name="history",
        help_text=_("The opt-out whose history this is."),
    )
    kind = one_of(Kind, _("kind"), _("Whether it began or ended."))
    at = DateTimeField(
        _("at"), help_text=_("When, according to the clock of this site or to Cellcast.")
    )
    source = one_of(OptOut.Source, _("source"), _("How it began or ended; only a person ends one."))
    event = reported_by(
        "opt_out_change",
        _("The event that reported it, if one did and is not pruned."),
    )
    text = optional_text(_("text"), _("What was received, at most 1,000 characters."))
    note = optional_text(_("note"), _("Why, in the words of a member of staff."))
    username = optional_username(_("username"), _("The member of staff who did it."))
    received_as = optional_username(
        _("received as"), _("The username of the secret that its webhook came with.")
    )

    objects: ClassVar[OptOutChangeQuerySet] = OptOutChangeQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("opt-out change")
        verbose_name_plural = _("opt-out history")
        default_permissions = ()
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.kind} {self.opt_out_id}"  # no number: it may be logged
