"""One thing Cellcast reported: its original text, and how far its handlers have got."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, Self, TypedDict

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Cast
from django.db.models.lookups import Contains, Regex
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import (
    BooleanField,
    CharField,
    DateTimeField,
    ExactCharField,
    NullablePositiveBigIntegerField,
    PartialIndex,
    PositiveIntegerField,
    UnicodeTextField,
)
from cellcast_django.models.base import (
    FreshQuerySet,
    optional_number,
    optional_time,
    optional_username,
)
from cellcast_django.payloads import MAX_ID_LENGTH, Endpoint, read_fields

if TYPE_CHECKING:
    from cellcast_django.models.message import Message

MAX_CONTENT_TYPE_LENGTH = 255


class HandlerResult(TypedDict):
    """How one handler's last call for an event ended."""

    at: str
    """When, in ISO format."""
    error: str
    """The exception's type and text; empty if the handler has finished."""
    location: NotRequired[str]
    """Where in the code it was raised."""
    attempts: NotRequired[int]
    """How many calls there have been."""
    seconds: NotRequired[float]
    """How long the last one took; not there if it has not returned."""
    retry_at: NotRequired[str]
    """When it is called again; not there if its attempts are used up."""
    gave_up: NotRequired[bool]
    skipped: NotRequired[bool]
    by: NotRequired[str]
    """The username of the person who skipped it."""


class WebhookEventQuerySet(FreshQuerySet["WebhookEvent"]):
    """Events by the state of their handlers."""

    def pending(self) -> Self:
        """Events with a handler that has not finished, and a next attempt planned or running."""
        return self.filter(done_at__isnull=True, next_run_at__isnull=False)

    def waiting(self) -> Self:
        """Pending events of which no handler has failed."""
        return self.pending().filter(~_has_failed())

    def retrying(self) -> Self:
        """Pending events of which a handler has failed."""
        return self.pending().filter(_has_failed())

    def done(self) -> Self:
        """Events that every handler has finished with."""
        return self.filter(done_at__isnull=False)

    def failed(self) -> Self:
        """Events whose attempts are used up, or that a handler gave up: a person must look."""
        return self._unfinished().filter(outcome=WebhookEvent.Outcome.STORED)

    def due(self, now: datetime) -> Self:
        """Events whose next attempt should begin, or whose last one was interrupted.

        One that waits for an earlier event is not, if that one's attempt comes first.
        """
        first = _awaited().filter(next_run_at__lte=OuterRef("next_run_at"))
        return self.filter(
            Q(waiting_for__isnull=True) | _is_retried() | ~Exists(first),
            done_at__isnull=True,
            next_run_at__lte=now,
        )

    def only_waiting(self) -> Self:
        """Events that wait for an earlier one, and have no handler that is called before that."""
        return self.filter(~_is_retried(), waiting_for__isnull=False)

    def orphaned(self) -> Self:
        """Pending events that wait for one that is not pending, or is gone."""
        return self.pending().filter(~Exists(_awaited()), waiting_for__isnull=False)

    def invalid(self) -> Self:
        """Events that could not be understood, and that nobody has dismissed."""
        return self.invalid_or_dismissed().filter(dismissed_at__isnull=True)

    def dismissed(self) -> Self:
        """Events that could not be understood, and that a person has set aside."""
        return self.invalid_or_dismissed().filter(dismissed_at__isnull=False)

    def invalid_or_dismissed(self) -> Self:
        """Events that could not be understood, dismissed or not: all can be read again."""
        return self._unfinished().filter(outcome=WebhookEvent.Outcome.INVALID)

    def duplicates(self) -> Self:
        """Events that repeat what was reported before."""
        return self._unfinished().filter(outcome=WebhookEvent.Outcome.DUPLICATE)

    def _unfinished(self) -> Self:
        """Neither done nor due: the index on the state begins with these two columns."""
        return self.filter(done_at__isnull=True, next_run_at__isnull=True)


def _awaited() -> WebhookEventQuerySet:
    """Return the pending event that the event of an outer query waits for."""
    return WebhookEvent.objects.pending().filter(pk=OuterRef("waiting_for"))


def _is_retried() -> Contains:
    """Return the condition that one of an event's handlers has failed and is called again."""
    return Contains(Cast("handler_results", models.TextField()), '"retry_at"')


def _has_failed() -> Regex:
    """Return the condition that one of an event's handlers has raised when it last ran.

    A quote in an error's own text follows a backslash, so that no text looks like this.
    """
    return Regex(Cast("handler_results", models.TextField()), '"error": "[^"]')


class WebhookEvent(models.Model):
    """One thing Cellcast reported, and the result of each handler that ran for it."""

    class Kind(models.TextChoices):
        """What an event reports."""

        REPLY = "reply", _("reply")
        STATUS = "status", _("status")
        OPT_OUT = "opt_out", _("opt-out")
        UNKNOWN = "unknown", _("unknown")

    class Outcome(models.TextChoices):
        """How the inbox classified an event."""

        STORED = "stored", _("stored")
        DUPLICATE = "duplicate", _("duplicate")
        INVALID = "invalid", _("invalid")

    class State(models.TextChoices):
        """How far an event's handlers have got; each has a QuerySet method of the same name."""

        PENDING = "pending", _("pending")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    if TYPE_CHECKING:
        id: int
        message_id: int | None

    RUN = (
        "done_at",
        "next_run_at",
        "attempts",
        "handler_results",
        "waiting_for",
        "interventions",
        "calls_are_noted",
    )
    """Columns that only a run may write; ``save()`` leaves them alone."""

    PERSONAL = ("contact", "body", "error")
    """What says who the customer is; redaction empties it, and the texts of handlers' errors."""

    endpoint = CharField(
        _("endpoint"),
        max_length=8,
        choices=Endpoint,
        help_text=_("The URL that received it, or Cellcast’s API."),
    )
    kind = CharField(_("kind"), max_length=8, choices=Kind, help_text=_("What the event reports."))
    outcome = CharField(
        _("outcome"),
        max_length=9,
        choices=Outcome,
        help_text=_(
            "Stored: it reported something new. Duplicate: it had been reported before. "
            "Invalid: it could not be understood; it can be processed again after an upgrade."
        ),
    )
    error = UnicodeTextField(
        _("error"), blank=True, help_text=_("Why the event could not be understood.")
    )
    body = UnicodeTextField(
        _("body"), help_text=_("The body as received; bytes that are not text appear as \\xNN.")
    )
    content_type = ExactCharField(
        _("content type"),
        max_length=MAX_CONTENT_TYPE_LENGTH,
        blank=True,
        help_text=_("The Content-Type header, as received."),
    )
    cellcast_id = ExactCharField(
        _("Cellcast id"),
        max_length=MAX_ID_LENGTH,
        blank=True,
        help_text=_("The message id in the event."),
    )
    contact = optional_number(
        _("contact"), _("The customer’s number, in international format if it is a phone number.")
    )
    message: "models.ForeignKey[Message | None, Message | None]" = models.ForeignKey(
        "Message",
        verbose_name=_("message"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="events",
        help_text=_("The message the event is about."),
    )
    username = optional_username(_("username"), _("The username of the secret that it came with."))
    is_test = BooleanField(
        _("test"),
        default=False,
        help_text=_("Whether it came from this app’s own Test Send rather than from Cellcast."),
    )
    received_at = DateTimeField(
        _("received at"), default=timezone.now, help_text=_("When the webhook arrived.")
    )
    done_at = optional_time(_("done at"), _("When the last handler finished."))
    next_run_at = optional_time(
        _("next run at"),
        _("When unfinished handlers run next; empty if there is nothing left to run."),
    )
    attempts = PositiveIntegerField(
        _("attempts"), default=0, help_text=_("In how many runs a handler was called.")
    )
    handler_results: "models.JSONField[dict[str, HandlerResult], dict[str, HandlerResult]]" = (
        models.JSONField(
            _("handlers"),
            default=dict,
            blank=True,
            help_text=_("For each handler: when it last ran, and its error if it failed."),
        )
    )
    waiting_for = NullablePositiveBigIntegerField(
        _("waiting for event"),
        null=True,
        blank=True,
        help_text=_("The earlier event of the same contact that a handler must finish first."),
    )
    interventions = PositiveIntegerField(
        _("interventions"),
        default=0,
        editable=False,
        help_text=_("How often a person skipped a handler, or a later event began to wait for it."),
    )
    calls_are_noted = BooleanField(
        _("calls are noted"),
        default=False,
        editable=False,
        help_text=_(
            "Whether each call is noted before it is made, so that a handler without a result has "
            "certainly not been called. A first run saves that time."
        ),
    )
    dismissed_at = optional_time(
        _("dismissed at"), _("When a person set an event aside that could not be understood.")
    )

    objects: ClassVar[WebhookEventQuerySet] = WebhookEventQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        default_permissions = ("view",)
        permissions = [
            ("rerun_webhookevent", _("Can run handlers of webhook events again, and skip them")),
            ("reprocess_webhookevent", _("Can read invalid webhook events again")),
            ("dismiss_webhookevent", _("Can dismiss invalid webhook events")),
            ("set_up_webhookevent", _("Can open the setup page and send tests")),
            ("export_webhookevent", _("Can export webhook events")),
        ]
        indexes = [
            PartialIndex(
                fields=["done_at", "next_run_at", "outcome", "id", "dismissed_at"],
                name="cellcast_event_state",
                where=models.Q(done_at__isnull=True),
            ),
            models.Index(fields=["kind", "received_at"], name="cellcast_event_kind"),
            models.Index(fields=["received_at"], name="cellcast_event_received"),
            # The time is for handlers ``in_order``: only what is pending has one.
            models.Index(fields=["contact", "next_run_at"], name="cellcast_event_contact"),
            # Where there are no partial indexes, the first column finds the tests.
            PartialIndex(
                fields=["is_test", "received_at"],
                name="cellcast_event_test",
                where=models.Q(is_test=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.cellcast_id}".strip()  # no number: it may be logged

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **options: Any) -> None:
        """Save the event; of one that is stored, all but the fields in ``RUN``.

        So a handler that saves its event, changed or outdated, is not taken for another process
        that runs it, and overwrites no result.
        """
        pk: int | None = self.pk
        if pk is not None and not self._state.adding:
            if update_fields is None:
                columns = {field.attname for field in self._meta.concrete_fields}
                update_fields = columns - {"id"} - self.get_deferred_fields()
            update_fields = set(update_fields) - set(self.RUN)
        super().save(*args, update_fields=update_fields, **options)

    @property
    def payload(self) -> dict[str, Any]:
        """The body as Cellcast sent it, for keys that have no field; ``{}`` if it is no object."""
        return read_fields(self.body, self.content_type)

    @property
    def state(self) -> State | None:
        """How far its handlers have got; ``None`` for a duplicate or invalid event."""
        if self.done_at is not None:
            return self.State.DONE
        if self.next_run_at is not None:
            return self.State.PENDING
        return self.State.FAILED if self.is_stored else None

    @property
    def is_waiting(self) -> bool:
        """Whether it is pending, and none of its handlers has failed."""
        return self.state == self.State.PENDING and not self.handler_errors()

    @property
    def is_stored(self) -> bool:
        """Whether it reported something new: nothing else has facts."""
        return self.outcome == self.Outcome.STORED

    @property
    def is_unfinished(self) -> bool:
        """Whether it reported something new and a handler has not finished, failed or not."""
        return self.is_stored and self.done_at is None

    def is_due(self, now: datetime) -> bool:
        """Whether an attempt may begin; a first one always, as the clocks of hosts may differ."""
        if self.next_run_at is None:
            return False
        return (self.attempts == 0 and self.waiting_for is None) or self.next_run_at <= now

    def has_finished(self, handler_name: str) -> bool:
        """Whether this handler has run, or was skipped, without an error."""
        result = self.handler_results.get(handler_name)
        return result is not None and not result["error"]

    def handler_errors(self) -> dict[str, str]:
        """Return the error of each handler that failed when it last ran."""
        return errors_of(self.handler_results)


def errors_of(results: dict[str, Any]) -> dict[str, str]:
    """Return the errors in ``WebhookEvent.handler_results``, by handler name."""
    return {name: result["error"] for name, result in results.items() if result["error"]}


def time_of(text: str) -> datetime:
    """Return a time of a result as the models have it."""
    return datetime.fromisoformat(text)


def error_type(error: str) -> str:
    """Return the exception type of a result's error, without its text."""
    return error.partition(":")[0]
