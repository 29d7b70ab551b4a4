"""One thing that Cellcast reported, as it came, and the state of its announcement."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import ExactCharField, UnicodeTextField
from cellcast_django.database.indexes import PartialIndex
from cellcast_django.models.message import Message
from cellcast_django.payloads import (
    MAX_ID_LENGTH,
    MAX_NUMBER_LENGTH,
    Endpoint,
)

MAX_CONTENT_TYPE_LENGTH = 255
MAX_USERNAME_LENGTH = 255


class WebhookEventQuerySet(models.QuerySet["WebhookEvent", "WebhookEvent"]):
    """Events by the state of their announcement."""

    def pending(self) -> Self:
        """Events with a handler that has not finished, and a next attempt planned or running."""
        return self.filter(announced_at__isnull=True, announce_due_at__isnull=False)

    def announced(self) -> Self:
        """Events that every handler has finished with."""
        return self.filter(announced_at__isnull=False)

    def failed(self) -> Self:
        """Events that were given up after the last attempt and wait for a person."""
        return self._unannounced().filter(outcome=WebhookEvent.Outcome.STORED)

    def due(self, now: datetime) -> Self:
        """Events whose next attempt should begin, or whose last one was cut off."""
        return self.filter(announced_at__isnull=True, announce_due_at__lte=now)

    def invalid(self) -> Self:
        """Events that could not be understood."""
        return self._unannounced().filter(outcome=WebhookEvent.Outcome.INVALID)

    def duplicates(self) -> Self:
        """Events that said what had been said before."""
        return self._unannounced().filter(outcome=WebhookEvent.Outcome.DUPLICATE)

    def _unannounced(self) -> Self:
        """Neither announced nor waiting for it: the index on the state begins with these two."""
        return self.filter(announced_at__isnull=True, announce_due_at__isnull=True)


class WebhookEvent(models.Model):
    """One thing that Cellcast said, as it came, and what became of it."""

    class Kind(models.TextChoices):
        """What an event speaks of."""

        REPLY = "reply", _("reply")
        STATUS = "status", _("status")
        OPT_OUT = "opt_out", _("opt-out")
        UNKNOWN = "unknown", _("unknown")

    class Outcome(models.TextChoices):
        """What became of an event in the inbox."""

        STORED = "stored", _("stored")
        DUPLICATE = "duplicate", _("duplicate")
        INVALID = "invalid", _("invalid")

    class State(models.TextChoices):
        """How far the announcement of an event is; each has a QuerySet method of its name."""

        PENDING = "pending", _("pending")
        ANNOUNCED = "announced", _("announced")
        FAILED = "failed", _("failed")

    endpoint = models.CharField(
        _("URL"), max_length=8, choices=Endpoint, help_text=_("Which of the URLs it came to.")
    )
    kind = models.CharField(
        _("kind"), max_length=8, choices=Kind, help_text=_("What the event speaks of.")
    )
    outcome = models.CharField(
        _("outcome"),
        max_length=9,
        choices=Outcome,
        help_text=_(
            "Stored: it said something new. Duplicate: it had been said before. "
            "Invalid: it could not be understood, and can be processed again after an upgrade."
        ),
    )
    error = UnicodeTextField(
        _("error"), blank=True, help_text=_("Why the event could not be understood.")
    )
    body = UnicodeTextField(
        _("body"), help_text=_("The text as it came; what is no text stands as \\xNN.")
    )
    content_type = ExactCharField(
        _("content type"),
        max_length=MAX_CONTENT_TYPE_LENGTH,
        blank=True,
        help_text=_("As it came."),
    )
    cellcast_id = ExactCharField(
        _("Cellcast id"),
        max_length=MAX_ID_LENGTH,
        blank=True,
        help_text=_("The id that the event carries."),
    )
    contact = ExactCharField(
        _("contact"),
        max_length=MAX_NUMBER_LENGTH,
        blank=True,
        help_text=_("The customer's number, in international spelling where it is one."),
    )
    message = models.ForeignKey(
        Message,
        verbose_name=_("message"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="events",
        help_text=_("The message that the event speaks of."),
    )
    username = ExactCharField(
        _("username"),
        max_length=MAX_USERNAME_LENGTH,
        blank=True,
        help_text=_("Which of the configured credentials was used."),
    )
    is_test = models.BooleanField(
        _("test"),
        default=False,
        help_text=_("Whether it came from our own Test Send, and not from Cellcast."),
    )
    received_at = models.DateTimeField(
        _("received at"), default=timezone.now, help_text=_("When the webhook came in.")
    )
    announced_at = models.DateTimeField(
        _("announced at"),
        null=True,
        blank=True,
        help_text=_("When the last handler finished with it."),
    )
    announce_due_at = models.DateTimeField(
        _("next announcement due at"),
        null=True,
        blank=True,
        help_text=_("When it is announced again unless it is finished; empty: nothing to do."),
    )
    announce_attempts = models.PositiveSmallIntegerField(
        _("announcement attempts"), default=0, help_text=_("How many attempts have begun.")
    )
    announcements = models.JSONField(
        _("announcements"),
        default=dict,
        blank=True,
        help_text=_("For each handler when it was last called, and its error if it raised one."),
    )

    objects = WebhookEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        permissions = [
            ("announce_webhookevent", _("Can announce webhook events again")),
            ("reprocess_webhookevent", _("Can process invalid webhook events again")),
            ("set_up_webhookevent", _("Can see how webhooks are set up, and send some to try it")),
            ("export_webhookevent", _("Can export webhook events")),
        ]
        indexes = [
            PartialIndex(
                fields=["announced_at", "announce_due_at", "outcome", "id"],
                name="cellcast_event_state",
                where=models.Q(announced_at__isnull=True),
            ),
            models.Index(fields=["kind", "received_at"], name="cellcast_event_kind"),
            models.Index(fields=["received_at"], name="cellcast_event_received"),
            models.Index(fields=["contact"], name="cellcast_event_contact"),
            PartialIndex(
                fields=["received_at"], name="cellcast_event_test", where=models.Q(is_test=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.cellcast_id}".strip()  # no number: it may be logged

    @property
    def state(self) -> State | None:
        """How far its announcement is; ``None`` for an event that told nothing new."""
        if self.announced_at is not None:
            return self.State.ANNOUNCED
        if self.announce_due_at is not None:
            return self.State.PENDING
        return self.State.FAILED if self.outcome == self.Outcome.STORED else None

    @property
    def is_unannounced(self) -> bool:
        """Whether it told something new that a handler has not finished with, failed or not."""
        return self.outcome == self.Outcome.STORED and self.announced_at is None

    def is_due(self, now: datetime) -> bool:
        """Whether an attempt may begin; a first one at once, should the clocks of hosts differ."""
        if self.announce_due_at is None:
            return False
        return self.announce_attempts == 0 or self.announce_due_at <= now

    def has_finished(self, handler_name: str) -> bool:
        """Whether the handler of this name has been called and has not raised."""
        outcome = self.announcements.get(handler_name)
        return outcome is not None and not outcome["error"]

    def has_given_up(self, handler_name: str) -> bool:
        """Whether the handler of this name has asked not to be called again."""
        return bool(self.announcements.get(handler_name, {}).get("gave_up"))

    def is_done_with(self, handler_name: str) -> bool:
        """Whether the handler of this name is not to be called again, unless a person asks."""
        return self.has_finished(handler_name) or self.has_given_up(handler_name)

    def handler_errors(self) -> dict[str, str]:
        """Return the error of each handler that raised when it was last called."""
        return errors_of(self.announcements)


def errors_of(announcements: dict[str, Any]) -> dict[str, str]:
    """Return the errors that the column of this name holds, by the handlers' names."""
    return {name: outcome["error"] for name, outcome in announcements.items() if outcome["error"]}


def error_type(error: str) -> str:
    """Return the exception's type of an outcome's error, without its text."""
    return error.partition(":")[0]
