"""One row of the history of a message's statuses."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import ExactCharField, UnicodeTextField
from cellcast_django.models.message import Message
from cellcast_django.payloads import (
    MAX_STATUS_LENGTH,
)


class StatusChange(models.Model):
    """One row of a message's history: that a status was heard of, whether it came late or not."""

    message = models.ForeignKey(
        Message,
        verbose_name=_("message"),
        on_delete=models.CASCADE,
        related_name="status_history",
        db_index=False,  # the unique constraint begins with it
        help_text=_("The message whose history this is."),
    )
    status = ExactCharField(
        _("status"), max_length=MAX_STATUS_LENGTH, help_text=_("The status that was heard of.")
    )
    previous_status = ExactCharField(
        _("previous status"),
        max_length=MAX_STATUS_LENGTH,
        blank=True,
        help_text=_("The message's status before."),
    )
    applied = models.BooleanField(
        _("applied"),
        help_text=_("Whether it moved the message's status; not when a higher one had come first."),
    )
    reason = UnicodeTextField(
        _("reason"),
        blank=True,
        help_text=_("Why, in Cellcast’s words: of the first report of this status."),
    )
    recorded_at = models.DateTimeField(
        _("recorded at"), default=timezone.now, help_text=_("When it was heard of here.")
    )
    event = models.OneToOneField(
        "WebhookEvent",
        verbose_name=_("event"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="status_change",
        help_text=_("The event that told of it; empty once that has been pruned."),
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
