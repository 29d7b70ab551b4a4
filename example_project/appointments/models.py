"""Appointments and their reminders."""

import re
import unicodedata
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.contacts import to_contact
from cellcast_django.models import Message


def is_phone_number(number: str) -> None:
    """Validate a number in any spelling."""
    if not re.fullmatch(r"\+[1-9]\d{6,14}", to_contact(number)):
        raise ValidationError(_("This is not a phone number."))


def folded(text: str) -> str:
    """Return a text without case and accents, as names are searched: "chloe" for Chloé."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in letters if not unicodedata.combining(each))


class Answer(models.TextChoices):
    """What a customer's reply means for the appointment."""

    YES = "yes", _("yes")
    NO = "no", _("no")
    UNCLEAR = "unclear", _("unclear")


class Appointment(models.Model):
    """A customer's appointment, and its SMS reminder."""

    class State(models.TextChoices):
        """Whether the customer is coming."""

        PLANNED = "planned", _("planned")
        CONFIRMED = "confirmed", _("confirmed")
        CANCELLED = "cancelled", _("cancelled")

    class Reminder(models.TextChoices):
        """How far the reminder has got."""

        NOT_SENT = "not_sent", _("not sent")
        SENT = "sent", _("sent")
        DELIVERED = "delivered", _("delivered")
        FAILED = "failed", _("failed")

    customer_name = models.CharField(_("customer"), max_length=100)
    folded_name = models.CharField(max_length=400, editable=False)
    phone_number = models.CharField(
        _("phone number"), max_length=30, db_index=True, validators=[is_phone_number]
    )
    starts_at = models.DateTimeField(_("starts at"))
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.PLANNED)
    needs_attention = models.BooleanField(
        _("needs attention"),
        default=False,
        help_text=_("The customer's answer was neither a clear yes nor a clear no: please call."),
    )
    reminder = models.CharField(
        _("reminder"), max_length=9, choices=Reminder, default=Reminder.NOT_SENT
    )

    class Meta:
        verbose_name = _("appointment")
        verbose_name_plural = _("appointments")

    def __str__(self) -> str:
        return f"{timezone.localtime(self.starts_at):%d %b %H:%M}, {self.customer_name}"

    def save(self, **options: Any) -> None:
        """Keep the name as it is searched, and the number as webhooks spell it."""
        self.folded_name = folded(self.customer_name)
        self.phone_number = to_contact(self.phone_number)
        if options.get("update_fields") is not None:
            options["update_fields"] = {*options["update_fields"], "folded_name"}
        super().save(**options)

    @property
    def reference(self) -> str:
        """What Cellcast's reports and the customer's replies lead back to this row by."""
        return f"appointment-{self.pk}"

    def get_admin_url(self) -> str:
        return reverse("admin:appointments_appointment_change", args=[self.pk])

    @classmethod
    def about(cls, message: Message | None) -> models.QuerySet[Self]:
        """Return the appointment that this message was sent about: one row, or none."""
        name, _, pk = message.reference.partition("-") if message else ("", "", "")
        is_reference = name == "appointment" and pk.isdecimal()
        return cls.objects.filter(pk=pk) if is_reference else cls.objects.none()

    def take_answer(self, answer: Answer) -> None:
        """Confirm, cancel or ask for attention. Idempotent, and a single UPDATE."""
        states = {Answer.YES: self.State.CONFIRMED, Answer.NO: self.State.CANCELLED}
        changes: dict[str, object] = {"needs_attention": answer not in states}
        if answer in states:
            changes["state"] = states[answer]
        Appointment.objects.filter(pk=self.pk).update(**changes)
