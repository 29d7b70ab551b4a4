"""The ledger of opt-outs: contacts who must not be texted."""

from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.conf import conf
from cellcast_django.contacts import normalise
from cellcast_django.database.fields import ExactCharField
from cellcast_django.models.webhook_event import WebhookEvent
from cellcast_django.payloads import MAX_NUMBER_LENGTH, clean


class OptOutQuerySet(models.QuerySet["OptOut", "OptOut"]):
    """Opt-outs by whether they stand, and by contact."""

    def active(self) -> Self:
        """Opt-outs that nobody has ended."""
        return self.filter(ended_at__isnull=True)

    def with_contact(self, number: str) -> Self:
        """The opt-out of one contact, whatever the spelling of the number."""
        contact = normalise(clean(number), conf.default_region)
        return self.filter(contact=contact) if contact else self.none()


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
        unique=True,
        help_text=_("The customer’s number, in international spelling where it is one."),
    )
    since = models.DateTimeField(
        _("since"), default=timezone.now, help_text=_("When the contact opted out.")
    )
    source = models.CharField(
        _("source"), max_length=7, choices=Source, help_text=_("How the opt-out was made.")
    )
    event = models.ForeignKey(
        WebhookEvent,
        verbose_name=_("event"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="opt_outs",
        help_text=_("The event that reported it; empty for one made by a person, or once pruned."),
    )
    note = models.TextField(_("note"), blank=True, help_text=_("Why, in the words of a person."))
    ended_at = models.DateTimeField(
        _("ended at"),
        null=True,
        blank=True,
        help_text=_("When somebody ended it; empty while it stands."),
    )

    objects = OptOutQuerySet.as_manager()

    class Meta:
        verbose_name = _("opt-out")
        verbose_name_plural = _("opt-outs")
        default_permissions = ("add", "view")
        permissions = [("end_optout", _("Can end opt-outs"))]
        indexes = [models.Index(fields=["since"], name="cellcast_optout_since")]

    def __str__(self) -> str:
        return f"opt-out {self.pk}"  # no number: it may be logged
