"""Opt-outs: the contacts who must not be texted."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from phonenumbers import PhoneNumber

from cellcast_django.database.fields import ExactCharField, PartialIndex, UnicodeTextField
from cellcast_django.database.inserts import insert_or_lock
from cellcast_django.models.message import contact_of
from cellcast_django.models.webhook_event import WebhookEvent
from cellcast_django.payloads import MAX_NUMBER_LENGTH


class OptOutQuerySet(models.QuerySet["OptOut", "OptOut"]):
    """Opt-outs by state and by contact."""

    def active(self) -> Self:
        """Opt-outs that have not been ended."""
        return self.filter(ended_at__isnull=True)

    def with_contact(self, number: str | PhoneNumber) -> Self:
        """The opt-out of one contact, in any spelling of the number."""
        contact = contact_of(number)
        return self.filter(contact=contact) if contact else self.none()

    def lock(self, contacts: Iterable[str]) -> dict[str, "OptOut"]:
        """Lock the opt-outs of these contacts, and return them by contact.

        A contact without one gets a row that has not begun: ``begin`` and save it before the
        transaction ends. Lock the messages' rows first, if there are any. Writes before it reads,
        in the order of the contacts, for the reasons given in ``MessageQuerySet.lock``.
        """
        ordered = sorted(set(contacts))
        opt_outs = [OptOut(contact=contact) for contact in ordered]
        insert_or_lock(self.db, opt_outs, unique="contact")
        # Under REPEATABLE READ a plain SELECT would not see what the upsert has just waited for.
        locked = self.filter(contact__in=ordered).select_for_update()
        return {opt_out.contact: opt_out for opt_out in locked}


class OptOut(models.Model):
    """A contact who must not be texted, until somebody ends it."""

    class Source(models.TextChoices):
        """How an opt-out was made."""

        WEBHOOK = "webhook", _("opt-out webhook")
        REPLY = "reply", _("reply with a stop word")
        LIST = "list", _("Cellcast’s opt-out list")
        PERSON = "person", _("member of staff")

    contact = ExactCharField(
        _("contact"),
        max_length=MAX_NUMBER_LENGTH,
        help_text=_("The customer’s number, in international format if it is a phone number."),
    )
    since = models.DateTimeField(
        _("since"), default=timezone.now, help_text=_("When the contact opted out.")
    )
    source = models.CharField(
        _("source"), max_length=7, choices=Source, help_text=_("How the contact opted out.")
    )
    event = models.OneToOneField(
        WebhookEvent,
        verbose_name=_("event"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="opt_out",
        help_text=_("The event that reported it; empty if a person made it or it has been pruned."),
    )
    note = UnicodeTextField(
        _("note"), blank=True, help_text=_("Why, in the words of a member of staff.")
    )
    ended_at = models.DateTimeField(
        _("ended at"),
        null=True,
        blank=True,
        help_text=_("When it was ended; empty while it is active."),
    )

    objects = OptOutQuerySet.as_manager()

    class Meta:
        verbose_name = _("opt-out")
        verbose_name_plural = _("opt-outs")
        default_permissions = ("add", "view")
        permissions = [
            ("end_optout", _("Can end opt-outs")),
            ("export_optout", _("Can export opt-outs")),
        ]
        constraints = [models.UniqueConstraint(fields=["contact"], name="cellcast_optout_contact")]
        indexes = [
            models.Index(fields=["since"], name="cellcast_optout_since"),
            # Ended ones only: SQLite would use an index of the active ones to look up contacts.
            PartialIndex(
                fields=["since"],
                name="cellcast_optout_ended",
                where=models.Q(ended_at__isnull=False),
            ),
            models.Index(fields=["source", "since"], name="cellcast_optout_source"),
        ]

    def __str__(self) -> str:
        return f"opt-out {self.pk}"  # no number: it may be logged

    @property
    def is_active(self) -> bool:
        """Whether the contact must not be texted."""
        return self.has_begun and self.ended_at is None

    @property
    def has_begun(self) -> bool:
        """Whether it has ever begun; ``lock`` makes rows that have not."""
        return bool(self.source)

    def begin(self, source: Source, *, since: datetime, event: WebhookEvent | None = None) -> bool:
        """Make it active, without saving it, and return whether that was a change.

        An active one stays as it is, and so does one that was ended after ``since``: an older event
        does not undo that decision. Cellcast's list, which has no times, never begins one again: it
        may still name somebody who has been opted in here.
        """
        if self.is_active or (self.ended_at is not None and since <= self.ended_at):
            return False
        if source == self.Source.LIST and self.has_begun:
            return False
        self.source = source
        self.since = since
        self.event = event
        self.ended_at = None
        return True
