"""One thing Cellcast reported: its original text, and what it was about."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.apps import apps
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import (
    BooleanField,
    DateTimeField,
    PartialIndex,
    UnicodeTextField,
)
from cellcast_django.models.base import (
    FreshQuerySet,
    one_of,
    optional_number,
    optional_text,
    optional_time,
    optional_username,
    optional_word,
)
from cellcast_django.payloads import MAX_ID_LENGTH, Endpoint, read_fields
from cellcast_django.statuses import choice

if TYPE_CHECKING:
    from cellcast_django.models.handler_call import HandlerCallQuerySet
    from cellcast_django.models.message import Message

MAX_CONTENT_TYPE_LENGTH = 255
HELD_BACK_FOR = timedelta(days=1)
"""How long handlers ``in_order`` wait for a deferred event."""


class WebhookEventQuerySet(FreshQuerySet["WebhookEvent"]):
    """Events by their state, which their calls make, or by what the inbox made of them."""

    def pending(self) -> Self:
        """Events with a call that is unfinished, and those that are deferred."""
        unfinished = _calls().unfinished().values("event")
        deferred = self.model.objects.using(self.db).deferred().values("pk")
        return self.filter(pk__in=unfinished.union(deferred))  # by OR, PostgreSQL reads all events

    def done(self) -> Self:
        """Stored events of which all calls are done or skipped."""
        unfinished = _calls().unfinished().values("event")
        failed = _calls().failed().values("event")
        stored = self.filter(outcome=WebhookEvent.Outcome.STORED)
        return stored.exclude(pk__in=unfinished).exclude(pk__in=failed)

    def failed(self) -> Self:
        """Events of which a call has failed or gave up, and none is unfinished."""
        unfinished = _calls().unfinished().values("event")
        return self.filter(pk__in=_calls().failed().values("event")).exclude(pk__in=unfinished)

    def deferred(self) -> Self:
        """Events kept without their message, to be read later."""
        return self.filter(outcome=WebhookEvent.Outcome.DEFERRED)

    def invalid(self) -> Self:
        """Events that could not be understood, and that nobody has dismissed."""
        return self.filter(outcome=WebhookEvent.Outcome.INVALID, dismissed_at__isnull=True)


def _calls() -> "HandlerCallQuerySet":
    """All calls. Their module imports this one."""
    return apps.get_model("cellcast_django", "HandlerCall").objects.all()


class WebhookEvent(models.Model):
    """One thing Cellcast reported. No run of a handler ever writes to it."""

    class Kind(models.TextChoices):
        REPLY = choice("reply", _("reply"))
        STATUS = choice("status", _("status"))
        OPT_OUT = choice("opt_out", _("opt-out"))
        UNKNOWN = choice("unknown", _("unknown"))

    class Outcome(models.TextChoices):
        STORED = choice("stored", _("stored"))
        DUPLICATE = choice("duplicate", _("duplicate"))
        DEFERRED = choice("deferred", _("deferred"))
        INVALID = choice("invalid", _("invalid"))

    class State(models.TextChoices):
        """How far an event's calls are; each has a QuerySet method of the same name."""

        PENDING = choice("pending", _("pending"))
        DONE = choice("done", _("done"))
        FAILED = choice("failed", _("failed"))

    if TYPE_CHECKING:
        id: int
        message_id: int | None
        calls: "HandlerCallQuerySet"

    PERSONAL = ("contact", "body", "error")
    """What says who the customer is; redaction empties it, and what calls know of it."""

    endpoint = one_of(Endpoint, _("endpoint"), _("The URL that received it, or Cellcast’s API."))
    kind = one_of(Kind, _("kind"), _("What the event reports."))
    outcome = one_of(
        Outcome,
        _("outcome"),
        _(
            "Stored: it reported something new. Duplicate: it had been reported before. "
            "Deferred: kept without its message, to be read later. "
            "Invalid: it could not be understood."
        ),
    )
    error = optional_text(_("error"), _("Why the event could not be understood, or was deferred."))
    # No JSONField: jsonb reorders keys, MariaDB's JSON stops at 31 levels, and some does not parse.
    body = UnicodeTextField(
        _("body"), help_text=_("Its part of what came; bytes that are not text appear as \\xNN.")
    )
    content_type = optional_word(
        _("content type"), _("The Content-Type header, as received."), MAX_CONTENT_TYPE_LENGTH
    )
    cellcast_id = optional_word(_("Cellcast id"), _("The message id in the event."), MAX_ID_LENGTH)
    contact = optional_number(_("contact"), _("The customer’s number, such as +61400000000."))
    message: "models.ForeignKey[Message | None, Message | None]" = models.ForeignKey(
        "Message",
        verbose_name=_("message"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="events",
        help_text=_("The message the event is about."),
    )
    received_as = optional_username(
        _("received as"), _("The username of the secret that it came with.")
    )
    is_test = BooleanField(
        _("test"),
        default=False,
        help_text=_("Whether it came from this app’s own Test Send."),
    )
    received_at = DateTimeField(
        _("received at"), default=timezone.now, help_text=_("When it arrived, or was fetched.")
    )
    next_read_at = optional_time(_("next read at"), _("When a deferred event is read again."))
    dismissed_at = optional_time(_("dismissed at"), _("When a person set an invalid event aside."))

    objects: ClassVar[WebhookEventQuerySet] = WebhookEventQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        default_permissions = ("view",)
        permissions = [
            ("rerun_webhookevent", _("Can run handlers again, and skip their calls")),
            ("reprocess_webhookevent", _("Can read webhook events again")),
            ("dismiss_webhookevent", _("Can dismiss invalid webhook events")),
            ("set_up_webhookevent", _("Can open the setup page, send tests and delete test data")),
            ("export_webhookevent", _("Can export webhook events")),
            # No model of ours is what the page shows: its rows are Django's own log.
            ("view_activity", _("Can view the activity: who did what")),
        ]
        indexes = [
            models.Index(fields=["outcome", "id"], name="cellcast_event_outcome"),
            models.Index(fields=["kind", "received_at"], name="cellcast_event_kind"),
            models.Index(fields=["received_at"], name="cellcast_event_received"),
            # The time is for what is deferred, which an opt-out may stand in.
            models.Index(fields=["contact", "next_read_at"], name="cellcast_event_contact"),
            # Where there are no partial indexes, the first column finds the tests.
            PartialIndex(
                fields=["is_test", "received_at"],
                name="cellcast_event_test",
                where=models.Q(is_test=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.cellcast_id}".strip()  # no number: it may be logged

    @property
    def payload(self) -> dict[str, Any]:
        """The body as Cellcast sent it, for keys that have no field; ``{}`` if it is no object."""
        return read_fields(self.body, self.content_type)

    @property
    def state(self) -> State | None:
        """How far its calls are; ``None`` for a duplicate or invalid event."""
        if self.outcome == self.Outcome.DEFERRED:
            return self.State.PENDING
        if not self.is_stored:
            return None
        related: Any = self.calls  # in the event's own database, as a replica may not have them yet
        calls = related.db_manager(self._state.db).all()
        if any(call.is_unfinished for call in calls):
            return self.State.PENDING
        has_failed = any(call.state in call.FAILED for call in calls)
        return self.State.FAILED if has_failed else self.State.DONE

    @property
    def is_stored(self) -> bool:
        """Whether it reported something new: nothing else has facts."""
        return self.outcome == self.Outcome.STORED


def reported_by(
    related_name: str, help_text: Any
) -> "models.OneToOneField[WebhookEvent | None, WebhookEvent | None]":
    """Return a column for the event that reported a row; empty once that has been pruned."""
    return models.OneToOneField(
        WebhookEvent,
        verbose_name=_("event"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name=related_name,
        help_text=help_text,
    )
