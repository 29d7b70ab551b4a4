"""The history of a message's statuses: one row for each status reported."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import ExactCharField, UnicodeTextField
from cellcast_django.models.message import Message
from cellcast_django.payloads import MAX_STATUS_LENGTH


class StatusChange(models.Model):
    """A reported status: one row of a message's history, whether or not it arrived late."""

    message = models.ForeignKey(
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
    previous_status = ExactCharField(
        _("previous status"),
        max_length=MAX_STATUS_LENGTH,
        blank=True,
        help_text=_("The message’s status before this report."),
    )
    applied = models.BooleanField(
        _("applied"),
        help_text=_(
            "Whether this changed the message’s status; no if a higher one had already arrived."
        ),
    )
    reason = UnicodeTextField(
        _("reason"),
        blank=True,
        help_text=_("Cellcast’s explanation, from the first report of this status."),
    )
    recorded_at = models.DateTimeField(
        _("recorded at"), default=timezone.now, help_text=_("When this site recorded it.")
    )
    event = models.OneToOneField(
        "WebhookEvent",
        verbose_name=_("event"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="status_change",
        help_text=_("The event that reported it; empty once that event has been pruned."),
    )

    class Meta:
        verbose_name = _("status change")
        verbose_name_plural = _("status history")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["message", "status"], name="cellcast_one_row_a_status")
        ]

    def __str__(self) -> str:
        if not self.applied:
            return f"{self.status} (late)"
        return f"{self.previous_status or '–'} → {self.status}"
