"""One handler's work on one fact, however often it is tried."""

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q, UniqueConstraint
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import ExactCharField, PartialIndex, PositiveIntegerField
from cellcast_django.models.base import (
    FreshQuerySet,
    one_of,
    optional_number,
    optional_text,
    optional_time,
    optional_username,
)
from cellcast_django.models.webhook_event import HELD_BACK_FOR, WebhookEvent
from cellcast_django.statuses import choice

MAX_HANDLER_LENGTH = 255

IS_UNFINISHED = Q(next_attempt_at__isnull=False)
IS_FAILING = Q(failing_since__isnull=False)


class HandlerCallQuerySet(FreshQuerySet["HandlerCall"]):
    """Calls by how far they are, found by an index of the time that only they have."""

    def unfinished(self) -> Self:
        """Calls that wait, run, or are made again."""
        return self.filter(IS_UNFINISHED)

    def due(self, now: datetime | None = None) -> Self:
        """Calls to be made: those whose time has come, or that nobody has had yet."""
        has_come = Q(next_attempt_at__lte=now or timezone.now()) | Q(version=0)
        return self.waiting_for_none().filter(has_come)

    def waiting_for_none(self) -> Self:
        """Unfinished calls; of those ``in_order`` the first of each handler and contact.

        An earlier event of the contact that has been deferred holds them back for a day.
        """
        # The same rule as in ``handlers.steps``, which asks it in the statement that begins a call.
        contact, event = OuterRef("contact"), OuterRef("event")
        calls = HandlerCall.objects.filter(contact=contact, handler=OuterRef("handler"))
        earlier = calls.unfinished().filter(event__lt=event)
        since = timezone.now() - HELD_BACK_FOR
        deferred = WebhookEvent.objects.filter(contact=contact, next_read_at__isnull=False)
        deferred = deferred.filter(pk__lt=event, received_at__gt=since)
        return self.unfinished().filter(Q(contact="") | (~Exists(earlier) & ~Exists(deferred)))

    def failing(self) -> Self:
        """Calls that have failed, gave up, or will be made again after a failure."""
        return self.filter(IS_FAILING, state__in=[HandlerCall.State.RETRYING, *HandlerCall.FAILED])

    def failed(self) -> Self:
        """Calls whose attempts are used up, or that gave up."""
        return self.filter(IS_FAILING, state__in=HandlerCall.FAILED)

    def done(self) -> Self:
        """Calls that the handler has finished."""
        return self.filter(state=HandlerCall.State.DONE)


class HandlerCall(models.Model):
    """One handler's work on one fact of an event, inserted with the event."""

    class State(models.TextChoices):
        WAITING = choice("waiting", _("waiting"))
        RUNNING = choice("running", _("running"))
        RETRYING = choice("retrying", _("retrying"))
        DONE = choice("done", _("done"))
        FAILED = choice("failed", _("failed"))
        GAVE_UP = choice("gave_up", _("gave up"))
        SKIPPED = choice("skipped", _("skipped"))

    UNFINISHED = (State.WAITING, State.RUNNING, State.RETRYING)
    FAILED = (State.FAILED, State.GAVE_UP)
    ENDED_WELL = (State.DONE, State.SKIPPED)

    if TYPE_CHECKING:
        id: int
        event_id: int

    event: "models.ForeignKey[WebhookEvent, WebhookEvent]" = models.ForeignKey(
        WebhookEvent,
        models.CASCADE,
        verbose_name=_("event"),
        related_name="calls",
        db_index=False,  # the unique key begins with it
        help_text=_("The event that has the fact."),
    )
    signal = ExactCharField(_("signal"), max_length=32, help_text=_("The signal that tells it."))
    handler = ExactCharField(
        _("handler"), max_length=MAX_HANDLER_LENGTH, help_text=_("The handler’s name.")
    )
    contact = optional_number(
        _("contact"), _("The event’s contact, for a handler that is called in order.")
    )
    state = one_of(State, _("state"), _("How far the call is."))
    version = PositiveIntegerField(_("version"), default=0, help_text=_("Rises with each change."))
    attempts = PositiveIntegerField(_("attempts"), default=0, help_text=_("Since last run again."))
    next_attempt_at = optional_time(
        _("next attempt at"), _("When it is made; if it is running, when others may make it.")
    )
    started_at = optional_time(_("started at"), _("When the last attempt began."))
    ended_at = optional_time(_("ended at"), _("When it was done, failed or skipped."))
    error = optional_text(_("error"), _("Type and text of the last failed attempt’s exception."))
    location = optional_text(_("location"), _("Where the exception was raised."))
    seconds: "models.FloatField[float | None, float | None]" = models.FloatField(
        _("seconds"), null=True, blank=True, help_text=_("How long the last attempt took.")
    )
    failing_since = optional_time(_("failing since"), _("Since when its attempts fail."))
    skipped_by = optional_username(_("skipped by"), _("Who skipped it."))

    objects: ClassVar[HandlerCallQuerySet] = HandlerCallQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("handler call")
        verbose_name_plural = _("handler calls")
        default_permissions = ()
        constraints = [
            UniqueConstraint(fields=["event", "signal", "handler"], name="cellcast_call_handler")
        ]
        indexes = [
            PartialIndex(
                fields=["next_attempt_at", "id"], name="cellcast_call_due", where=IS_UNFINISHED
            ),
            # The time is for MariaDB, which has no partial indexes: it reads no row there.
            PartialIndex(
                fields=["contact", "handler", "event", "next_attempt_at"],
                name="cellcast_call_order",
                where=IS_UNFINISHED,
            ),
            PartialIndex(
                fields=["failing_since", "handler", "state"],
                name="cellcast_call_failing",
                where=IS_FAILING,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.handler} · {self.event_id}"  # no number: it may be logged

    @property
    def is_unfinished(self) -> bool:
        """Whether it waits, runs, or is made again."""
        return self.next_attempt_at is not None

    def is_due(self, now: datetime) -> bool:
        """Whether its time has come. Before anybody has had it, it is due whatever a clock says."""
        due_at, is_untouched = self.next_attempt_at, self.version == 0
        return due_at is not None and (is_untouched or due_at <= now)

    def was_made_since(self, moment: datetime) -> bool:
        """Whether it ended, or else last began, after this moment; not by a clock ahead of ours."""
        at = self.ended_at or self.started_at
        return at is not None and moment < at <= timezone.now()
